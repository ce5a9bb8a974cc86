"""Values of a step's own output that its undo needs: kept where the step ran, bound at the undo.

What is approved holds the names and the paths (``${{ output.id }}``) only. The agent that saw the
output looks them up when the step ends, journals them, and takes no others: not from the
orchestrator, and not for an undo whose paths differ from those the step started with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.redact import MASK
from opsconductor.agent.refusal import Refusal
from opsconductor.rpc import canonical
from opsconductor.tool_registry import expressions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.agent.journal import Entry

MAX_BYTES = 64 * 1024


def paths(call: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns the inputs of an undo call that stand in the step's output, as written.

    Raises:
        Refusal: An input is said to come from the output and is not exactly one path into it.
    """
    named = list((call or {}).get("late", ()))
    if not named:
        return {}
    given = {name: (call or {})["inputs"].get(name) for name in named}
    try:
        found = expressions.output_paths(given)
    except expressions.ExpressionError as exc:
        raise Refusal("MALFORMED", f"the undo's {exc}") from exc
    if found != given:
        raise Refusal("MALFORMED", f"the undo takes {', '.join(named)} from no output")
    return found


def looked_up(wanted: str, output: Any) -> str:
    """Returns the values at journalled paths as JSON text; empty where one is not there."""
    if not wanted:
        return ""
    try:
        values = expressions.interpolate(canonical.loads(wanted.encode()), {"output": output})
        data = canonical.dumps(values)
    except (expressions.ExpressionError, canonical.CanonicalError):
        return ""
    return data.decode() if len(data) <= MAX_BYTES and MASK not in data else ""


def of(entry: Entry | None, group: str, call: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inputs an undo takes from the output of an attempt.

    Args:
        entry: The attempt that is undone, as this agent remembers it.
        group: What it has to be an attempt of.
        call: The undo, of which the approved step body tells the paths.

    Raises:
        Refusal: This agent does not know the values, or knows others than are asked for.
    """
    wanted = paths(call)
    if not wanted:
        return {}
    if entry is None or entry.group != group or not entry.undo_values:
        names = ", ".join(sorted(wanted))
        raise Refusal(
            "UNDO_VALUE_MISSING",
            f"this agent knows no {names} of what the step put out, so what to undo is not known; "
            "a person has to look at the target",
        )
    if canonical.loads(entry.undo_paths.encode()) != wanted:
        raise Refusal("UNDO_VALUE_MISSING", "the undo asks for other values than the step kept")
    values: dict[str, Any] = canonical.loads(entry.undo_values.encode())
    return values
