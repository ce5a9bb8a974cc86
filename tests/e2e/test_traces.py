"""One trace per plan, from both sides, whole even over a kill -9 in the approval wait."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from helpers import ledger
from helpers.otlp import OtlpReceiver
from helpers.stack import running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.otlp import Span


def test_a_trace_is_whole_though_the_orchestrator_was_killed_in_the_approval_wait(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ledger"
    plan = ledger.plan(file, "one", "two", fails="three", on_failure="rollback")
    with OtlpReceiver() as receiver, running(tmp_path, variables=receiver.variables) as stack:
        waiting = stack.opsctl("run", "-f", stack.plan(plan), "-o", "json")
        assert waiting.code == 8, waiting.err
        execution_id = waiting.json["execution_id"]
        stack.kill_orchestrator()
        stack.up()
        (approval_id,) = waiting.json["pending_approval_ids"]
        assert stack.opsctl("approvals", "approve", approval_id, "--yes").code == 0
        result = stack.wait_for(execution_id)
        assert result["status"] == "rolled_back"
        trace_id = result["trace_id"]
        wait_until(lambda: _is_whole(receiver.spans(trace_id)), "both sides' spans have come in")
        spans = receiver.spans(trace_id)
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "every span comes once"
    (root,) = [span for span in spans if span.parent_id not in by_id]
    assert root.name == "plan ledger"
    assert {span.name for span in spans if span.parent_id == root.span_id} == {
        *("submit", "approval", "step one", "step two", "step three", "rollback")
    }
    for span in spans:
        assert span.end >= span.start > 0
        if parent := by_id.get(span.parent_id):
            assert parent.start // 1000 <= span.start // 1000 + 5000, (span, parent)
    _assert_attempts(spans, by_id)
    approval = next(span for span in spans if span.name == "approval")
    approved = datetime.fromisoformat(result["approval_timestamp"])
    assert abs(approval.end / 1e9 - approved.timestamp()) < 0.001
    assert approval.end <= min(span.start for span in spans if span.name == "attempt 1")
    undone = {span.name: span.start for span in spans if span.name.startswith("undo ")}
    assert sorted(undone, key=lambda name: undone[name]) == ["undo two", "undo one"]
    assert next(span for span in spans if span.name == "step three").failed


def test_without_otel_variables_nothing_is_sent_and_traceparent_is_still_there(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as stack:
        argv = json.dumps(["sh", "-c", "echo $TRACEPARENT"])
        answer = stack.opsctl("run", "run_command", f"argv={argv}", "-o", "json")
        assert answer.code == 0, answer.out
        version, trace_id, span_id, flags = answer.json["output"]["text"].strip().split("-")
        assert (version, trace_id) == ("00", answer.json["trace_id"])
        assert len(span_id) == 16
        assert flags == "01"
        own = int(stack.endpoint.rpartition(":")[2])
        for process in (stack.embedded.orchestrator, stack.embedded.agent):
            pid = process.find()
            assert pid is not None
            for connection in psutil.Process(pid).net_connections():
                assert own in (connection.laddr.port, connection.raddr and connection.raddr.port)


def _assert_attempts(spans: list[Span], by_id: dict[str, Span]) -> None:
    """Asserts that each of the agent's attempts hangs below the orchestrator's."""
    agents = [span for span in spans if span.service == "opsconductor-agent"]
    attempts = [span for span in agents if span.name.startswith("attempt ")]
    assert len(attempts) == 5
    for span in attempts:
        parent = by_id[span.parent_id]
        assert parent.service == "opsconductor-orchestrator"
        assert parent.name == "attempt 1"
        assert by_id[parent.parent_id].name in {
            *("step one", "step two", "step three", "undo one", "undo two")
        }
        assert "run" in {child.name for child in agents if child.parent_id == span.span_id}


def _is_whole(spans: list[Span]) -> bool:
    names = [span.name for span in spans]
    ends = [span for span in spans if span.service == "opsconductor-agent"]
    return "rollback" in names and sum(e.name.startswith("attempt ") for e in ends) == 5
