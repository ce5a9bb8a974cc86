"""The undo of a step: what its author asks, else what its tool defines; in words for approvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.plans.rendering import command_text
from opsconductor.orchestrator.domain.plans.risk import READ_ONLY

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.bind import Binder, BoundCall
    from opsconductor.orchestrator.domain.plans.plan import Step


@dataclass(frozen=True)
class BoundUndo:
    """How a step will be undone."""

    strategy: str
    """``none``, ``not_needed``, ``manual``, ``call`` or ``state``."""
    text: str = ""
    """What a person has to do, or why nothing is possible or needed."""
    call: BoundCall | None = None

    def lines(self, tool: str) -> tuple[str, ...]:
        """Returns the undo as lines for people; ``none`` when there is none."""
        if self.strategy == "call" and self.call is not None:
            where = f" on {self.call.target['name']}" if self.call.target else ""
            return (f"{self.call.tool.name}{where}: {command_text(self.call)}",)
        if self.strategy == "state":
            return (f"restore what {tool} found before the change",)
        if self.strategy == "manual":
            return tuple(f"by hand: {line}" for line in self.text.splitlines()) or ("by hand",)
        if self.strategy == "not_needed":
            return (f"not needed: {self.text or 'it changes nothing'}",)
        return ("none",)


def bind_undo(binder: Binder, step: Step, bound: BoundCall) -> BoundUndo:
    """Returns the undo of a step; a faulty one is recorded and counts as none."""
    ask = step.undo
    declared = bound.tool.undo
    if ask is None:
        if bound.risk.risk_class == READ_ONLY:
            return BoundUndo("not_needed")
        if declared.strategy == "call":
            call = binder.undo_of(bound, step.path, step.id)
            return BoundUndo("call", call=call) if call else BoundUndo("none")
        return BoundUndo(declared.strategy, declared.reason)
    if ask.strategy == "state" and declared.strategy != "state":
        binder.findings.fault(
            "UNDO_NOT_SUPPORTED",
            f"{step.path}.undo",
            step=step.id,
            found="state",
            expected=f"none, manual or a tool call: {bound.tool.name} captures no state",
        )
        return BoundUndo("none")
    if ask.call is not None:
        call = binder.undo_call(ask.call, bound, step.id)
        return BoundUndo("call", call=call) if call else BoundUndo("none")
    return BoundUndo(ask.strategy, ask.manual)
