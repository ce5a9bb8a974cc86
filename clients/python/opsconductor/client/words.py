"""The words for states, as people, JSON and the command line use them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1.approval_service_pb2 import ApprovalState
from opsconductor.v1.execution_service_pb2 import (
    AttemptState,
    ExecutionState,
    OutputStream,
    StepState,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_SYNONYMS: Mapping[str, str] = {
    "active": "running",
    "aborted": "cancelled",
    "awaiting_approval": "approval_required",
    "canceled": "cancelled",
    "canceling": "cancelling",
    "done": "completed",
    "error": "failed",
    "failure": "failed",
    "in_progress": "running",
    "pending_approval": "approval_required",
    "reverted": "rolled_back",
    "succeeded": "completed",
    "success": "completed",
    "timeout": "timed_out",
    "waiting": "approval_required",
}


def execution_word(state: ExecutionState.ValueType) -> str:
    """Returns the word of an execution's state, such as ``approval_required``."""
    return _word(ExecutionState.Name(state), "EXECUTION_STATE_")


def step_word(state: StepState.ValueType) -> str:
    """Returns the word of a step's state."""
    return _word(StepState.Name(state), "STEP_STATE_")


def attempt_word(state: AttemptState.ValueType) -> str:
    """Returns the word of an attempt's state."""
    return _word(AttemptState.Name(state), "ATTEMPT_STATE_")


def stream_word(stream: OutputStream.ValueType) -> str:
    """Returns the word of an output stream: ``stdout`` or ``stderr``."""
    return _word(OutputStream.Name(stream), "OUTPUT_STREAM_")


def approval_word(state: ApprovalState.ValueType) -> str:
    """Returns the word of an approval request's state."""
    return _word(ApprovalState.Name(state), "APPROVAL_STATE_")


def execution_state(word: str) -> ExecutionState.ValueType:
    """Returns the state of a word or a common synonym; raises InvalidArgument with a suggestion."""
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")
    name = _SYNONYMS.get(plain, plain)
    if name != "unspecified" and f"EXECUTION_STATE_{name.upper()}" in ExecutionState.keys():  # noqa: SIM118 - protobuf enums are no dicts
        return ExecutionState.Value(f"EXECUTION_STATE_{name.upper()}")
    words = [_word(each, "EXECUTION_STATE_") for each in ExecutionState.keys()[1:]]
    close = difflib.get_close_matches(name, [*words, *_SYNONYMS], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise InvalidArgument(f"unknown state {word!r}{hint} (states: {', '.join(words)})")


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
