"""Each state has one word; filters take common synonyms."""

from __future__ import annotations

import pytest

from opsconductor.client.words import (
    approval_word,
    attempt_word,
    execution_state,
    execution_word,
    step_word,
)
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.v1.approval_service_pb2 import APPROVAL_STATE_CHANGES_REQUESTED
from opsconductor.v1.execution_service_pb2 import (
    ATTEMPT_STATE_NOT_STARTED,
    EXECUTION_STATE_APPROVAL_REQUIRED,
    STEP_STATE_ROLLED_BACK,
    ExecutionState,
)


def test_states_are_told_in_their_words() -> None:
    assert execution_word(EXECUTION_STATE_APPROVAL_REQUIRED) == "approval_required"
    assert step_word(STEP_STATE_ROLLED_BACK) == "rolled_back"
    assert attempt_word(ATTEMPT_STATE_NOT_STARTED) == "not_started"
    assert approval_word(APPROVAL_STATE_CHANGES_REQUESTED) == "changes_requested"


@pytest.mark.parametrize("state", ExecutionState.values()[1:])
def test_every_word_leads_back_to_its_state(state: ExecutionState.ValueType) -> None:
    assert execution_state(execution_word(state)) == state


@pytest.mark.parametrize(
    ("synonym", "word"),
    [
        ("success", "completed"),
        ("Canceled", "cancelled"),
        ("timed-out", "timed_out"),
        ("in progress", "running"),
        ("waiting", "approval_required"),
    ],
)
def test_common_synonyms_are_understood(synonym: str, word: str) -> None:
    assert execution_word(execution_state(synonym)) == word


@pytest.mark.parametrize("word", ["", "unspecified", "runing"])
def test_an_unknown_word_is_refused_with_the_list(word: str) -> None:
    with pytest.raises(InvalidArgument, match="rolled_back"):
        execution_state(word)


def test_a_misspelt_word_gets_a_suggestion() -> None:
    with pytest.raises(InvalidArgument, match="did you mean running"):
        execution_state("runing")
