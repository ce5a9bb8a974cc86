"""Rules about what is kept and who may see it taken out, one at a time; see ``broken_rules``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from opsconductor.agent.approvals import Approvals
from opsconductor.agent.executors.redact import Redactor
from opsconductor.agent.fence import Fences
from opsconductor.agent.masking import Masks
from opsconductor.agent.worker import Worker
from opsconductor.orchestrator.engine.deciding import Deciding
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.forgotten import Forgotten
from opsconductor.orchestrator.engine.giving_up import GivingUp
from opsconductor.orchestrator.engine.reporting import Reporting
from opsconductor.orchestrator.store import writes
from opsconductor.orchestrator.store.base import AppendEvents, AppendOutput
from opsconductor.orchestrator.store.output import OutputFold
from opsconductor.rpc import statements

if TYPE_CHECKING:
    from collections.abc import Iterator


async def _nothing(*_: Any) -> None:
    return None


@contextmanager
def output_not_masked() -> Iterator[None]:
    """What tools print goes its way as it is."""
    with mock.patch.object(Masks, "_current", return_value=Redactor(())):
        yield


@contextmanager
def tenants_mixed() -> Iterator[None]:
    """A step is given to whoever can do it, of whatever tenant."""
    views = Fleet.views
    with mock.patch.object(Fleet, "views", lambda self, tenant="": views(self)):
        yield


@contextmanager
def replays_obeyed() -> Iterator[None]:
    """An agent takes an order whose end was acknowledged for a new one, however old it is."""
    known = Worker._known

    def forgetful(self: Worker, attempt_id: str) -> Any:
        entry = self._shop.journal.find(attempt_id)
        return None if entry is not None and entry.acked_at else known(self, attempt_id)

    with (
        mock.patch.object(Worker, "_known", forgetful),
        mock.patch.object(Fences, "check", return_value=None),
    ):
        yield


@contextmanager
def overlap_appended() -> Iterator[None]:
    """Output that is sent again is stored again."""
    append = OutputFold.append

    def blind(self: OutputFold, op: AppendOutput) -> int:
        return append(self, replace(op, offset=self._tail((op.attempt_id, op.stream)).end))

    with mock.patch.object(OutputFold, "append", blind):
        yield


@contextmanager
def history_rewritten() -> Iterator[None]:
    """The log names somebody else than who it was."""

    def altered(self: writes.Writes, op: AppendEvents) -> None:
        writes._append_events(self, replace(op, events=tuple(map(_altered, op.events))))

    with mock.patch.dict(writes._APPLY, {AppendEvents: altered}):
        yield


def _altered(item: Any) -> Any:
    return replace(item, data=item.data.replace(b'"requester":"rita"', b'"requester":"mary"'))


@contextmanager
def signature_for_something_else() -> Iterator[None]:
    """A signature counts for every execution, whichever it was made for."""
    approval = statements.approval_statement

    def elsewhere(**said: Any) -> bytes:
        return approval(**{**said, "execution_id": "exec_other"})

    with (
        mock.patch.object(statements, "approval_statement", elsewhere),
        mock.patch.object(Deciding, "_check_approval", return_value=None),
        mock.patch.object(Approvals, "require", return_value=("ann",)),
    ):
        yield


@contextmanager
def lost_journal_unnoticed() -> Iterator[None]:
    """An agent with a new journal is given again what it was given before."""
    with mock.patch.object(GivingUp, "forgotten", _nothing):
        yield


@contextmanager
def given_up_and_forgotten() -> Iterator[None]:
    """After a restore without an agent's journal work goes on as if it had done nothing."""
    with mock.patch.object(Forgotten, "stop", _nothing):
        yield


@contextmanager
def given_up_as_failed() -> Iterator[None]:
    """What a retired agent was given counts as failed without effects, whatever it has done."""
    finish = Reporting.finish

    async def failed(self: Reporting, member: Any, execution_id: str, report: Any) -> Any:
        if (report.error or {}).get("code") == "AGENT_RETIRED":
            report = replace(report, state="failed", effects="none")
        return await finish(self, member, execution_id, report)

    with mock.patch.object(Reporting, "finish", failed):
        yield
