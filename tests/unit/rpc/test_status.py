"""Errors keep their class, words, faults and patience over the wire."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc import errors
from opsconductor.rpc.errors import BY_REASON, Fault, OpsConductorError
from opsconductor.rpc.status import (
    DETAILS_KEY,
    FAULTS_OMITTED,
    fault_from_wire,
    fault_to_wire,
    from_rpc_error,
    to_status,
)
from opsconductor.rpc.transport import CallTimedOut, TransportError, Unreachable
from opsconductor.v1.errors_pb2 import ErrorReason

REASONS = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]
FAULT = Fault(
    code="UNKNOWN_TOOL",
    field="steps[1].tool",
    found="restart_servcie",
    expected="the name of a tool",
    hint="did you mean restart_service?",
    step="restart",
    line=7,
)


def received(
    code: grpc.StatusCode, message: str, metadata: tuple[tuple[str, bytes], ...]
) -> grpc.aio.AioRpcError:
    """Returns what a client's call raises for an aborted call."""
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=message
    )


def over_the_wire(error: OpsConductorError) -> OpsConductorError:
    return from_rpc_error(received(*to_status(error)))


def test_every_reason_of_the_contract_has_a_class_and_no_class_is_without_reason() -> None:
    assert set(REASONS) == set(BY_REASON)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_the_wire_with_all_its_parts(reason: str) -> None:
    sent = BY_REASON[reason](
        "disk of web-01 is full — free some",
        faults=[FAULT, Fault(code="PLAN_CYCLE")],
        metadata={"target": "web-01"},
        retry_after=timedelta(seconds=2.5),
    )
    got = over_the_wire(sent)
    assert type(got) is type(sent)
    assert got.message == sent.message
    assert got.faults == sent.faults
    assert got.metadata == sent.metadata
    assert got.retry_after == sent.retry_after


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_maps_to_the_status_code_its_class_names(reason: str) -> None:
    code, message, metadata = to_status(BY_REASON[reason]())
    assert code.name == BY_REASON[reason].code
    assert message == BY_REASON[reason].__doc__
    assert [key for key, _ in metadata] == [DETAILS_KEY]


def test_people_with_other_clients_read_faults_as_field_violations() -> None:
    from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

    status = status_pb2.Status()
    status.ParseFromString(to_status(errors.PlanInvalid(faults=[FAULT])).metadata[0][1])
    lines = error_details_pb2.BadRequest()
    assert any(detail.Unpack(lines) for detail in status.details if detail.Is(lines.DESCRIPTOR))
    assert [(line.field, line.description) for line in lines.field_violations] == [
        ("steps[1].tool", str(FAULT))
    ]


def test_faults_that_do_not_fit_are_counted_and_the_rest_arrives() -> None:
    faults = [Fault(code="TYPE", field=f"steps[{n}].inputs.x", found="abc") for n in range(500)]
    status = to_status(errors.PlanInvalid(faults=faults))
    assert len(status.metadata[0][1]) + len(status.message) < 6_000
    got = from_rpc_error(received(*status))
    assert 0 < len(got.faults) < 500
    assert got.faults == tuple(faults[: len(got.faults)])
    assert int(got.metadata[FAULTS_OMITTED]) == 500 - len(got.faults)


def test_an_endless_message_is_shortened_and_metadata_cut() -> None:
    status = to_status(errors.Internal("é" * 100_000, metadata={"a": "b" * 100_000, "k": "v"}))
    assert len(status.message.encode()) <= 1_000
    assert status.message.endswith("…")
    assert len(status.metadata[0][1]) < 3_000


def test_lone_surrogates_from_a_document_do_not_break_the_answer() -> None:
    got = over_the_wire(errors.PlanInvalid("bad \ud800", faults=[Fault("TYPE", found="\udfff")]))
    assert got.message == "bad ?"
    assert got.faults[0].found == "?"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unreachable),
        (grpc.StatusCode.CANCELLED, Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, CallTimedOut),
        (grpc.StatusCode.UNIMPLEMENTED, TransportError),
        (grpc.StatusCode.UNKNOWN, TransportError),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.UNAUTHENTICATED, errors.PermissionDenied),
    ],
)
def test_statuses_that_are_not_ours_become_errors_too(
    code: grpc.StatusCode, kind: type[OpsConductorError]
) -> None:
    got = from_rpc_error(received(code, "what the transport says", ()))
    assert type(got) is kind
    assert "what the transport says" in got.message


def test_a_message_beyond_the_limit_is_told_as_such() -> None:
    text = "Received message larger than max (5000000 vs. 4259840)"
    got = from_rpc_error(received(grpc.StatusCode.RESOURCE_EXHAUSTED, text, ()))
    assert isinstance(got, errors.PlanTooLarge)
    assert "4259840" in got.message


def test_garbage_in_the_details_is_ignored() -> None:
    metadata = ((DETAILS_KEY, b"\xff\xff\xff"),)
    got = from_rpc_error(received(grpc.StatusCode.UNAVAILABLE, "x", metadata))
    assert type(got) is Unreachable


def test_a_reason_of_a_newer_server_falls_back_to_the_status_code() -> None:
    class Newer(OpsConductorError):
        reason, code = "INVENTED_LATER", "NOT_FOUND"

    assert isinstance(over_the_wire(Newer("gone")), errors.NotFound)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.builds(Fault, texts, texts, texts, texts, texts, texts, st.integers(0, 2**31 - 1)))
def test_a_fault_comes_back_from_its_message_unchanged(fault: Fault) -> None:
    assert fault_from_wire(fault_to_wire(fault)) == fault
