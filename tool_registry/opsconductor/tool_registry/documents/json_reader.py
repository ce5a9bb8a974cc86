"""Reads JSON documents by the same rules as YAML ones."""

from __future__ import annotations

import json
from typing import Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.documents.limits import Refused, check_depth, too_deep
from opsconductor.tool_registry.documents.yaml_scalars import NumberFault, plain_value, whole_number


class JsonReader:
    """Reads a JSON document; JSON is YAML, but its escapes and tabs follow JSON's own rules."""

    def __init__(self, too_large: str) -> None:
        self._too_large = too_large
        self._faults: list[Fault] = []

    def read(self, text: str) -> tuple[dict[str, Any] | list[Any], list[Fault]] | None:
        """Returns the value and faults, None when the text is not JSON."""
        try:
            value = json.loads(
                text,
                object_pairs_hook=self._object,
                parse_int=self._integer,
                parse_float=self._float,
                parse_constant=self._constant,
            )
        except RecursionError as exc:
            raise Refused(too_deep(self._too_large, 0)) from exc
        except ValueError:
            return None
        check_depth(value, self._too_large)
        return value, self._faults

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                self._faults.append(Fault(code="DUPLICATE_KEY", field=key, found=f"{key} twice"))
            result[key] = value
        return result

    def _integer(self, text: str) -> Any:
        return self._number(text, whole=True)

    def _float(self, text: str) -> Any:
        return self._number(text, whole=False)

    def _constant(self, text: str) -> None:
        self._faults.append(Fault(code="NUMBER", found=text, expected="a finite number"))

    def _number(self, text: str, *, whole: bool) -> Any:
        try:
            return whole_number(text, 10) if whole else plain_value(text)
        except NumberFault as exc:
            self._faults.append(Fault(code="NUMBER", found=text[:40], expected=exc.expected))
            return None
