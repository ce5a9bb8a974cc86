"""Binds the tool calls of a plan: tool found, target and references resolved, inputs typed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.orchestrator.domain.plans.references import (
    BEFORE_ALL,
    check_references,
    is_left_out,
)
from opsconductor.orchestrator.domain.plans.rendering import render_problem
from opsconductor.orchestrator.domain.plans.segments import NO_SEGMENTS, SegmentsMap
from opsconductor.orchestrator.domain.plans.targets import check_target, resolve_target
from opsconductor.tool_registry import expressions
from opsconductor.tool_registry.inputs import check_inputs, is_constrained
from opsconductor.tool_registry.risk.assess import CallRisk, assess
from opsconductor.tool_registry.risk.dry_runs import assess_dry_run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from opsconductor.orchestrator.domain.plans.findings import Findings
    from opsconductor.orchestrator.domain.plans.plan import Plan, Step, ToolCall
    from opsconductor.orchestrator.domain.plans.references import Reach
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.registry import Registry

TARGET_PARAMETERS = ("target_host", "target")
"""Names under which plans of other makers give the target among the inputs."""


@dataclass(frozen=True)
class BoundCall:
    """A tool call with everything resolved that can be before anything runs."""

    tool: Tool
    inputs: Mapping[str, Any]
    """Typed, defaults filled; late-bound inputs keep their text."""
    target: Mapping[str, Any] | None
    late: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Steps whose output an input waits for, by input."""
    success: str = ""
    section: Literal["command", "dry_run"] = "command"

    @property
    def target_name(self) -> str:
        """The target as named in the plan; empty without one."""
        return str(self.target["name"]) if self.target else ""

    @cached_property
    def risk(self) -> CallRisk:
        """The risk of the call by itself."""
        if self.section == "dry_run":
            return assess_dry_run(self.tool, self.inputs, self.target)
        return assess(self.tool, self.inputs)

    @property
    def scope(self) -> dict[str, Any]:
        """What templates about this call may refer to."""
        return {"inputs": dict(self.inputs), "target": dict(self.target or {})}


