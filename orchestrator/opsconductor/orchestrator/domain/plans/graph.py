"""The order of a plan's steps: effective needs, what lies before what, and cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.plans.findings import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.plans.findings import Findings
    from opsconductor.orchestrator.domain.plans.plan import Plan

SHOWN_CYCLES = 20


@dataclass(frozen=True)
class Graph:
    """Which step waits for which, by id."""

    needs: Mapping[str, tuple[str, ...]]
    """Effective needs: in sequential mode each step needs the one before it."""
    before: Mapping[str, int]
    """Per step a bit set over ``position`` of all steps that end before it starts."""
    position: Mapping[str, int]

    def precedes(self, earlier: str, later: str) -> bool:
        """Tells whether ``earlier`` has ended whenever ``later`` starts."""
        return bool(self.before.get(later, 0) >> self.position[earlier] & 1)


def effective_needs(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Returns the needs of each step as its plan's mode means them."""
    if plan.mode == "graph":
        return {step.id: tuple(dict.fromkeys(step.needs)) for step in plan.steps}
    ids = list(dict.fromkeys(step.id for step in plan.steps))
    if plan.mode == "parallel":
        return dict.fromkeys(ids, ())
    return {step_id: (ids[i - 1],) if i else () for i, step_id in enumerate(ids)}


def build_graph(plan: Plan, findings: Findings) -> Graph:
    """Returns the graph of a plan and records unknown needs and cycles."""
    needs = effective_needs(plan)
    position = {step_id: i for i, step_id in enumerate(needs)}
    if plan.mode == "graph":
        _check_known(plan, position, findings)
    known = {
        step_id: tuple(need for need in wanted if need in position)
        for step_id, wanted in needs.items()
    }
    order, cycles = _depth_first(known)
    paths = {step.id: step.path for step in reversed(plan.steps)}
    for cycle in cycles[:SHOWN_CYCLES]:
        findings.fault(
            "PLAN_CYCLE",
            f"{paths[cycle[0]]}.needs",
            step=cycle[0],
            found=" → ".join(cycle),
            expected="needs without a cycle",
        )
    before: dict[str, int] = {}
    for step_id in order:
        before[step_id] = 0
        for need in known[step_id]:
            before[step_id] |= before.get(need, 0) | 1 << position[need]
    return Graph(needs, before, position)


def _check_known(plan: Plan, position: Mapping[str, int], findings: Findings) -> None:
    for step in plan.steps:
        for index, need in enumerate(step.needs):
            if need not in position:
                findings.fault(
                    "UNKNOWN_STEP",
                    f"{step.path}.needs[{index}]",
                    step=step.id,
                    found=need,
                    expected="the id of a step of this plan",
                    hint=did_you_mean(need, position),
                )


def _depth_first(needs: Mapping[str, tuple[str, ...]]) -> tuple[list[str], list[list[str]]]:
    """Returns the steps so that needs come first, and the cycles met on the way."""
    order: list[str] = []
    cycles: list[list[str]] = []
    done: set[str] = set()
    for root in needs:
        if root in done:
            continue
        path = {root: None}
        stack = [(root, iter(needs[root]))]
        while stack:
            step_id, rest = stack[-1]
            need = next((need for need in rest if need not in done), None)
            if need is None:
                stack.pop()
                path.pop(step_id)
                done.add(step_id)
                order.append(step_id)
            elif need in path:
                ids = list(path)
                cycles.append([*ids[ids.index(need) :], need])
            else:
                path[need] = None
                stack.append((need, iter(needs[need])))
    return order, cycles
