"""A trace receiver in a few lines: OTLP over gRPC in, a tree of spans out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector

_METHOD = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Received:
    """One span as it came in."""

    service: str
    name: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool


class TraceReceiver:
    """Keeps every span it gets, by trace."""

    def __init__(self) -> None:
        self.spans: dict[str, dict[str, Received]] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=collector.ExportTraceServiceRequest.FromString,
            response_serializer=collector.ExportTraceServiceResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(_METHOD, {"Export": handler})
        self._server.add_generic_rpc_handlers((generic,))
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begins to listen."""
        self._server.start()

    def stop(self) -> None:
        """Stops listening."""
        self._server.stop(0).wait(2)

    def tree(self, trace_id: str) -> list[str]:
        """Returns a trace as indented lines, spans in the order they began."""
        spans = self.spans.get(trace_id, {})
        roots = [span for span in spans.values() if span.parent_id not in spans]
        lines: list[str] = []
        for root in sorted(roots, key=lambda span: span.start):
            self._add(lines, spans, root, 0, root.start)
        return lines

    def _add(
        self,
        lines: list[str],
        spans: dict[str, Received],
        span: Received,
        depth: int,
        zero: int,
    ) -> None:
        begin, length = (span.start - zero) / 1e6, (span.end - span.start) / 1e6
        mark = " !" if span.failed else ""
        label = f"{'  ' * depth}{span.name}{mark}"
        lines.append(f"{label:<46} {span.service:<26} +{begin:8.1f} ms {length:8.1f} ms")
        children = [other for other in spans.values() if other.parent_id == span.span_id]
        for child in sorted(children, key=lambda item: (item.start, item.end)):
            self._add(lines, spans, child, depth + 1, zero)

    def _export(
        self, request: collector.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    trace = self.spans.setdefault(span.trace_id.hex(), {})
                    trace[span.span_id.hex()] = Received(
                        names.get("service.name", ""),
                        span.name,
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == 2,
                    )
        return collector.ExportTraceServiceResponse()
