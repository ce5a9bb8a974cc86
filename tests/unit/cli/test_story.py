from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from opsconductor.cli.story import Story
from opsconductor.v1 import execution_service_pb2 as executions


def event(kind: str, step: str = "", /, at: int = 1, **detail: Any) -> executions.WatchResponse:
    made = executions.WatchResponse(
        type=kind, step_id=step, attempt_id=f"{step}-1", time=Timestamp(seconds=at)
    )
    made.detail.update(detail)
    return made


def piece(step: str, data: bytes, stream: int = 1) -> executions.ReadOutputResponse:
    return executions.ReadOutputResponse(
        step_id=step,
        attempt_id=f"{step}-1",
        stream=stream,  # type: ignore[arg-type]
        data=data,
    )


def told(story: Story, *items: executions.WatchResponse | executions.ReadOutputResponse) -> str:
    lines = []
    for item in items:
        is_event = isinstance(item, executions.WatchResponse)
        lines += list(story.event(item) if is_event else story.output(item))  # type: ignore[arg-type]
    return "\n".join(line.text for line in lines)


GRANTED: dict[str, Any] = {
    "kind": "forward",
    "number": 1,
    "routing_reason": "web-1 serves segment dmz and so on",
}


def test_a_change_that_is_taken_back_reads_like_a_log() -> None:
    story = Story(output=False)
    text = told(
        story,
        event("submitted"),
        event("approval_requested", requirement_text="1 person"),
        event("decision_recorded", kind="approve", person="alice", reason="planned"),
        event("approval_closed", state="approved"),
        event("step_queued", "one"),
        event("attempt_granted", "one", at=2, **GRANTED),
        event("attempt_finished", "one", stdout_bytes=3),
        event("step_finished", "one", at=4, state="completed"),
        event("attempt_granted", "two", at=4, **GRANTED),
        event("step_finished", "two", at=5, state="failed", error={"message": "exit code 3"}),
        event("rollback_started", order=["one"], reason="step two failed"),
        event("undo_queued", "one"),
        event("attempt_granted", "one", **{**GRANTED, "kind": "undo"}),
        event("undo_finished", "one", state="rolled_back"),
        event("execution_finished", state="rolled_back"),
    )
    assert text.splitlines() == [
        "waits for approval by 1 person",
        "approved by alice: planned",
        "one: runs on web-1",
        "one: completed in 2.0 s",
        "two: runs on web-1",
        "two: failed: exit code 3",
        "rolling back one: step two failed",
        "one: rolled back",
    ]


def test_the_end_of_a_step_waits_for_its_last_words() -> None:
    story = Story(output=True)
    ended = [
        event("attempt_finished", "one", stdout_bytes=4, stderr_bytes=3),
        event("step_finished", "one", state="completed"),
        event("attempt_granted", "two", **GRANTED),
    ]
    assert told(story, *ended) == ""
    assert told(story, piece("one", b"abc\n")) == "one | abc"
    assert told(story, piece("one", b"err", stream=2)).splitlines() == [
        "one ! err",
        "one: completed",
        "two: runs on web-1",
    ]


def test_bytes_that_were_not_kept_count_as_arrived() -> None:
    story = Story(output=True)
    told(story, event("attempt_finished", "one", stdout_bytes=1000))
    told(story, event("step_finished", "one", state="completed"))
    gap = executions.ReadOutputResponse(step_id="one", attempt_id="one-1", gap_bytes=1000)
    assert told(story, gap).splitlines()[-1] == "one: completed"


def test_what_is_held_back_is_told_when_nothing_more_comes() -> None:
    story = Story(output=True)
    told(story, event("attempt_finished", "one", stdout_bytes=10), piece("one", b"half"))
    told(story, event("step_finished", "one", state="completed"))
    assert [line.text for line in story.rest()] == ["one | half", "one: completed"]
    assert list(story.rest()) == []


def test_a_second_attempt_says_so() -> None:
    text = told(Story(output=True), event("attempt_granted", "one", **{**GRANTED, "number": 2}))
    assert text == "one: runs again (attempt 2) on web-1"


@pytest.mark.parametrize(
    ("kind", "detail", "text"),
    [
        ("step_skipped", {"reason": "its condition is false"}, "skipped: its condition is false"),
        ("approval_closed", {"state": "expired"}, "the approval request is expired"),
        ("retry_scheduled", {"reason": "exit code 1"}, "will be tried again: exit code 1"),
        ("attention_required", {"reason": "why"}, "a person has to decide: why"),
        ("undo_finished", {"state": "rollback_failed", "error": {"message": "no"}},
         "rollback failed: no"),
    ],
)  # fmt: skip
def test_each_turn_has_its_line(kind: str, detail: dict[str, Any], text: str) -> None:
    assert told(Story(output=True), event(kind, "one", **detail)) == f"one: {text}"


def test_an_event_of_a_newer_server_is_told_by_its_own_summary() -> None:
    made = event("from_the_future", "one")
    made.summary = "something \x1b[2J happened"
    assert told(Story(output=True), made) == "one: something \\u001b[2J happened"


def test_a_line_is_not_cut_by_what_happens_elsewhere() -> None:
    story = Story(output=True)
    told(story, piece("one", b"half"))
    assert told(story, event("attempt_granted", "two", **GRANTED)) == "two: runs on web-1"
    assert told(story, piece("one", b" a line\n")) == "one | half a line"
