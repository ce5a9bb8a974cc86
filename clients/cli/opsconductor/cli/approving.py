"""Gives or asks for the approvals of a run, where the person at the terminal may give them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from opsconductor.cli import preview
from opsconductor.client import approving
from opsconductor.rpc.errors import AlreadyDecided

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsconductor.cli.live import View
    from opsconductor.cli.terminal import Terminal
    from opsconductor.client.context import Context
    from opsconductor.client.signer import Signer
    from opsconductor.client.sync_client import SyncClient
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest


class Mode(Enum):
    """Where approvals come from."""

    OTHERS = "others"
    """Somebody else decides, elsewhere."""
    ASK = "ask"
    """The operator is shown each request and asked."""
    YES = "yes"
    """The operator said yes beforehand."""


class Approver:
    """Decides the approval requests of one run."""

    def __init__(
        self, terminal: Terminal, client: SyncClient, context: Context, mode: Mode
    ) -> None:
        self._terminal = terminal
        self._client = client
        self._context = context
        self._mode = mode
        self._seen: set[str] = set()

    def settle(self, approval_ids: Iterable[str], view: View) -> None:
        """Decides requests as the mode says, each once; leaves them alone when others decide."""
        new = [each for each in approval_ids if each not in self._seen]
        if self._mode is Mode.OTHERS or not new:
            return
        with view.aside():
            for approval_id in new:
                self._seen.add(approval_id)
                try:
                    self._decide(approval_id)
                except AlreadyDecided:
                    continue

    def _decide(self, approval_id: str) -> None:
        answer = self._client.get_approval(approval_id)
        # What is shown is what is signed: the same checked bytes, not a second answer.
        checked = approving.check(answer)
        signer = self._context.signer()
        if self._mode is Mode.ASK:
            self._terminal.say("")
            preview.show_approval(self._terminal, answer)
            self._terminal.note(f"\nin full: opsctl approvals show {approval_id} --full")
            if not self._terminal.confirm(f"Approve this as {signer.name}, and run it?"):
                self._client.decide(approval_id, "reject", reason="declined at the prompt")
                return
        approve_checked(self._client, checked, signer)
        self._terminal.note(
            f"signed as {signer.name}: the policy '{self._context.policy}' of this embedded "
            "deployment lets you approve your own plans"
        )


def approve_checked(
    client: SyncClient, checked: approving.CheckedApproval, signer: Signer, *, reason: str = ""
) -> ApprovalRequest:
    """Signs what was checked, records the approval and returns the request after it."""
    signed = approving.sign_approval(checked, signer, now=datetime.now(UTC), reason=reason)
    return client.decide(
        checked.approval.approval_id,
        "approve",
        reason=reason,
        signed=signed,
    )
