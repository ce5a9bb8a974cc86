"""The risk of a dry run: what its own rendered command may do, judged like any other command.

A dry run whose command no parser knows to change nothing is as risky as the call it stands for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import OpsConductorError
from opsconductor.tool_registry.rendering.render import render
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    PowerShellScript,
    ScriptCommand,
)
from opsconductor.tool_registry.risk.assess import CallRisk, assess
from opsconductor.tool_registry.risk.commands import Judgement
from opsconductor.tool_registry.risk.free_commands import judge_command, judge_shell
from opsconductor.tool_registry.risk.structured import judge_rendered
from opsconductor.tool_registry.risk.what_if import judge_what_if

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.rendering.render import Rendered


def assess_dry_run(
    tool: Tool, inputs: Mapping[str, Any], target: Mapping[str, Any] | None
) -> CallRisk:
    """Returns the risk of a call's dry run; that of the call itself where nothing else is sure."""
    whole = assess(tool, inputs)
    try:
        judged = judge_dry_run(render(tool, inputs, target, section="dry_run"))
    except (OpsConductorError, ValueError, TypeError, KeyError) as exc:
        judged = Judgement("destructive", f"what it renders to is not known yet: {exc}")
    if judged.risk_class == "read_only":
        reason = f"a dry run: {judged.reason}"
    elif tool.dry_run is not None and tool.dry_run.read_only:
        reason = f"a dry run: the definition of {tool.name} answers for it that nothing changes"
    else:
        reason = f"its dry run counts as the call itself: {judged.reason}"
        return replace(whole, reasons=(reason, *whole.reasons))
    return CallRisk("read_only", idempotent=True, security_relevant=False, reasons=(reason,))


def judge_dry_run(rendered: Rendered) -> Judgement:
    """Returns what the command of a dry run may do; what is not read counts as worst."""
    match rendered:
        case ArgvCommand(("aws", *_)):
            return judge_rendered(rendered) or Judgement("destructive", "no operation is named")
        case ArgvCommand(argv):
            return judge_command(list(argv))
        case ScriptCommand(interpreter, body):
            return judge_shell(interpreter, body)
        case PowerShellScript(body):
            return judge_what_if(body)
        case _:
            found = judge_rendered(rendered)
            return found or Judgement("destructive", "no parser tells what it may do")
