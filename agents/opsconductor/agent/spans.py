"""The agent's own spans of an attempt, exported through the standard OTEL_* variables.

OpenTelemetry is imported only when an exporter is asked for; without one the trace context is
handed on as it came.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager


CLOSE_SECONDS = 2.0
"""How long the last spans may take at the end of the process."""


class AttemptSpan(Protocol):
    """The span of one attempt."""

    traceparent: str
    """W3C trace context for what the attempt starts; empty when there is none."""

    def child(self, name: str) -> AbstractContextManager[None]:
        """Measures a part of the attempt."""

    def end(self, state: str, error: str) -> None:
        """Ends the span with what became of the attempt."""


class Spans(Protocol):
    """Makes spans."""

    def attempt(self, name: str, traceparent: str, facts: Mapping[str, Any]) -> AttemptSpan:
        """Starts the span of an attempt below the orchestrator's."""

    def close(self) -> None:
        """Sends what is left."""


class _PassedOn:
    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def child(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def end(self, state: str, error: str) -> None:
        return None


class NoSpans:
    """Records nothing and hands the caller's context on."""

    def attempt(self, name: str, traceparent: str, facts: Mapping[str, Any]) -> AttemptSpan:
        """Returns a span that only knows the context."""
        return _PassedOn(traceparent)

    def close(self) -> None:
        """Does nothing."""


class OpenTelemetrySpans:
    """Exports spans over OTLP/gRPC in batches, from a thread of the SDK."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "opsconductor-agent", **attributes})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("opsconductor.agent")

    def attempt(self, name: str, traceparent: str, facts: Mapping[str, Any]) -> AttemptSpan:
        """Starts the span of an attempt below the orchestrator's."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.CONSUMER, attributes=dict(facts)
        )
        return _OpenTelemetrySpan(self._tracer, span)

    def close(self) -> None:
        """Sends what is left, for ``CLOSE_SECONDS`` at most: a dead receiver holds nobody up."""
        # The SDK waits for the exporter's retries and takes no limit; a daemon thread may be left.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(CLOSE_SECONDS)


class _OpenTelemetrySpan:
    def __init__(self, tracer: Any, span: Any) -> None:
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, context=self._context)
        self.traceparent = carrier.get("traceparent", "")

    @contextlib.contextmanager
    def child(self, name: str) -> Iterator[None]:
        span = self._tracer.start_span(name, context=self._context)
        try:
            yield
        finally:
            span.end()

    def end(self, state: str, error: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("opsconductor.state", state)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def spans_from(environment: Mapping[str, str], attributes: Mapping[str, str]) -> Spans:
    """Returns spans as the OTEL_* variables ask; off unless an exporter is named."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    wanted = exporter == "otlp" or (endpoint and not exporter)
    if disabled or not wanted:
        return NoSpans()
    return OpenTelemetrySpans(attributes)
