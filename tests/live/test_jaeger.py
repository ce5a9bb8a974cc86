"""A plan's trace arrives in a real Jaeger and is read back through its query API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers import ledger
from helpers.stack import running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.jaeger import Jaeger


def test_a_plan_that_was_undone_is_one_tree_in_jaeger(jaeger: Jaeger, tmp_path: Path) -> None:
    plan = ledger.plan(tmp_path / "ledger", "one", "two", fails="three", on_failure="rollback")
    with running(tmp_path, variables=jaeger.variables) as stack:
        done = stack.opsctl("run", "-f", stack.plan(plan), "--yes", "-o", "json")
        assert done.code == 5, done.err
        trace_id = done.json["trace_id"]
        wait_until(lambda: _is_whole(jaeger.spans(trace_id)), "both sides' spans are in Jaeger")
        spans = jaeger.spans(trace_id)
    (root,) = _roots(spans)
    assert root["operationName"] == "plan ledger"
    assert {span["operationName"] for span in spans.values()} >= {
        *("submit", "risk", "approval", "step one", "step two", "step three", "rollback"),
        *("undo one", "undo two", "attempt 1", "attempt one", "attempt three", "run"),
    }
    for span in spans.values():
        if span["service"] == "opsconductor-agent" and span["operationName"] != "run":
            parent = spans[span["parent"]]
            assert parent["startTime"] <= span["startTime"] + 5000
    services = jaeger.get("services")["data"]
    assert {"opsconductor-orchestrator", "opsconductor-agent"} <= set(services)


def _is_whole(spans: dict[str, dict[str, Any]]) -> bool:
    # Spans come when they end, in batches of both sides: the plan's own is the last of all.
    names = [span["operationName"] for span in spans.values()]
    agents = [s for s in spans.values() if s["service"] == "opsconductor-agent"]
    attempts = [span for span in agents if span["operationName"].startswith("attempt ")]
    return "rollback" in names and len(attempts) == 5 and len(_roots(spans)) == 1


def _roots(spans: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [span for span in spans.values() if span["parent"] not in spans]
