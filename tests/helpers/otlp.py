"""An OTLP receiver: spans in over gRPC, kept by trace."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector

if TYPE_CHECKING:
    from types import TracebackType

_METHOD = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Span:
    """One span as it came in; times in nanoseconds."""

    service: str
    name: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool


class OtlpReceiver:
    """Listens on a free port and keeps every span it gets."""

    def __init__(self) -> None:
        self.calls = 0
        self._spans: dict[str, list[Span]] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=collector.ExportTraceServiceRequest.FromString,
            response_serializer=collector.ExportTraceServiceResponse.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler(_METHOD, {"Export": handler})
        self._server.add_generic_rpc_handlers((handlers,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        """Environment that sends spans here."""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(0).wait(5)

    def spans(self, trace_id: str) -> list[Span]:
        """Returns the spans of a trace, in the order they came in."""
        with self._lock:
            return list(self._spans.get(trace_id, []))

    def _export(
        self, request: collector.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        with self._lock:
            self.calls += 1
            for resource in request.resource_spans:
                facts = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        kept = Span(
                            facts.get("service.name", ""),
                            span.name,
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            span.status.code == 2,
                        )
                        self._spans.setdefault(span.trace_id.hex(), []).append(kept)
        return collector.ExportTraceServiceResponse()
