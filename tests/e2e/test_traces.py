"""One trace per plan: whole, with right parents and times, whatever happened meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from helpers.otlp import Receiver, Span
from helpers.stack import Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORCHESTRATOR, AGENT = "opsconductor-orchestrator", "opsconductor-agent"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def stack(tmp_path: Path, receiver: Receiver) -> Iterator[Stack]:
    made = Stack(tmp_path, dict(receiver.variables))
    try:
        made.up()
        yield made
    finally:
        made.down()


def change(stack: Stack, *, fails: bool) -> str:
    """Returns the path of a plan that writes a file and then, perhaps, fails and is undone."""
    code = "exit 3" if fails else "true"
    steps = [
        {
            "id": "write",
            "tool": "write_file",
            "inputs": {"path": str(stack.folder / "file"), "content": "x\n"},
        },
        {
            "id": "last",
            "tool": "run_command",
            "inputs": {"argv": ["sh", "-c", f'echo "$TRACEPARENT"; {code}']},
            "undo": "none",
        },
    ]
    context = {"environment": "staging"}
    return stack.plan({"on_failure": "rollback", "context": context, "steps": steps})


def path(spans: dict[str, Span], span: Span) -> str:
    """Returns the names from the root to a span."""
    parent = spans.get(span.parent_id)
    return f"{path(spans, parent)} > {span.name}" if parent else span.name


def tree(receiver: Receiver, trace_id: str, wanted: str) -> dict[str, Span]:
    """Waits for the span with a path and returns the trace."""

    def there() -> bool:
        spans = receiver.spans(trace_id)
        return wanted in {path(spans, span) for span in spans.values()}

    wait_until(there, f"the trace holds {wanted}", 20)
    return receiver.spans(trace_id)


def test_a_rolled_back_plan_is_one_tree_over_both_sides(stack: Stack, receiver: Receiver) -> None:
    answer = stack.opsctl("run", "-f", change(stack, fails=True), "--yes", "-o", "json")
    assert answer.code == 5
    result = answer.json
    root = f"plan {result['plan_id']}"
    undone = f"{root} > rollback > undo write > attempt 1 > attempt write > run"
    tree(receiver, result["trace_id"], undone)
    spans = tree(
        receiver, result["trace_id"], f"{root} > step last > attempt 1 > attempt last > run"
    )
    by_path = {path(spans, span): span for span in spans.values()}
    assert {name: span.service for name, span in by_path.items() if "verify" not in name} == {
        root: ORCHESTRATOR,
        f"{root} > submit": ORCHESTRATOR,
        f"{root} > submit > risk": ORCHESTRATOR,
        f"{root} > approval": ORCHESTRATOR,
        f"{root} > step write": ORCHESTRATOR,
        f"{root} > step write > attempt 1": ORCHESTRATOR,
        f"{root} > step write > attempt 1 > attempt write": AGENT,
        f"{root} > step write > attempt 1 > attempt write > capture": AGENT,
        f"{root} > step write > attempt 1 > attempt write > run": AGENT,
        f"{root} > step last": ORCHESTRATOR,
        f"{root} > step last > attempt 1": ORCHESTRATOR,
        f"{root} > step last > attempt 1 > attempt last": AGENT,
        f"{root} > step last > attempt 1 > attempt last > run": AGENT,
        f"{root} > rollback": ORCHESTRATOR,
        f"{root} > rollback > undo write": ORCHESTRATOR,
        f"{root} > rollback > undo write > attempt 1": ORCHESTRATOR,
        f"{root} > rollback > undo write > attempt 1 > attempt write": AGENT,
        undone: AGENT,
    }
    assert by_path[f"{root} > step last"].failed
    for span in spans.values():
        assert span.start <= span.end, path(spans, span)
        parent = spans.get(span.parent_id)
        if parent and span.service == parent.service:
            assert parent.start <= span.start, path(spans, span)
    order = [f"{root} > {name}" for name in ("approval", "step write", "step last", "rollback")]
    assert sorted(order, key=lambda name: by_path[name].start) == order
    assert receiver.duplicates == 0


def test_a_step_knows_its_place_in_the_trace(stack: Stack, receiver: Receiver) -> None:
    result = stack.opsctl("run", "-f", change(stack, fails=False), "--yes", "-o", "json").json
    told = stack.opsctl("runs", "tail", result["execution_id"], "--step", "last", "--raw").out
    version, trace_id, span_id, _ = told.strip().split("-")
    assert (version, trace_id) == ("00", result["trace_id"])
    wait_until(lambda: span_id in receiver.spans(trace_id), "the step's parent span came in", 20)
    assert receiver.spans(trace_id)[span_id].service == AGENT


def test_the_trace_is_whole_when_the_orchestrator_is_killed_during_the_wait(
    stack: Stack, receiver: Receiver
) -> None:
    waiting = stack.opsctl("run", "-f", change(stack, fails=False), "--detach", "-o", "json").json
    execution_id = waiting["execution_id"]
    before = time.time_ns()
    stack.kill_orchestrator()
    stack.up()
    listed = stack.json("approvals", "list")
    rows = listed if isinstance(listed, list) else listed["approvals"]
    stack.opsctl("approvals", "approve", rows[0]["approval_id"], "--yes")
    result = stack.wait_for(execution_id, "completed")
    root = f"plan {result['plan_id']}"
    spans = tree(receiver, result["trace_id"], f"{root} > step last > attempt 1 > attempt last")
    by_path = {path(spans, span): span for span in spans.values()}
    assert by_path[root].start < before < by_path[root].end
    assert by_path[f"{root} > approval"].start < before < by_path[f"{root} > approval"].end
    assert [span.name for span in spans.values() if span.parent_id not in spans] == [root]


def test_nothing_is_sent_unless_asked_for(tmp_path: Path) -> None:
    with Receiver() as receiver:
        quiet = Stack(tmp_path, {**receiver.variables, "OTEL_TRACES_EXPORTER": "none"})
        try:
            quiet.up()
            assert quiet.opsctl("run", "run_command", 'argv=["true"]').code == 0
        finally:
            quiet.down()
        assert receiver.traces == {}
