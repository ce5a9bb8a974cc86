"""Waits for the end of an execution, shows it, and passes approvals to whoever may give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.cli.execution_view import status_of, step_status
from opsconductor.cli.feed import Feed
from opsconductor.cli.moves import Moves
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1.execution_service_pb2 import WatchResponse

if TYPE_CHECKING:
    from opsconductor.cli.approving import Approver
    from opsconductor.cli.live import View
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.execution_service_pb2 import Execution

_MOVING = {"queued", "running", "rolling_back"}


def wait_for_end(
    client: SyncClient, execution_id: str, view: View, approver: Approver
) -> Execution:
    """Returns the execution when it has ended, or when only a person can make it go on.

    Args:
        client: The way to the orchestrator.
        execution_id: The execution.
        view: What it is shown with.
        approver: Decides its approval requests, or leaves them to others.
    """
    asked = False
    moves = Moves(client, view.note)
    with Feed(client, execution_id, output=view.wants_output) as feed:
        for item in feed:
            moves.look()
            if not isinstance(item, WatchResponse):
                view.output(item)
                continue
            view.event(item)
            asked = asked or _needs_person(item)
            if not asked:
                continue
            # Events may be old news: what counts is where the execution stands now.
            execution = client.get(execution_id)
            if execution.pending_approval_ids:
                approver.settle(execution.pending_approval_ids, view)
                execution = client.get(execution_id)
            asked = bool(execution.pending_approval_ids)
            if _stuck(execution):
                return execution
    moves.look()
    return client.get(execution_id)


def _needs_person(event: WatchResponse) -> bool:
    return event.step_state == executions.STEP_STATE_APPROVAL_REQUIRED or event.execution_state in (
        executions.EXECUTION_STATE_APPROVAL_REQUIRED,
        executions.EXECUTION_STATE_ATTENTION_REQUIRED,
    )


def _stuck(execution: Execution) -> bool:
    """Tells whether nothing will happen before a person decides."""
    status = status_of(execution)
    if status == "attention_required":
        return True
    if not execution.pending_approval_ids:
        return False
    moving = any(step_status(step) in _MOVING for step in execution.steps)
    return status == "approval_required" or not moving