@dataclass(frozen=True)
class Binder:
    """Binds calls of one plan against the registry and the inventory."""

    plan: Plan
    registry: Registry
    assets: Mapping[str, Mapping[str, Any]]
    findings: Findings
    segments: SegmentsMap = NO_SEGMENTS

    def step(self, step: Step, reach: Reach) -> BoundCall | None:
        """Returns a step's own call bound; None when its tool or target cannot be resolved."""
        return self._bind(
            step.tool, step.target, "", step.inputs, step.success, step.path, step.id, reach
        )

    def call(self, call: ToolCall, own: str, step_id: str) -> BoundCall | None:
        """Returns a call beside a step bound; it acts on ``own`` when it names no target."""
        return self._bind(
            call.tool, call.target, own, call.inputs, call.success, call.path, step_id, BEFORE_ALL
        )

    def undo_call(self, call: ToolCall, undone: BoundCall, step_id: str) -> BoundCall | None:
        """Returns the undo a plan's author gives; it may name what the step puts out."""
        path = f"{call.path}.inputs"
        try:
            outputs = expressions.output_paths(call.inputs)
        except expressions.ExpressionError as exc:
            self.findings.fault("EXPRESSION", path, step=step_id, found=str(exc))
            return None
        rest = replace(
            call, inputs={name: call.inputs[name] for name in call.inputs if name not in outputs}
        )
        bound = self._bind(
            *(rest.tool, rest.target, undone.target_name, rest.inputs, rest.success, rest.path),
            *(step_id, BEFORE_ALL, outputs),
        )
        if bound is None or not outputs:
            return bound
        if _segment(bound) != _segment(undone):
            self.findings.fault(
                "UNDO_NOT_SUPPORTED",
                path,
                step=step_id,
                found="an undo in another segment than the step whose output it needs",
                expected="an undo the agent can carry out that saw the output",
            )
            return None
        return bound if self._limited(bound.tool, outputs, path, step_id) else None

    def undo_of(self, undone: BoundCall, path: str, step_id: str) -> BoundCall | None:
        """Returns the call a tool's definition gives as the undo of one of its calls."""
        declared = undone.tool.undo
        tool = self._tool(declared.tool, f"{path}.undo", step_id)
        if tool is None:
            return None
        if undone.late:
            names = ", ".join(undone.late)
            self.findings.fault(
                "LATE_BOUND_NOT_ALLOWED",
                f"{path}.undo",
                step=step_id,
                found=f"the tool's own undo would use {names}, known only when the step starts",
                expected="an undo of the step's own",
            )
            return None
        try:
            late = expressions.output_paths(declared.inputs)
            inputs = {
                name: late.get(name) or expressions.interpolate(value, undone.scope)
                for name, value in declared.inputs.items()
                if not is_left_out(value, undone.tool, undone.inputs)
            }
        except expressions.ExpressionError as exc:
            self.findings.fault(
                "UNDO_NOT_SUPPORTED",
                f"{path}.undo",
                step=step_id,
                found=f"the tool's own undo cannot be filled in: {exc}",
                expected="an undo of the step's own",
            )
            return None
        typed, faults = check_inputs(tool, inputs, late=late)
        self.findings.adopt(faults, f"{path}.undo", step_id)
        if faults or not self._limited(tool, late, f"{path}.undo", step_id):
            return None
        target = _fitting(tool, undone.target)
        return BoundCall(tool, typed, target, dict.fromkeys(sorted(late), ()))

    def _limited(self, tool: Tool, late: Collection[str], path: str, step_id: str) -> bool:
        """Refuses an undo that would take any text at all from what its step put out."""
        free = [name for name in late if not is_constrained(tool.properties.get(name, {}))]
        for name in free:
            self.findings.fault(
                "LATE_BOUND_UNCONSTRAINED",
                path,
                step=step_id,
                found=f"{name} of {tool.name} takes any text",
                expected="a parameter limited by enum, pattern, format or to a number",
            )
        return not free

    def dry_run_of(self, call: BoundCall, path: str, step_id: str) -> BoundCall | None:
        """Returns what only tells what a call would do; None where its tool has no such thing."""
        if call.tool.dry_run is not None:
            return self._renderable(replace(call, section="dry_run", success=""), path, step_id)
        self.findings.fault(
            "DRY_RUN_NOT_SUPPORTED",
            f"{path}.tool",
            step=step_id,
            found=f"{call.tool.name}, which changes things and has no dry run",
            expected="a tool that only reads, or whose definition has a dry_run section",
            hint="`opsctl plan` shows the command without running anything",
        )
        return None

    def _bind(
        self,
        tool_name: str,
        named: str,
        inherited: str,
        inputs: Mapping[str, Any],
        success: str,
        path: str,
        step_id: str,
        reach: Reach,
        outputs: Mapping[str, str] = MappingProxyType({}),
    ) -> BoundCall | None:
        tool = self._tool(tool_name, path, step_id)
        inputs, lifted = self._lift_target(tool, inputs, named, path, step_id)
        name = self._target_name(named or lifted, path, step_id)
        target = self._target(tool, name, inherited, path, step_id)
        late, wrong = check_references(
            inputs, f"{path}.inputs", step_id, reach, self.plan, target, self.findings
        )
        self._check_success(success, path, step_id)
        if tool is None:
            return None
        scope = {"inputs": dict(self.plan.inputs), "target": dict(target or {})}
        bound = {
            name: value if name in wrong else _bound(value, scope, late=name in late)
            for name, value in inputs.items()
        }
        # What could not be resolved is passed over: the other inputs are judged all the same.
        typed, faults = check_inputs(tool, {**bound, **outputs}, late=wrong.union(late, outputs))
        self.findings.adopt(faults, path, step_id)
        if faults or wrong:
            return None
        late = {**late, **dict.fromkeys(sorted(outputs), ())}
        return self._renderable(BoundCall(tool, typed, target, late, success), path, step_id)

    def _tool(self, name: str, path: str, step_id: str) -> Tool | None:
        tool = self.registry.find(name) if name else None
        if tool is None and name:
            close = self.registry.suggest(name)
            self.findings.fault(
                "UNKNOWN_TOOL",
                f"{path}.tool",
                step=step_id,
                found=name,
                expected="a tool of the registry",
                hint=f"did you mean {' or '.join(close[:3])}?"
                if close
                else "see opsctl tools list",
            )
        return tool

    def _lift_target(
        self, tool: Tool | None, inputs: Mapping[str, Any], named: str, path: str, step_id: str
    ) -> tuple[Mapping[str, Any], str]:
        """Takes the target out of the inputs, where plans of other makers put it."""
        for key in TARGET_PARAMETERS:
            value = inputs.get(key)
            if tool is None or not isinstance(value, str) or key in tool.properties:
                continue
            if named and named != value:
                self.findings.fault(
                    "TARGET_CONFLICT",
                    f"{path}.inputs.{key}",
                    step=step_id,
                    found=f"{value}, but the target is {named}",
                    expected="one target",
                )
            return {name: item for name, item in inputs.items() if name != key}, value
        return inputs, ""

    def _target_name(self, name: str, path: str, step_id: str) -> str:
        if "${{" not in name:
            return name
        try:
            value = expressions.interpolate(name, {"inputs": dict(self.plan.inputs)})
        except expressions.ExpressionError as exc:
            self.findings.fault("REFERENCE", f"{path}.target", step=step_id, found=str(exc))
            return ""
        return value if isinstance(value, str) else str(value)

    def _target(
        self, tool: Tool | None, named: str, inherited: str, path: str, step_id: str
    ) -> Mapping[str, Any] | None:
        where = f"{path}.target"
        name = named or self._target_name(inherited, path, step_id)
        takes = tool is None or tool.requires_target or tool.target_type != "none"
        if not takes and named:
            self.findings.fault(
                "TARGET_NOT_TAKEN",
                where,
                step=step_id,
                found=named,
                expected=f"no target: {tool.name if tool else 'it'} takes none",
            )
        if not takes:
            return None
        if not name:
            if tool is not None and tool.requires_target:
                self.findings.fault(
                    "MISSING_TARGET",
                    where,
                    step=step_id,
                    expected=f"a target: {tool.name} acts on one",
                    hint="name an asset, an address or a host",
                )
            return None
        if named:
            check_target(name, where, step_id, self.assets, self.findings)
        return resolve_target(name, self.assets, self.segments)

    def _renderable(self, call: BoundCall, path: str, step_id: str) -> BoundCall | None:
        """Refuses a call whose command cannot be made, where that is known before it starts."""
        problem = render_problem(call)
        if not problem:
            return call
        self.findings.fault(
            "NOT_RENDERABLE",
            path,
            step=step_id,
            found=problem,
            expected=f"a target and inputs {call.tool.name} can work with",
            hint=""
            if call.target
            else "name a target: `target:` in a plan, --target in opsctl run",
        )
        return None

    def _check_success(self, success: str, path: str, step_id: str) -> None:
        if not success:
            return
        wrong = expressions.check_expression(success, roots=("output", "exit_code", "inputs"))
        if wrong:
            self.findings.fault(
                "EXPRESSION",
                f"{path}.success",
                step=step_id,
                found=wrong,
                expected="a CEL condition over output, exit_code and inputs",
            )


def _bound(value: Any, scope: Mapping[str, Any], *, late: bool) -> Any:
    return expressions.interpolate(value, scope, keep=("steps",) if late else ())


def _segment(call: BoundCall) -> str:
    return str((call.target or {}).get("segment") or "")


def _fitting(tool: Tool, target: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return target if tool.requires_target or tool.target_type != "none" else None
