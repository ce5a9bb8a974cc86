from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opsconductor.agent import spans as spans_module
from opsconductor.agent.spans import NoSpans, OpenTelemetrySpans, spans_from

if TYPE_CHECKING:
    from collections.abc import Mapping

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"},
    ],
)
def test_nothing_is_recorded_unless_asked_for(environment: Mapping[str, str]) -> None:
    assert isinstance(spans_from(environment, {}), NoSpans)


def test_without_spans_the_context_is_handed_on() -> None:
    span = NoSpans().attempt("attempt", PARENT, {})
    with span.child("run"):
        assert span.traceparent == PARENT
    span.end("completed", "")


def test_an_attempt_is_a_child_of_the_orchestrators_span_with_its_parts_below() -> None:
    memory = InMemorySpanExporter()
    recorded: Any = spans_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, {"a": "b"})
    assert isinstance(recorded, OpenTelemetrySpans)
    recorded._provider._active_span_processor._span_processors = (SimpleSpanProcessor(memory),)
    span = recorded.attempt("attempt one", PARENT, {"opsconductor.step_id": "one"})
    with span.child("verify"):
        pass
    with span.child("run"):
        pass
    span.end("failed", "EXIT_CODE: 1")
    verify, run, attempt = memory.get_finished_spans()
    assert [verify.name, run.name, attempt.name] == ["verify", "run", "attempt one"]
    assert attempt.parent is not None
    assert format(attempt.parent.span_id, "016x") == PARENT.split("-")[2]
    assert {each.parent and each.parent.span_id for each in (verify, run)} == {
        attempt.context.span_id
    }
    assert {format(each.context.trace_id, "032x") for each in (verify, run, attempt)} == {
        PARENT.split("-")[1]
    }
    assert span.traceparent.split("-")[2] == format(attempt.context.span_id, "016x")
    assert attempt.status.description == "EXIT_CODE: 1"
    assert attempt.resource.attributes["service.name"] == "opsconductor-agent"
    recorded.close()


def test_opentelemetry_is_not_loaded_unless_asked_for() -> None:
    import subprocess
    import sys

    code = (
        f"import sys, {spans_module.__name__} as s; s.spans_from({{}}, {{}}); "
        "assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
