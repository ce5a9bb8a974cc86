"""Locks: what an attempt holds while it runs, over all executions of its tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.execution import UNDO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.plans.compiled import CompiledStep

Lock = tuple[str, int]
"""(key, holders allowed)."""

_SEPARATOR = "|"


def locks_of(tenant: str, step: CompiledStep, kind: str) -> tuple[Lock, ...]:
    """Returns what an attempt of a step holds: its keys, and the target when it changes it."""
    found: dict[str, int] = {}
    if own := step.body["concurrency"]:
        found[f"key:{own['key']}"] = own["max_runs"]
        for key in own.get("also", ()):
            found[f"key:{key}"] = 1
    target, changes = step.body["target"], step.changes
    if kind == UNDO and (call := _undo_call(step)):
        target, changes = call["target"] or target, call["risk"] != "read_only"
    if changes and target:
        found[f"target:{target['name']}"] = 1
    return tuple((f"{tenant}{_SEPARATOR}{key}", room) for key, room in found.items())


def fails_on_conflict(step: CompiledStep) -> bool:
    """Tells whether a step would rather fail than wait for its own key."""
    own = step.body["concurrency"]
    return bool(own) and own["on_conflict"] == "fail"


def in_words(key: str) -> str:
    """Returns a lock's key as people know it."""
    return key.partition(_SEPARATOR)[2] or key


def _undo_call(step: CompiledStep) -> Mapping[str, Any] | None:
    undo = step.body["undo"]
    call: Mapping[str, Any] | None = undo["call"] if undo["strategy"] == "call" else None
    return call
