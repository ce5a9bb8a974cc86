"""Rows with sensible values, so that a test names only what it is about."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from opsconductor.orchestrator.store.base import AppendEvents, AppendOutput
from opsconductor.orchestrator.store.rows import (
    AgentRow,
    ApprovalRow,
    AttemptRow,
    ExecutionRow,
    StoredEvent,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """Returns a moment after noon."""
    return NOON + timedelta(seconds=seconds)


def stored_event(seq: int, text: str = "") -> StoredEvent:
    return StoredEvent(
        seq, "step_queued", after(seq), f'{{"text":"{text}"}}'.encode(), f"{seq}{text}"
    )


def append(execution_id: str, *seqs: int, text: str = "") -> AppendEvents:
    return AppendEvents(execution_id, tuple(stored_event(seq, text) for seq in seqs))


def append_output(attempt_id: str, offset: int, data: bytes, stream: int = 1) -> AppendOutput:
    return AppendOutput(attempt_id, stream, offset, data)


def execution_row(number: int = 1, **changes: Any) -> ExecutionRow:
    row = ExecutionRow(
        execution_id=f"exe_{number:06}",
        tenant="acme",
        external_id="",
        request_id="",
        request_hash="sha256:0",
        plan_id=f"plan_{number:06}",
        name="Restart nginx",
        state="running",
        create_time=after(number),
        start_time=None,
        end_time=None,
        last_seq=1,
        head_hash="h",
        open=True,
        summary=b'{"steps":1}',
        search_text="Restart nginx web-01",
    )
    return dataclasses.replace(row, **changes)


def approval_row(number: int = 1, **changes: Any) -> ApprovalRow:
    row = ApprovalRow(
        approval_id=f"appr_{number:06}",
        execution_id="exe_000001",
        tenant="acme",
        step_id="",
        state="pending",
        level=2,
        create_time=after(number),
        expire_time=after(3600),
        data=b"{}",
    )
    return dataclasses.replace(row, **changes)


def attempt_row(number: int = 1, **changes: Any) -> AttemptRow:
    row = AttemptRow(
        attempt_id=f"att_{number:06}",
        execution_id="exe_000001",
        step_id="restart",
        kind="forward",
        number=number,
        agent_id="agt_1",
        session_epoch=1,
        state="granted",
        start_order=number,
        data=b"{}",
    )
    return dataclasses.replace(row, **changes)


def agent_row(number: int = 1, **changes: Any) -> AgentRow:
    row = AgentRow(
        agent_id=f"agt_{number}",
        tenant="acme",
        name=f"edge-{number}",
        segment="dmz",
        certificate_sha256="ab",
        certificate_expire_time=after(86400),
        journal_id="j1",
        draining=False,
        quarantined=False,
        facts=b"{}",
        last_seen_time=None,
        create_time=NOON,
    )
    return dataclasses.replace(row, **changes)
