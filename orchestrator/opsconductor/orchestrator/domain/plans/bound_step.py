"""A step with its calls bound and its risk computed: validation judges it, compile writes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.plans.plan import Step, ToolCall
from opsconductor.orchestrator.domain.plans.references import names_output
from opsconductor.orchestrator.domain.plans.risk import READ_ONLY, StepRisk, step_risk
from opsconductor.orchestrator.domain.plans.undo import BoundUndo, bind_undo

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.bind import Binder, BoundCall
    from opsconductor.orchestrator.domain.plans.references import Reach


@dataclass(frozen=True)
class BoundStep:
    """A step of which every part is known."""

    step: Step
    call: BoundCall
    undo: BoundUndo
    precheck: BoundCall | None
    verify: BoundCall | None
    environment: str
    """Of the target, else of the plan; empty when neither says."""

    @cached_property
    def risk(self) -> StepRisk:
        """The computed risk."""
        undo = self.undo.call
        return step_risk(
            self.call.risk,
            undo=undo.risk if undo else None,
            undo_strategy=self.undo.strategy,
            irreversible=self.step.irreversible,
            environment=self.environment,
        )


def bind_step(binder: Binder, step: Step, reach: Reach) -> BoundStep | None:
    """Returns a step bound; None when its own call cannot be. Faults of all parts are recorded."""
    call = binder.step(step, reach)
    own = call.target_name if call else step.target
    precheck = _reading(binder, step.precheck, "precheck", own, step.id)
    verify = _reading(binder, step.verify, "verify", own, step.id)
    if call is None:
        if step.undo and step.undo.call and not names_output(step.undo.call.inputs):
            binder.call(step.undo.call, own, step.id)
        return None
    if (step.dry_run or binder.plan.dry_run) and call.risk.risk_class != READ_ONLY:
        return _dry_run(binder, step, call, precheck)
    undo = bind_undo(binder, step, call)
    return BoundStep(step, call, undo, precheck, verify, _environment(binder, call))


def bind_rollback(binder: Binder, call: ToolCall, step_id: str) -> BoundStep | None:
    """Returns a plan-level rollback call as a step of its own."""
    bound = binder.call(call, "", "")
    if bound is None:
        return None
    step = Step(
        id=step_id, tool=call.tool, target=call.target, inputs=call.inputs, success=call.success
    )
    undo = BoundUndo("not_needed", "it is an undo itself")
    return BoundStep(step, bound, undo, None, None, _environment(binder, bound))


def _dry_run(
    binder: Binder, step: Step, call: BoundCall, precheck: BoundCall | None
) -> BoundStep | None:
    """Returns a step that only asks; what follows a change falls away, as does its approval."""
    asking = binder.dry_run_of(call, step.path, step.id)
    if asking is None:
        return None
    harmless = asking.risk.risk_class == READ_ONLY
    rest = replace(
        step,
        success="",
        irreversible=False,
        approval=None if harmless else step.approval,
    )
    undo = BoundUndo("not_needed", "a dry run leaves nothing to undo")
    return BoundStep(rest, asking, undo, precheck, None, _environment(binder, asking))


def _environment(binder: Binder, call: BoundCall) -> str:
    return str((call.target or {}).get("environment") or binder.plan.environment)


def _reading(
    binder: Binder, call: ToolCall | None, what: str, own: str, step_id: str
) -> BoundCall | None:
    """Binds a precheck or verify call, which may only read."""
    if call is None:
        return None
    bound = binder.call(call, own, step_id)
    if bound is not None and bound.risk.risk_class != READ_ONLY:
        binder.findings.fault(
            "NOT_READ_ONLY",
            f"{call.path}.tool",
            step=step_id,
            found=f"{bound.tool.name}, which is {bound.risk.risk_class}",
            expected=f"a call that only reads, because a {what} is not approved by itself",
        )
        return None
    return bound
