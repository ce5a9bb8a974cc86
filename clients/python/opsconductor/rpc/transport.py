"""Errors of the connection itself, which no server sent."""

from __future__ import annotations

from opsconductor.rpc.errors import OpsConductorError


class TransportError(OpsConductorError):
    """The call did not get a proper answer."""

    reason = "TRANSPORT"
    code = "UNKNOWN"


class Unreachable(TransportError):
    """The orchestrator cannot be reached."""

    reason = "UNREACHABLE"
    code = "UNAVAILABLE"
    retryable = True


class CallTimedOut(TransportError):
    """The orchestrator did not answer in time."""

    reason = "CALL_TIMED_OUT"
    code = "DEADLINE_EXCEEDED"
    retryable = True
