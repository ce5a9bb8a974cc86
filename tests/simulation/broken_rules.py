"""Rules of the product taken out, one at a time; each function is a context manager."""

from __future__ import annotations

import contextlib
import secrets
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from opsconductor.agent import ending, verify
from opsconductor.agent import journal as agent_journal
from opsconductor.agent.fence import Fence, Fences
from opsconductor.agent.refusal import Refusal
from opsconductor.orchestrator.domain.executions import advance, judging, rolling_back, starting
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.orchestrator.domain.executions.clock import Clock
from opsconductor.orchestrator.domain.executions.states import AttemptState, ExecutionState
from opsconductor.orchestrator.engine import actor, reporting
from opsconductor.orchestrator.engine.replica import Replica
from opsconductor.orchestrator.engine.restoring import Restoring
from opsconductor.orchestrator.store.sharing import Fence as OwnerFence
from opsconductor.orchestrator.store.sharing import FreeHolds, TakeHold
from opsconductor.orchestrator.store.sharing_writes import Guards
from opsconductor.rpc import ids
from simulation.virtual_loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


def _patched(target: Any, name: str, substitute: Any) -> AbstractContextManager[Any]:
    return mock.patch.object(target, name, substitute)


@contextmanager
def release_before_record() -> Iterator[None]:
    """Effects begin before the record of it reaches the disk."""

    async def executing(self: Any, entry: Any) -> None:
        self._replay(entry.to_json())

    with _patched(agent_journal.Journal, "executing", executing):
        yield


@contextmanager
def record_not_synced() -> Iterator[None]:
    """The record of a start is left to the operating system."""

    async def executing(self: Any, entry: Any) -> None:
        self._apply_and_append(entry.to_json())

    with _patched(agent_journal.Journal, "executing", executing):
        yield


@contextmanager
def known_in_memory_only() -> Iterator[None]:
    """An agent that was restarted does not know what it did before."""
    opened = agent_journal.Journal.open.__func__  # type: ignore[attr-defined]

    def forgetful(cls: Any, path: Any, clock: Any) -> Any:
        journal = opened(cls, path, clock)
        journal._entries.clear()
        journal._starts.clear()
        journal._last_started.clear()
        return journal

    with _patched(agent_journal.Journal, "open", classmethod(forgetful)):
        yield


@contextmanager
def acknowledged_before_commit() -> Iterator[None]:
    """An end is acknowledged before it is stored."""
    end = reporting.Reporting._end

    async def early(self: Any, member: Any, execution_id: str, report: Any) -> None:
        if member.session:
            member.session.acknowledge(report.attempt_id)
        await end(self, member, execution_id, report)

    with _patched(reporting.Reporting, "_end", early):
        yield


@contextmanager
def epoch_ignored() -> Iterator[None]:
    """An agent obeys orders of sessions that are over."""

    def check(self: Fences, order: Any) -> None:
        for fence in self._fences[:-1]:
            with contextlib.suppress(Refusal):
                return fence.check(replace(order, session_epoch=fence.epoch))
        last = self._fences[-1]
        return last.check(replace(order, session_epoch=last.epoch))

    with _patched(Fences, "check", check):
        yield


@contextmanager
def random_attempt_ids() -> Iterator[None]:
    """Attempts are named by chance, so that nobody recognises one that is given out again."""
    newest: dict[tuple[object, ...], str] = {}

    def fresh(*parts: object) -> str:
        newest[parts] = ids.derive("att", secrets.token_hex(16))
        return newest[parts]

    def latest(*parts: Any) -> str:
        return newest.get(parts) or ids.attempt_id(*parts)

    with (
        _patched(actor, "ids", SimpleNamespace(attempt_id=fresh)),
        _patched(verify, "ids", SimpleNamespace(attempt_id=latest)),
    ):
        yield


@contextmanager
def change_given_up_with_the_session() -> Iterator[None]:
    """A change of a silent agent is taken for not started, as if a lease had lapsed."""
    lost = reporting._lost_read

    def taken_away(member: Any, attempt_id: str) -> Any:
        error = {"code": "START_TTL_EXPIRED", "message": "lapsed", "error_class": "retryable"}
        return replace(lost(member, attempt_id), state="not_started", error=error)

    async def give_up(self: Any, member: Any, attempt_id: str) -> None:
        report = taken_away(member, attempt_id)
        await self._engine.command(
            await self._engine.execution_of(attempt_id),
            lambda state, _: reporting._finished(state, member.agent_id, report),
        )

    with _patched(reporting.Reporting, "give_up_read", give_up):
        yield


