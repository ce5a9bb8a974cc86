"""Findings: the faults and warnings collected while a document is read and judged."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FINDINGS = 500
"""More of each kind than this help nobody; the rest is counted in one last fault."""


@dataclass
class Findings:
    """Collects faults and warnings, each with its place in the document."""

    lines: Mapping[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    dropped: int = 0

    def fault(self, code: str, path: str, **parts: str) -> None:
        """Records what refuses the plan."""
        self._add(self.faults, Fault(code=code, field=path, **parts))  # type: ignore[arg-type]

    def warn(self, code: str, path: str, **parts: str) -> None:
        """Records what is worth knowing but refuses nothing."""
        self._add(self.warnings, Fault(code=code, field=path, **parts))  # type: ignore[arg-type]

    def adopt(self, faults: Iterable[Fault], prefix: str, step: str = "") -> None:
        """Takes over faults that were found inside the part of the document at ``prefix``."""
        for fault in faults:
            path = ".".join(part for part in (prefix, fault.field) if part)
            self._add(self.faults, replace(fault, field=path, step=step or fault.step))

    def all_faults(self) -> tuple[Fault, ...]:
        """Returns the faults, the first in the document first."""
        ordered = tuple(sorted(self.faults, key=lambda fault: fault.line))
        if self.dropped:
            more = Fault(code="TOO_MANY_FAULTS", field="plan", found=f"{self.dropped} more")
            return (*ordered, more)
        return ordered

    def _add(self, where: list[Fault], fault: Fault) -> None:
        if len(where) >= MAX_FINDINGS:
            self.dropped += where is self.faults
            return
        where.append(replace(fault, line=fault.line or self._line(fault.field)))

    def _line(self, path: str) -> int:
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return 0


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Returns ``did you mean X?`` for the closest option; empty when none is close."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]}?" if close else ""


def shown(value: object) -> str:
    """Returns a value as JSON on one line, shortened to 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=repr)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
