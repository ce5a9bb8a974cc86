"""Checks a tool beyond its schema: values stay data, inputs are bounded, examples hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.expressions import (
    ExpressionError,
    check_expression,
    output_paths,
    references,
)
from opsconductor.tool_registry.formats import FORMATS
from opsconductor.tool_registry.inputs import check_inputs
from opsconductor.tool_registry.lint.dry_run import lint_dry_run
from opsconductor.tool_registry.lint.output import lint_output
from opsconductor.tool_registry.lint.template import lint_templates
from opsconductor.tool_registry.rendering.render import HttpRequest, RenderError, as_data, render
from opsconductor.tool_registry.risk.assess import ORDER, assess
from opsconductor.tool_registry.risk.dry_runs import assess_dry_run
from opsconductor.tool_registry.risk.structured import judge_rendered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opsconductor.tool_registry.model import Example, Success, Tool
    from opsconductor.tool_registry.rendering.render import Rendered

_MAX_TEXT = 65_536
RESERVED = "target"
"""No parameter may have this name: in a call and in exports it is where the tool runs."""
_CARRIED: Mapping[str, frozenset[str]] = {
    "command": frozenset({"argv", "script", "powershell"}),
    "local-command": frozenset({"argv", "script"}),
    "ssh": frozenset({"argv", "script"}),
    "winrm": frozenset({"argv", "script", "powershell"}),
    "http": frozenset({"http"}),
    "inventory": frozenset({"internal"}),
    "database": frozenset({"sql", "redis"}),
    "database-command": frozenset({"argv", "script"}),
    "aws-cli": frozenset({"argv"}),
    "aws-sdk": frozenset({"aws"}),
    "communication": frozenset({"message"}),
    "snmp": frozenset({"snmp"}),
}
"""Kinds of templates that each method of ours takes; methods of others take what they like."""


def lint_tool(tool: Tool) -> list[Fault]:
    """Returns every fault of a tool that follows the schema; none means it may be used."""
    return [
        *_lint_parameters(tool),
        *lint_templates(tool),
        *_lint_effects(tool),
        *lint_dry_run(tool),
        *_lint_execution(tool),
        *_lint_texts(tool),
        *lint_output(tool),
        *(fault for example in tool.examples for fault in _lint_example(tool, example)),
    ]


def _lint_parameters(tool: Tool) -> Iterator[Fault]:
    for name, parameter in tool.properties.items():
        yield from _lint_parameter(parameter, f"parameters.properties.{name}")
    if RESERVED in tool.properties:
        yield _fault("parameters.properties", RESERVED, "another name: it says where a step runs")
    for name in sorted(tool.required - set(tool.properties)):
        yield _fault("parameters.required", name, "a name of parameters.properties")
    if len(tool.examples) < 2:
        yield _fault("examples", f"{len(tool.examples)}", "at least two examples")
    defaults = {
        name: parameter["default"]
        for name, parameter in tool.properties.items()
        if "default" in parameter
    }
    missing = {"MISSING_INPUT"}
    for fault in check_inputs(tool, defaults)[1]:
        if fault.code not in missing:
            yield _fault(f"{fault.field} default", fault.found, fault.expected)


def _lint_parameter(parameter: Mapping[str, Any], path: str) -> Iterator[Fault]:
    kind = parameter["type"]
    if kind == "string":
        yield from _lint_text_parameter(parameter, path)
    elif kind in ("integer", "number") and "enum" not in parameter:
        if "minimum" not in parameter or "maximum" not in parameter:
            yield _fault(path, "a number without bounds", "minimum and maximum")
    elif kind == "array":
        if "maxItems" not in parameter or "items" not in parameter:
            yield _fault(path, "a list without bounds", "items and maxItems")
        else:
            yield from _lint_parameter(parameter["items"], f"{path}.items")
    elif kind == "object":
        for name, member in parameter.get("properties", {}).items():
            yield from _lint_parameter(member, f"{path}.{name}")


def _lint_text_parameter(parameter: Mapping[str, Any], path: str) -> Iterator[Fault]:
    form = parameter.get("format")
    if form is not None and form not in FORMATS:
        yield _fault(path, f"format {form}", "one of " + ", ".join(FORMATS))
    elif not {"enum", "format", "pattern", "maxLength"} & set(parameter):
        yield _fault(path, "a text without bounds", "enum, format, pattern or maxLength")
    elif form is not None and not FORMATS[form].constrained and "maxLength" not in parameter:
        yield _fault(path, f"format {form} without a length", "maxLength")
    if parameter.get("maxLength", 0) > _MAX_TEXT:
        yield _fault(path, f"maxLength {parameter['maxLength']}", f"at most {_MAX_TEXT}")
    if "pattern" in parameter:
        yield from _lint_regex(parameter["pattern"], path)
        if re.search(r"(?<!\\)[$^]", parameter["pattern"]):
            yield _fault(path, "^ or $ in a pattern", "none: the whole value is matched")


def _lint_effects(tool: Tool) -> Iterator[Fault]:
    undo = tool.undo
    if tool.annotations.read_only:
        if tool.annotations.destructive:
            yield _fault("annotations", "read_only and destructive", "one of them")
        if undo.strategy != "not_needed" or tool.capture:
            yield _fault("undo", "an undo or capture of a read-only tool", "none")
        if tool.probe is not None:
            yield _fault("probe", "a probe of a read-only tool", "none")
    elif undo.strategy in ("none", "not_needed", "manual") and not undo.reason:
        yield _fault("undo", "nothing", "an undo, or a reason why there is none")
    yield from _lint_undo(tool)
    if tool.risk_from is not None and tool.risk_from.parameter not in tool.properties:
        yield _fault("risk_from.parameter", tool.risk_from.parameter, "a parameter")
    scripted = tool.risk_from is not None and tool.risk_from.parser == "script"
    if scripted and "script" not in tool.command:
        yield _fault("risk_from.parser", "script", "a command that is a script of the caller")
    if tool.retry is not None and tool.retry["max_attempts"] > 1 and not _may_repeat(tool):
        yield _fault(
            "retry", "attempts of a tool that is not idempotent", "on: [unreachable, throttled]"
        )


def _lint_undo(tool: Tool) -> Iterator[Fault]:
    undo = tool.undo
    wanted = {"call": bool(undo.tool), "state": undo.command is not None}
    if not wanted.get(undo.strategy, True):
        yield _fault("undo", undo.strategy, "its tool (call) or its command (state)")
    if undo.strategy == "state" and tool.capture is None:
        yield _fault("capture", "nothing", "what strategy state restores")


def _may_repeat(tool: Tool) -> bool:
    classes = set((tool.retry or {}).get("on", ()))
    return (
        tool.annotations.read_only
        or tool.annotations.idempotent
        or bool(classes and classes <= {"unreachable", "throttled"})
    )


def _lint_execution(tool: Tool) -> Iterator[Fault]:
    if tool.requires_target and tool.target_type == "none":
        yield _fault("execution", "a required target of type none", "another target_type")
    if tool.requires_capabilities and not (tool.elevate or tool.elevated_cases):
        yield _fault("requires.capabilities", "a tool that is not elevated", "elevate: sudo")
    carried = _CARRIED.get(tool.method)
    sections = [("command", tool.command)]
    sections += [("dry_run.command", tool.dry_run.command)] if tool.dry_run else []
    sections += [("capture.command", tool.capture.command)] if tool.capture else []
    sections += [("undo.command", tool.undo.command)] if tool.undo.command else []
    for path, template in sections:
        for case in template["cases"].values() if "by" in template else [template]:
            if carried is not None and not carried & set(case):
                yield _fault(path, ", ".join(case), f"{' or '.join(sorted(carried))}")
        if "by" in template and template["default"] not in template["cases"]:
            yield _fault(f"{path}.default", template["default"], "one of the cases")
    cases = {name for _, template in sections for name in template.get("cases", ())}
    for name in sorted(tool.elevated_cases - cases):
        yield _fault("execution.elevate", name, "sudo, or cases of its commands")
    if tool.timeout.total_seconds() < 1 or tool.timeout.total_seconds() > 86_400:
        yield _fault("timeout", str(tool.timeout), "1s to 24h")


def _lint_texts(tool: Tool) -> Iterator[Fault]:
    yield from _lint_success(tool.success, "success")
    if tool.dry_run is not None:
        yield from _lint_success(tool.dry_run.success, "dry_run.success")
        yield from _lint_regex(tool.dry_run.output.get("pattern", ""), "dry_run.output.pattern")
    patterns = {"output.pattern": tool.output.get("pattern", "")}
    patterns |= {
        f"risk_rules[{number}].when.matches": rule["when"].get("matches", "")
        for number, rule in enumerate(tool.risk_rules)
    }
    for path, pattern in patterns.items():
        yield from _lint_regex(pattern, path)
    for number, rule in enumerate(tool.risk_rules):
        if rule["when"]["param"] not in tool.properties:
            yield _fault(f"risk_rules[{number}].when.param", rule["when"]["param"], "a parameter")
    for name in tool.estimate.per if tool.estimate else ():
        if tool.properties.get(name, {}).get("type") not in ("integer", "number", "array"):
            yield _fault("estimate.per", name, "a parameter that is a number or list")
    yield from _lint_references(tool.summary, {"inputs", "output", "target"}, "summary")
    yield from _lint_references(tool.undo.inputs, {"inputs", "target", "output"}, "undo.inputs")
    if tool.probe is not None:
        yield from _lint_references(tool.probe.inputs, {"inputs"}, "probe.inputs")
        for name in sorted(_inputs_named(tool.probe.inputs) - set(tool.properties)):
            yield _fault("probe.inputs", f"inputs.{name}", "a parameter of this tool")
    try:
        output_paths(tool.undo.inputs)
    except ExpressionError as exc:
        yield _fault("undo.inputs", str(exc), "${{ output.path }}")


def _lint_success(success: Success, path: str) -> Iterator[Fault]:
    if success.expression:
        problem = check_expression(success.expression, roots=("output", "exit_code", "inputs"))
        if problem:
            yield _fault(f"{path}.expression", problem, "a condition")
    yield from _lint_regex(success.stdout_regex, f"{path}.stdout_regex")
    yield from _lint_regex(success.stderr_not_regex, f"{path}.stderr_not_regex")


def _lint_references(value: object, roots: set[str], path: str) -> Iterator[Fault]:
    try:
        unknown = {root for root, _ in references(value)} - roots
    except ExpressionError as exc:
        yield _fault(path, str(exc), "references such as ${{ inputs.name }}")
        return
    for root in sorted(unknown):
        yield _fault(path, root, "one of " + ", ".join(sorted(roots)))


def _inputs_named(value: object) -> set[str]:
    """Returns the inputs a value refers to; none where its references are malformed."""
    try:
        return {str(path[0]) for root, path in references(value) if root == "inputs" and path}
    except ExpressionError:
        return set()


def _lint_regex(pattern: str, path: str) -> Iterator[Fault]:
    try:
        re.compile(pattern)
    except re.error as exc:
        yield _fault(path, f"{pattern}: {exc}", "a regular expression")


def _lint_example(tool: Tool, example: Example) -> Iterator[Fault]:
    path = f"examples.{example.name}"
    typed, faults = check_inputs(tool, example.inputs)
    if faults:
        yield _fault(path, str(faults[0]), "inputs that pass")
        return
    try:
        call = render(
            tool,
            typed,
            example.target,
            captured=example.captured,
            section=example.section,  # type: ignore[arg-type]  # the schema limits it
        )
    except RenderError as exc:
        yield _fault(path, exc.message, "a command")
        return
    if (rendered := as_data(call)) != example.renders:
        yield _fault(path, f"renders {rendered}", f"{dict(example.renders)}")
    dry = example.section == "dry_run"
    judged = assess_dry_run(tool, typed, example.target) if dry else assess(tool, typed)
    risk = judged.risk_class
    if example.risk and example.risk != risk:
        yield _fault(path, f"risk {risk}", example.risk)
    if example.section == "command":
        yield from _lint_risk(path, call, risk)


def _lint_risk(path: str, call: Rendered, risk: str) -> Iterator[Fault]:
    """Yields a fault where the annotations say less than the command itself does."""
    judged = judge_rendered(call)
    if judged is None or ORDER[judged.risk_class] <= ORDER[risk]:
        return
    if isinstance(call, HttpRequest) and call.method == "POST":
        return  # many interfaces are asked by POST; only the author knows
    found = f"{risk} by its annotations, but {judged.risk_class} by its command: {judged.reason}"
    yield _fault(f"{path} annotations", found, "annotations or risk_rules that say so")


def _fault(field: str, found: str, expected: str) -> Fault:
    return Fault(code="TOOL_LINT", field=field, found=found, expected=expected)
