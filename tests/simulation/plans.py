"""Random plans over a handful of tools whose effects the simulation knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from helpers.orders import make_tool
from helpers.plans import FREE
from opsconductor.orchestrator.domain.plans.policy import Rule
from opsconductor.tool_registry.model import Annotations, Capture, Undo
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    import random

    from opsconductor.orchestrator.domain.plans.policy import Policy

CHANGES = Annotations(read_only=False, destructive=False)
AGAIN = Annotations(read_only=False, destructive=False, idempotent=True)
TARGETS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


@cache
def registry() -> Registry:
    """Returns the tools: a look, a change, a change that may be repeated, and ways to undo."""
    return Registry(
        [
            make_tool("look"),
            make_tool("change", annotations=CHANGES),
            make_tool("set", annotations=AGAIN),
            make_tool("back", annotations=CHANGES),
            make_tool(
                "taken_back",
                annotations=CHANGES,
                undo=Undo("call", tool="back", inputs={"word": "${{ inputs.word }}"}),
            ),
            make_tool(
                "keep",
                annotations=CHANGES,
                capture=Capture({"argv": ["keep", "--show"]}, {"parser": "json"}),
                undo=Undo("state", command={"argv": ["keep", "--restore={captured.was}"]}),
            ),
        ]
    )


def policy(level: int) -> Policy:
    """Returns a policy that asks for the same of every plan."""
    return replace(FREE, rules=(Rule("asked", level),), expires=timedelta(hours=4))


RETRIES: tuple[dict[str, Any] | None, ...] = (
    None,
    None,
    {"max_attempts": 3, "backoff": "fixed", "delay": "1s", "jitter": False},
    {"max_attempts": 2, "backoff": "exponential", "base": "500ms", "on": ["unreachable"]},
)
UNDOS: tuple[Any, ...] = (None, None, None, "none", {"manual": "by hand"})


def plan(rng: random.Random, number: int, *, gates: bool) -> dict[str, Any]:
    """Draws a plan."""
    count = rng.choice((1, 1, 2, 3, 3, 4, 5, 7))
    mode = rng.choice(("sequential", "parallel", "graph"))
    document: dict[str, Any] = {
        "name": f"plan {number}",
        "mode": mode,
        "on_failure": rng.choice(("stop", "rollback", "rollback", "continue", "ask")),
        "inputs": {"wanted": rng.random() < 0.5},
        "steps": [_step(rng, index, mode, gates=gates) for index in range(count)],
    }
    if rng.random() < 0.15:
        document["timeout"] = rng.choice(("8s", "30s"))
    if rng.random() < 0.15:
        document["rollback"] = [{"tool": rng.choice(("look", "set"))}]
    return document


def _step(rng: random.Random, index: int, mode: str, *, gates: bool) -> dict[str, Any]:
    tool = rng.choice(("look", "look", "change", "change", "set", "taken_back", "keep"))
    step: dict[str, Any] = {"id": f"s{index}", "tool": tool, "inputs": {"word": f"w{index}"}}
    _order(rng, step, [f"s{before}" for before in range(index)], mode)
    retry = rng.choice(RETRIES)
    if retry is not None:
        step["retry"] = _allowed(retry, tool)
    if rng.random() < 0.5:
        step["target"] = rng.choice(TARGETS)
    if rng.random() < 0.2:
        step["timeout"] = rng.choice(("1s", "5s", "20s"))
    if rng.random() < 0.1:
        step["precheck"] = {"tool": "look"}
    if rng.random() < 0.1:
        step["verify"] = {"tool": "look"}
    if tool != "look":
        _undo(rng, step)
    if rng.random() < 0.1:
        step["concurrency"] = {"key": rng.choice(("a", "b")), "max_runs": rng.choice((1, 2))}
    if gates and rng.random() < 0.1:
        step["approval"] = {"expires": "1h"}
    return step


def _order(rng: random.Random, step: dict[str, Any], earlier: list[str], mode: str) -> None:
    if mode == "graph" and earlier:
        step["needs"] = rng.sample(earlier, rng.randint(0, min(2, len(earlier))))
    if earlier and rng.random() < 0.1:
        step["if"] = "inputs.wanted"


def _allowed(retry: dict[str, Any], tool: str) -> dict[str, Any]:
    """A change that is not idempotent may only be retried where it provably did nothing."""
    if tool in ("look", "set"):
        return retry
    return {**retry, "on": ["unreachable"]}


def _undo(rng: random.Random, step: dict[str, Any]) -> None:
    undo = rng.choice(UNDOS)
    if undo is not None:
        step["undo"] = undo
    elif rng.random() < 0.05:
        step["irreversible"] = True
