"""``opsctl approvals``: what waits for a person, and deciding it."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import options
from opsconductor.cli.session import session_of

if TYPE_CHECKING:
    from opsconductor.cli.session import Session
    from opsconductor.v1.approval_service_pb2 import ApprovalRequest, GetApprovalResponse

app = typer.Typer(no_args_is_help=True, help="List, look at and decide approval requests.")

_ID = Annotated[str, typer.Argument(metavar="APPROVAL", help="Approval request id.")]
_WHY = Annotated[str, options.REASON]
_OUTPUT = Annotated[options.Format, options.OUTPUT]


class State(StrEnum):
    """States to filter by."""

    pending = "pending"
    approved = "approved"
    rejected = "rejected"
    changes_requested = "changes_requested"
    expired = "expired"
    superseded = "superseded"
    revoked = "revoked"
    all = "all"


@app.command("list")
def list_approvals(
    ctx: typer.Context,
    state: Annotated[State, typer.Option("--state", help="Only this state.")] = State.pending,
    execution: Annotated[str, typer.Option("--execution", help="Only of this execution.")] = "",
    limit: Annotated[int, options.LIMIT] = 50,
    output: _OUTPUT = options.Format.table,
) -> None:
    """List approval requests, newest first."""
    from opsconductor.cli import formats
    from opsconductor.cli.paging import collect
    from opsconductor.cli.plain import plain

    session = session_of(ctx)
    with session.client() as client:
        found = collect(
            lambda size, token: client.list_approvals(
                state="" if state is State.all else state.value,
                execution_id=execution,
                page_size=size,
                page_token=token,
            ),
            lambda page: page.approvals,
            limit=limit,
            page_size=200,
        )
    if output is not options.Format.table:
        session.terminal.data([plain(each) for each in found], output)
        return
    now = datetime.now(UTC)
    session.terminal.table(
        ("APPROVAL", "STATE", "LEVEL", "PLAN", "COVERS", "ASKED BY", "ASKED", "EXECUTION"),
        [
            (
                each.approval_id,
                state_word(each),
                str(each.level),
                each.plan_name,
                ", ".join(each.step_ids),
                each.requester,
                formats.ago(each.create_time, now),
                each.execution_id,
            )
            for each in found
        ],
    )


@app.command("get", hidden=True)
@app.command("show")
def show(
    ctx: typer.Context,
    approval_id: _ID,
    full: Annotated[
        bool, typer.Option("--full", help="Show scripts and long inputs whole.")
    ] = False,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Show everything a decision needs: each step as it would run, its risk, its undo."""
    from opsconductor.cli.plain import plain
    from opsconductor.client import approving

    session = session_of(ctx)
    with session.client() as client:
        answer = client.get_approval(approval_id)
    approving.check(answer)
    if output is options.Format.table:
        _show(session, answer, full=full)
    else:
        session.terminal.data(plain(answer), output)


@app.command("approve")
def approve(
    ctx: typer.Context,
    approval_id: _ID,
    reason: _WHY = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Check the request's digests here, sign it with your SSH key and approve it.

    On a terminal it is shown first and you are asked.
    """
    from opsconductor.cli.approving import approve_checked
    from opsconductor.client import approving

    session = session_of(ctx)
    signer = session.context().signer()
    with session.client() as client:
        answer = client.get_approval(approval_id)
        checked = approving.check(answer)
        if session.terminal.interactive and not yes:
            _show(session, answer)
            if not session.terminal.confirm(f"\nApprove this as {signer.name}?"):
                raise typer.Abort
        approval = approve_checked(client, checked, signer, reason=reason)
    _tell(session, approval, output)


@app.command("reject")
def reject(
    ctx: typer.Context,
    approval_id: _ID,
    reason: _WHY,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Say no; the execution ends as rejected."""
    _decide(ctx, approval_id, "reject", reason, output)


@app.command("request-changes")
def request_changes(
    ctx: typer.Context,
    approval_id: _ID,
    reason: _WHY,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Leave it to the author to submit an edited plan."""
    _decide(ctx, approval_id, "request_changes", reason, output)


@app.command("edit")
def edit(
    ctx: typer.Context,
    approval_id: _ID,
    reason: _WHY,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            help="The edited plan ('-' reads standard input); "
            "default: your editor opens the plan in force.",
        ),
    ] = None,
    output: _OUTPUT = options.Format.table,
) -> None:
    """Replace the plan by an edited one, which is judged anew."""
    from opsconductor.cli.documents import read_document

    session = session_of(ctx)
    with session.client() as client:
        if file is not None:
            document = read_document(file)
        else:
            document = _edited(session, client.get_approval(approval_id).plan_document)
        approval = client.decide(approval_id, "edit", reason=reason, edited_plan=document)
    _tell(session, approval, output)


def state_word(approval: ApprovalRequest) -> str:
    """Returns the word of an approval request's state."""
    from opsconductor.client.words import approval_word

    return approval_word(approval.state)


def _show(session: Session, answer: GetApprovalResponse, *, full: bool = False) -> None:
    from opsconductor.cli import formats
    from opsconductor.cli.plain import word
    from opsconductor.cli.preview import show_approval
    from opsconductor.v1.approval_service_pb2 import DecisionKind

    show_approval(session.terminal, answer, full=full)
    session.terminal.say(f"\nstate: {state_word(answer.approval)}")
    for decision in answer.approval.decisions:
        kind = word(DecisionKind.DESCRIPTOR, decision.kind)
        why = f": {decision.reason}" if decision.reason else ""
        session.terminal.say(f"  {formats.moment(decision.time)} {decision.person} {kind}{why}")


def _decide(
    ctx: typer.Context, approval_id: str, kind: str, reason: str, output: options.Format
) -> None:
    session = session_of(ctx)
    with session.client() as client:
        _tell(session, client.decide(approval_id, kind, reason=reason), output)


def _tell(session: Session, approval: ApprovalRequest, output: options.Format) -> None:
    from opsconductor.cli.plain import plain

    if output is not options.Format.table:
        session.terminal.data(plain(approval), output)
        return
    session.terminal.say(f"{approval.approval_id} {state_word(approval)}")
    if state_word(approval) == "pending":
        session.terminal.note(f"it still needs: {approval.requirement}")
    session.terminal.note(f"watch: opsctl runs tail {approval.execution_id} --follow")


def _edited(session: Session, document: bytes) -> bytes:
    """Returns what the person's editor made of a plan; raises UsageProblem when nothing changed."""
    from opsconductor.cli.failure import UsageProblem

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor or not session.terminal.interactive:
        raise UsageProblem("give the edited plan with -f FILE, or set EDITOR on a terminal")
    with tempfile.TemporaryDirectory(prefix="opsctl-") as directory:
        path = Path(directory) / "plan.json"
        path.write_bytes(document)
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UsageProblem(f"the editor {editor!r} failed: {error}") from error
        edited = path.read_bytes()
    if edited == document:
        raise UsageProblem("the plan was not changed; nothing was sent")
    return edited
