"""Why an order is not carried out."""

from __future__ import annotations


class Refusal(Exception):
    """The order is not carried out; provably nothing was done."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")
