"""The table: fault, injections, violations, and what that proves."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checks.violation import Violation
    from chaos.evidence import Evidence


class Tally:
    """Adds up runs."""

    def __init__(self) -> None:
        self.injections: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.violations: dict[str, list[Violation]] = defaultdict(list)
        self.plans = self.attempts = self.changes = self.unknown = 0
        self.output_bytes = 0

    def add(self, evidence: Evidence, violations: Sequence[Violation]) -> None:
        """Takes a run in; each violation counts for the round its execution began in."""
        faults: dict[int, str] = {}
        for entry in evidence.happened("injected"):
            faults[entry["round"]] = entry["fault"]
            (self.injections if entry["done"] else self.missed)[entry["fault"]] += 1
        for violation in violations:
            number = round_of(violation, evidence)
            self.violations[faults.get(number, "the whole run")].append(violation)
        self._count(evidence)

    def _count(self, evidence: Evidence) -> None:
        self.plans += len(evidence.stories)
        self.attempts += len(evidence.attempts)
        for row in evidence.attempts.values():
            if evidence.changes(row["execution_id"], row["step_id"]):
                self.changes += 1
                self.unknown += row["state"] == "unknown"
        self.output_bytes += sum(
            len(data) for chunks in evidence.output.values() for _, data in chunks
        )

    def table(self) -> str:
        """Returns the table and what follows from it."""
        names = sorted({*self.injections, *self.missed, *self.violations})
        lines = [f"{'fault':44} {'injections':>10} {'violations':>10} {'95 % bound':>10}"]
        lines += [self._line(name) for name in names]
        total = sum(self.injections.values())
        wrong = sum(len(found) for found in self.violations.values())
        lines.append(f"{'all':44} {total:10} {wrong:10} {_bound(total, wrong):>10}")
        share = self.unknown / self.changes if self.changes else 0.0
        lines.append(
            f"{self.plans} plans, {self.attempts} attempts, {self.changes} of changes: "
            f"{self.unknown} unknown ({share:.1%}); {self.output_bytes:,} bytes of output compared"
        )
        return "\n".join(lines)

    def _line(self, name: str) -> str:
        count, wrong = self.injections[name], len(self.violations.get(name, ()))
        bound = _bound(count, wrong) if count else f"missed {self.missed[name]}"
        return f"{name:44} {count:10} {wrong:10} {bound:>10}"


def round_of(violation: Violation, evidence: Evidence) -> int:
    """Returns the round that shows a violation: in which its execution began, or its moment."""
    for entry in evidence.happened("submitted"):
        if entry["execution"] == violation.execution_id:
            return int(entry["round"])
    began = evidence.happened("round")
    return max((entry["round"] for entry in began if entry["wall"] <= violation.time), default=0)


def _bound(count: int, wrong: int) -> str:
    """Returns the rule of three: no violation in n bounds the probability by 3/n."""
    if wrong or not count:
        return "-"
    return f"{min(1.0, 3 / count):.2%}"
