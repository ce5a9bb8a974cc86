"""The one place where errors become gRPC statuses and statuses become errors again.

Details follow https://google.aip.dev/193: ErrorInfo (reason, domain, metadata), BadRequest for
people's mistakes, RetryInfo. The faults travel once more in our own message, so that every part of
them comes back. grpcio-status is avoided on purpose: it would force a newer protobuf than clients
may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from opsconductor.rpc.errors import (
    BY_REASON,
    Fault,
    Internal,
    InvalidArgument,
    InvalidTransition,
    NotFound,
    OpsConductorError,
    PermissionDenied,
    PlanTooLarge,
)
from opsconductor.rpc.transport import CallTimedOut, TransportError, Unreachable
from opsconductor.v1 import plan_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

DOMAIN = "opsconductor.v1"
"""ErrorInfo.domain of every error."""
DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries google.rpc.Status."""
FAULTS_OMITTED = "faults_omitted"
"""ErrorInfo.metadata key: how many faults did not fit; Validate answers all of them."""

# gRPC refuses trailers beyond 8 KiB unless both ends agree otherwise, and any client may call.
_DETAIL_BYTES = 4_000
_MESSAGE_BYTES = 1_000
_METADATA_BYTES = 1_000

_WITHOUT_REASON: Mapping[grpc.StatusCode, type[OpsConductorError]] = {
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    # A server that stops cancels its calls; callers that cancel do not ask what became of theirs.
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: CallTimedOut,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidTransition,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.INTERNAL: Internal,
}


class WireStatus(NamedTuple):
    """What a call is aborted with."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, bytes], ...]


def to_status(error: OpsConductorError) -> WireStatus:
    """Returns the code, message and trailing metadata that carry an error to any gRPC client."""
    code = grpc.StatusCode[error.code]
    status = status_pb2.Status(code=code.value[0], message=_shortened(error.message))
    room = _DETAIL_BYTES
    faults, lines = plan_service_pb2.ValidateResponse(), error_details_pb2.BadRequest()
    for fault in error.faults:
        message = fault_to_wire(fault)
        line = error_details_pb2.BadRequest.FieldViolation(
            field=_encodable(fault.field or fault.step), description=_encodable(str(fault))
        )
        room -= message.ByteSize() + line.ByteSize() + 8
        if room < 0:
            break
        faults.faults.append(message)
        lines.field_violations.append(line)
    status.details.add().Pack(_error_info(error, len(error.faults) - len(faults.faults)))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        status.details.add().Pack(retry)
    if lines.field_violations:
        status.details.add().Pack(lines)
        status.details.add().Pack(faults)
    return WireStatus(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def from_rpc_error(error: grpc.RpcError) -> OpsConductorError:
    """Returns the error a server raised, or a TransportError when no server answered properly."""
    code = _code(error)
    message = str(error.details() or "") if isinstance(error, grpc.Call | _AIO_ERROR) else ""
    status = _details(error)
    info, retry, faults = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
        elif detail.Is(plan_service_pb2.ValidateResponse.DESCRIPTOR):
            faults = plan_service_pb2.ValidateResponse()
            detail.Unpack(faults)
    if info.domain != DOMAIN:
        return _without_reason(code, message)
    return BY_REASON.get(info.reason, _WITHOUT_REASON.get(code, Internal))(
        status.message or message,
        faults=[fault_from_wire(each) for each in faults.faults] if faults else (),
        metadata=dict(info.metadata),
        retry_after=_delay(retry),
    )


def fault_to_wire(fault: Fault) -> plan_service_pb2.Fault:
    """Returns a fault as it travels in answers and statuses."""
    return plan_service_pb2.Fault(
        code=fault.code,
        step=_encodable(fault.step),
        field=_encodable(fault.field),
        found=_encodable(fault.found),
        expected=_encodable(fault.expected),
        hint=_encodable(fault.hint),
        line=fault.line,
    )


def fault_from_wire(message: plan_service_pb2.Fault) -> Fault:
    """Returns a fault as programs handle it."""
    return Fault(
        code=message.code,
        field=message.field,
        found=message.found,
        expected=message.expected,
        hint=message.hint,
        step=message.step,
        line=message.line,
    )


_AIO_ERROR = grpc.aio.AioRpcError


def _without_reason(code: grpc.StatusCode, message: str) -> OpsConductorError:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return PlanTooLarge(f"the message is larger than allowed ({message})")
    kind = _WITHOUT_REASON.get(code, TransportError)
    if kind is Unreachable:
        return Unreachable(f"the orchestrator cannot be reached ({message})")
    return kind(message or code.name, metadata={"grpc_code": code.name})


def _error_info(error: OpsConductorError, omitted: int) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    room = _METADATA_BYTES
    for key, value in error.metadata.items():
        room -= len(key.encode()) + len(value.encode(errors="replace"))
        if room >= 0:
            info.metadata[key] = _encodable(value)
    if omitted:
        info.metadata[FAULTS_OMITTED] = str(omitted)
    return info


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if isinstance(error, grpc.Call | _AIO_ERROR) else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _details(error: grpc.RpcError) -> status_pb2.Status:
    status = status_pb2.Status()
    if isinstance(error, grpc.Call | _AIO_ERROR):
        data = _metadata_value(error.trailing_metadata() or ())
        try:
            status.ParseFromString(data)
        except DecodeError:
            return status_pb2.Status()
    return status


def _metadata_value(metadata: Iterable[Sequence[str | bytes]]) -> bytes:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return b""


def _delay(retry: error_details_pb2.RetryInfo) -> timedelta | None:
    return retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None


def _encodable(text: str) -> str:
    """Returns text that protobuf takes: lone surrogates come from documents people wrote."""
    return text.encode("utf-8", errors="replace").decode()


def _shortened(text: str) -> str:
    data = text.encode("utf-8", errors="replace")
    if len(data) <= _MESSAGE_BYTES:
        return data.decode()
    return data[: _MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
