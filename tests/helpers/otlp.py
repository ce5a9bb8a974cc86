"""A real OTLP/gRPC receiver that keeps what it gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector

if TYPE_CHECKING:
    from types import TracebackType

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


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


class Receiver:
    """Listens on a free loopback port and keeps every span by trace."""

    def __init__(self) -> None:
        self.traces: dict[str, dict[str, Span]] = {}
        self.duplicates = 0
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=collector.ExportTraceServiceRequest.FromString,
            response_serializer=collector.ExportTraceServiceResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})
        self._server.add_generic_rpc_handlers((generic,))
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Receiver:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(0).wait(5)

    @property
    def variables(self) -> dict[str, str]:
        """The standard variables that send traces here without delay."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def spans(self, trace_id: str) -> dict[str, Span]:
        """Returns the spans of a trace by id."""
        return dict(self.traces.get(trace_id, {}))

    def _export(
        self, request: collector.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    trace = self.traces.setdefault(span.trace_id.hex(), {})
                    self.duplicates += span.span_id.hex() in trace
                    trace[span.span_id.hex()] = Span(
                        names.get("service.name", ""),
                        span.name,
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == 2,
                    )
        return collector.ExportTraceServiceResponse()
