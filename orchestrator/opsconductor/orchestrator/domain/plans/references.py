"""References in plans: ``${{ … }}`` in inputs and names in conditions, and what they may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import did_you_mean
from opsconductor.tool_registry import expressions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.plans.findings import Findings
    from opsconductor.orchestrator.domain.plans.graph import Graph
    from opsconductor.orchestrator.domain.plans.plan import Plan
    from opsconductor.tool_registry.model import Tool

STEP_FACTS = ("output", "status")


@dataclass(frozen=True)
class Reach:
    """Which steps' results a place in the plan can see."""

    graph: Graph | None
    """None where no step's result may be used."""
    step_id: str = ""

    def fault(self, name: str) -> tuple[str, str, str] | None:
        """Returns (code, expected, hint) when a step's result cannot be used here."""
        if self.graph is None:
            expected = "values known before the plan starts"
            return "LATE_BOUND_NOT_ALLOWED", expected, "only a step's own inputs may use results"
        if name not in self.graph.position:
            hint = did_you_mean(name, self.graph.position)
            return "UNKNOWN_STEP", "the id of a step of this plan", hint
        if not self.graph.precedes(name, self.step_id):
            expected = "a step that has ended before this one starts"
            hint = "a step cannot use its own result" if name == self.step_id else ""
            return "LATE_BOUND_UNCONSTRAINED", expected, hint or f"add {name} to its needs"
        return None


BEFORE_ALL = Reach(None)
"""What calls beside a step see: nothing that is known later."""


def names_output(inputs: Mapping[str, Any]) -> bool:
    """Tells whether an undo takes something from what its step puts out."""
    try:
        return any(root == "output" for root, _ in expressions.references(dict(inputs)))
    except expressions.ExpressionError:
        return False


def is_left_out(value: Any, tool: Tool, inputs: Mapping[str, Any]) -> bool:
    """Tells whether a value stands for an optional input that a call of the tool does without."""
    return any(
        root == "inputs" and path and path[0] in tool.properties and path[0] not in inputs
        for root, path in expressions.references(value)
    )


def check_references(
    inputs: Mapping[str, Any],
    path: str,
    step_id: str,
    reach: Reach,
    plan: Plan,
    target: Mapping[str, Any] | None,
    findings: Findings,
) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Checks every reference of a call's inputs.

    Returns:
        The steps each late-bound input waits for, and the inputs with wrong references.
    """
    late: dict[str, tuple[str, ...]] = {}
    wrong: set[str] = set()
    for name, value in inputs.items():
        try:
            found = expressions.references(value)
        except expressions.ExpressionError as exc:
            findings.fault("EXPRESSION", f"{path}.{name}", step=step_id, found=str(exc))
            wrong.add(name)
            continue
        for reference in sorted(found, key=expressions.reference_text):
            fault = _fault(reference, reach, plan, target)
            if fault:
                code, text, expected, hint = fault
                findings.fault(
                    code, f"{path}.{name}", step=step_id, found=text, expected=expected, hint=hint
                )
                wrong.add(name)
        steps = {str(below[0]) for root, below in found if root == "steps" and below}
        if steps:
            late[name] = tuple(sorted(steps))
    return late, frozenset(wrong)


def check_condition(text: str, path: str, reach: Reach, findings: Findings) -> None:
    """Checks a step's condition: its syntax, its names, and the steps it reads."""
    wrong = expressions.check_expression(text, roots=("inputs", "steps", "target"))
    if wrong:
        findings.fault(
            "EXPRESSION",
            path,
            step=reach.step_id,
            found=wrong,
            expected="a CEL condition over inputs, steps and target",
        )
        return
    for root, below in sorted(expressions.expression_references(text), key=str):
        if root != "steps" or not below:
            continue
        fault = reach.fault(str(below[0]))
        if fault:
            code, expected, hint = fault
            code = "STEP_NOT_BEFORE" if code == "LATE_BOUND_UNCONSTRAINED" else code
            findings.fault(
                code,
                path,
                step=reach.step_id,
                found=expressions.reference_text((root, below)),
                expected=expected,
                hint=hint,
            )


def _fault(
    reference: expressions.Reference, reach: Reach, plan: Plan, target: Mapping[str, Any] | None
) -> tuple[str, str, str, str] | None:
    """Returns (code, found, expected, hint) of a reference that leads nowhere."""
    root, below = reference
    text = expressions.reference_text(reference)
    if root == "steps":
        return _step_fault(text, below, reach)
    if root == "item":
        return "NOT_SUPPORTED", text, "", "for_each is not supported yet"
    if root not in ("inputs", "target"):
        return "REFERENCE", text, "inputs, steps or target", did_you_mean(root, _ROOTS)
    if root == "target" and target is None:
        return "REFERENCE", text, "a target: this call has none", ""
    scope = {"inputs": dict(plan.inputs), "target": dict(target or {})}
    try:
        expressions.look_up(reference, scope)
    except expressions.ExpressionError as exc:
        known = plan.inputs if root == "inputs" else target or {}
        hint = did_you_mean(str(below[0]), known) if len(below) == 1 else ""
        code = "UNKNOWN_INPUT" if root == "inputs" else "REFERENCE"
        return code, f"{text}: {exc}", "a value that exists", hint
    return None


_ROOTS = ("inputs", "steps", "target")


def _step_fault(
    text: str, below: expressions.Path, reach: Reach
) -> tuple[str, str, str, str] | None:
    if len(below) < 2 or below[1] not in STEP_FACTS:
        return "REFERENCE", text, "steps.ID.output… or steps.ID.status", ""
    fault = reach.fault(str(below[0]))
    return (fault[0], text, fault[1], fault[2]) if fault else None