@contextmanager
def timeout_is_clean() -> Iterator[None]:
    """A change that was stopped at its time limit is taken to have done nothing."""
    ended = ending.ended

    def clean(*arguments: Any, **named: Any) -> Any:
        report = ended(*arguments, **named)
        return replace(report, effects="none") if report.state == "timed_out" else report

    with _patched(ending, "ended", clean):
        yield


@contextmanager
def wall_clock_for_start_ttl() -> Iterator[None]:
    """An agent counts the age of an order on the clock that people set."""
    init = Fence.__init__

    def with_wall_clock(self: Fence, boottime: Any) -> None:
        process: Any = PROCESS.get()
        init(self, process.machine.wall)

    with _patched(Fence, "__init__", with_wall_clock):
        yield


@contextmanager
def clock_steps_not_counted() -> Iterator[None]:
    """A plan's time runs out by the clock that people set."""
    with _patched(Clock, "moved_since", lambda *_: timedelta()):
        yield


@contextmanager
def start_ttl_ignored() -> Iterator[None]:
    """An agent that was frozen starts whatever it was told before."""

    def check(self: Fence, order: Any) -> None:
        return None

    with _patched(Fence, "check", check):
        yield


@contextmanager
def needs_ignored() -> Iterator[None]:
    """A step starts before what it needs has ended."""

    def ready(state: Any, step: Any, now: Any) -> Any:
        return starting._queue(state, step)

    with (
        _patched(starting, "needs_ended", lambda state, step: True),
        _patched(starting, "ready", ready),
    ):
        yield


@contextmanager
def undo_in_order() -> Iterator[None]:
    """Undo begins with what was done first."""
    order = rolling_back.undo_order

    with _patched(rolling_back, "undo_order", lambda state: order(state)[::-1]):
        yield


@contextmanager
def everything_retried() -> Iterator[None]:
    """A failed change is tried again although it is not idempotent."""

    def may_retry(state: Any, step: Any, attempt: Any) -> bool:
        failed = attempt.state is AttemptState.FAILED
        return failed and judging.tries(state, step.step_id) < 2 and not judging._ending(state)

    with _patched(judging, "_may_retry", may_retry):
        yield


@contextmanager
def unknown_is_retried() -> Iterator[None]:
    """An unknown outcome counts as failed and is tried again."""
    judge = judging.judge_forward

    def hopeful(state: Any, attempt: Any, now: Any) -> ev.Event:
        if attempt.state is AttemptState.UNKNOWN:
            return ev.RetryScheduled(attempt.step_id, now.isoformat(), "it surely failed")
        return judge(state, attempt, now)

    with _patched(advance, "judge_forward", hopeful):
        yield


@contextmanager
def grants_not_fenced() -> Iterator[None]:
    """An orchestrator that lost an execution still grants."""
    guards = actor.Change.guards

    def open_gate(self: Any, replica_id: str) -> Any:
        operations, owner = guards(self, replica_id)
        return [op for op in operations if not isinstance(op, OwnerFence)], owner

    with (
        _patched(actor.Change, "guards", open_gate),
        _patched(Replica, "may_act", lambda self: True),
    ):
        yield


@contextmanager
def locks_not_shared() -> Iterator[None]:
    """Orchestrators do not tell each other which targets they work on."""

    def unheeded(self: Guards, op: TakeHold | FreeHolds) -> None:
        return None

    with _patched(Guards, "take", unheeded):
        yield


@contextmanager
def cancelled_at_once() -> Iterator[None]:
    """A cancel counts as done before what runs has ended."""

    def cancel(state: Any, now: Any) -> Any:
        if state.state is not ExecutionState.CANCELLING:
            return ()
        return (*advance._skip_rest(state), ev.ExecutionFinished("cancelled", state.reason))

    rules = tuple(cancel if rule is advance._cancel else rule for rule in advance._RULES)
    with _patched(advance, "_RULES", rules):
        yield


@contextmanager
def restore_unnoticed() -> Iterator[None]:
    """A database that went back in time is worked with as if nothing had happened."""

    async def notice(self: Any, member: Any, said: Any, epoch: int) -> str:
        return ""

    async def accept(self: Any, epoch: int) -> None:
        return None

    with (
        _patched(Restoring, "notice", notice),
        _patched(agent_journal.Journal, "accept_epoch", accept),
    ):
        yield
