"""Sends finished traces out over OTLP/gRPC, where the standard OTEL_* variables ask for it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from opsconductor.orchestrator.domain.executions import trace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from opsconductor.orchestrator.domain.executions.execution import Execution

LOG = logging.getLogger(__name__)

SERVICE_NAME = "opsconductor-orchestrator"
CLOSE_SECONDS = 2.0
"""How long the last spans may take at the end of the process."""


class Tracing:
    """Exports the trace of every execution that ends."""

    def __init__(self, processor: SpanProcessor | None) -> None:
        self._processor = processor
        self._sent: dict[str, datetime] = {}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Tracing:
        """Sets up the exporter when an endpoint or exporter is named; off otherwise.

        See https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
        """
        wanted = environment.get("OTEL_TRACES_EXPORTER", "")
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or wanted == "none"
        if off or not (wanted == "otlp" or endpoint):
            return cls(None)
        # The SDK and its exporter take a tenth of a second to load: only where they are used.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def finished(self, state: Execution) -> None:
        """Sends the spans of an execution that reached an end, each once."""
        if self._processor is None:
            return
        spans = trace.spans(state, self._sent.get(state.execution_id))
        for span in spans:
            self._processor.on_end(_readable(state, span))
        if state.ended_at:
            self._sent[state.execution_id] = state.ended_at

    def close(self) -> None:
        """Sends what is left, for ``CLOSE_SECONDS`` at most: a dead receiver holds nobody up.

        The SDK's own shutdown waits for retries of the exporter and takes no limit, so it runs
        beside: a daemon thread ends with the process.
        """
        if self._processor is None:
            return
        last = threading.Thread(target=self._processor.shutdown, daemon=True)
        last.start()
        last.join(CLOSE_SECONDS)
        if last.is_alive():
            LOG.warning(
                "the trace receiver did not take the last spans within %g s: they are lost",
                CLOSE_SECONDS,
            )


def _readable(state: Execution, span: trace.Span) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: str) -> SpanContext:
        return SpanContext(
            trace_id=int(state.trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )

    status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK)
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=context(span.parent_id) if span.parent_id else None,
        resource=Resource.create({"service.name": SERVICE_NAME}),
        attributes=dict(span.attributes),
        kind=SpanKind.INTERNAL,
        status=status,
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(max(span.end, span.start)),
    )


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000) * 1000
