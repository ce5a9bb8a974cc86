"""Mutants: one mistake each, of the kind that systems like this one have made.

Each is planted into the running product by ``patches``; the suite must notice every one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def _replace(owner: Any, name: str, new: Any) -> Any:
    before = getattr(owner, name)
    setattr(owner, name, new)
    return before


def m1_start_before_record(module: ModuleType) -> None:
    """EXECUTING is only written when the end is."""

    async def executing(self: Any, entry: Any) -> None:
        self._replay(entry.to_json())

    _replace(module.Journal, "executing", executing)


def m2_no_sync(module: ModuleType) -> None:
    """EXECUTING is appended and never synced."""

    async def executing(self: Any, entry: Any) -> None:
        self._apply_and_append(entry.to_json())

    _replace(module.Journal, "executing", executing)


def m3_no_folder_sync(module: ModuleType) -> None:
    """The journal's content is synced, its name after a rewrite is not."""
    _replace(module, "sync_folder", lambda _: None)


def m4_no_lock(module: ModuleType) -> None:
    """Nothing keeps a second process out of an agent's folder."""
    _replace(module.FolderLock, "__enter__", lambda self: self)
    _replace(module.FolderLock, "__exit__", lambda *_: None)


def m4_copies_unseen(module: ModuleType) -> None:
    """Nor does the orchestrator look for copies of an agent, which is the second defence."""

    async def check_instance(_: Any, member: Any, said: Any) -> list[str]:
        return [said.instance_id]

    _replace(module.Keeping, "check_instance", check_instance)


def m5_memory_only(module: ModuleType) -> None:
    """What an agent has started is forgotten when its process ends."""
    opened = module.Journal.open.__func__

    def open_(cls: Any, *arguments: Any, **options: Any) -> Any:
        journal = opened(cls, *arguments, **options)
        journal._entries.clear()
        journal._starts.clear()
        journal._last_started.clear()
        return journal

    _replace(module.Journal, "open", classmethod(open_))


def m6_acknowledged_first(module: ModuleType) -> None:
    """A report is acknowledged and then committed."""
    end = module.Reporting._end

    async def acknowledging(self: Any, member: Any, execution_id: str, report: Any) -> None:
        import asyncio

        module._acknowledge(member, report.attempt_id)
        await asyncio.sleep(0.05)  # it is on its way
        await end(self, member, execution_id, report)

    _replace(module.Reporting, "_end", acknowledging)


def m7_blind_orchestrator(module: ModuleType) -> None:
    """The orchestrator does not mind that agents have seen later sessions than it gave out.

    Nor does it mind what it has itself noted beside the store, which is the second defence.
    """

    async def evidence(*_: Any, **__: Any) -> str:
        return ""

    async def enter(*_: Any, **__: Any) -> None:
        return None

    _replace(module.Restoring, "evidence", evidence)
    _replace(module.Restoring, "enter", enter)


def m8_reassigned(module: ModuleType) -> None:
    """A silent agent's changes are given to another one, as if they had not begun."""

    async def give_up(self: Any, member: Any, attempt_id: str) -> None:
        error = {"code": "STALE_EPOCH", "message": "given to another", "error_class": "unreachable"}
        report = module.Report(
            attempt_id=attempt_id, state="not_started", effects="none", error=error
        )
        await self._engine.command(
            await self._engine.execution_of(attempt_id),
            lambda state, _: module._finished(state, member.agent_id, report),
        )

    _replace(module.Reporting, "give_up_read", give_up)


def m8_starting_report(module: ModuleType) -> None:
    """An attempt that runs may become one that never started."""
    table = dict(module.ATTEMPT_TRANSITIONS)
    state = module.AttemptState
    table[state.RUNNING] = table[state.RUNNING] | {state.NOT_STARTED}
    _replace(module, "ATTEMPT_TRANSITIONS", table)


def m9_timeout_is_clean(module: ModuleType) -> None:
    """A change that took too long counts as one that did nothing."""
    ended = module.ended

    def clean(running: Any, result: Any, *arguments: Any, **options: Any) -> Any:
        report = ended(running, result, *arguments, **options)
        if report.state == "timed_out":
            return replace(report, state="failed", effects="none")
        return report

    _replace(module, "ended", clean)


def m10_output_unchecked(module: ModuleType) -> None:
    """Output is appended wherever it says it belongs."""

    def append(self: Any, op: Any) -> int:
        tail = self._tail((op.attempt_id, op.stream))
        tail.data += op.data
        return int(tail.end)

    _replace(module.OutputFold, "append", append)


def m11_random_ids(module: ModuleType) -> None:
    """An attempt's id is drawn at its grant, instead of derived from its step."""
    _replace(module, "attempt_id", lambda *_: f"att_{secrets.token_hex(13)}")


def m11_ids_unverified(module: ModuleType) -> None:
    """The agent takes any attempt id."""

    class Whatever(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    class Ids:
        attempt_id = staticmethod(lambda *_: Whatever())

    module.ids = Ids  # type: ignore[attr-defined]


def m12_any_execution(module: ModuleType) -> None:
    """An approval counts for every execution with steps of the same names, to the agent."""
    parse = module.parse_statement
    check = module.Approvals.require

    def require(self: Any, quorum: int) -> Any:
        canonical = module.canonical
        fields = {
            "execution_id": self.order.execution_id,
            "plan_digest": canonical.digest(canonical.MANIFEST_DOMAIN, self.order.manifest),
        }
        module.parse_statement = lambda data: replace(parse(data), **fields)  # type: ignore[attr-defined]
        return check(self, quorum)

    _replace(module.Approvals, "require", require)


def m12_any_execution_decided(module: ModuleType) -> None:
    """The same to the orchestrator."""
    parse = module.parse_statement
    check = module.Deciding._check_approval

    def checked(self: Any, state: Any, request: Any, words: Any, now: Any) -> None:
        fields = {"execution_id": state.execution_id, "plan_digest": request.plan_digest}
        module.parse_statement = lambda data: replace(parse(data), **fields)  # type: ignore[attr-defined]
        try:
            check(self, state, request, words, now)
        finally:
            module.parse_statement = parse  # type: ignore[attr-defined]

    _replace(module.Deciding, "_check_approval", checked)


def m13_wall_clock(module: ModuleType) -> None:
    """How fresh an order is goes by the wall clock."""
    _replace(module, "boottime", lambda: time.time())


def m13_wall_clock_sent(module: ModuleType) -> None:
    """The same where the Hello is timed."""

    class Time:
        CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

        @staticmethod
        def clock_gettime(_: int) -> float:
            return time.time()

    module.time = Time  # type: ignore[attr-defined]


def m14_group_only(module: ModuleType) -> None:
    """A cancel signals the process group and looks no further."""

    async def stop(self: Any, grace: Any, kill_wait: Any) -> tuple[str, ...]:
        root = self._traces.root
        if root is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(root.pid, signal.SIGKILL)
        return ()

    _replace(module.StepTree, "stop", stop)


def m14_no_cgroup(module: ModuleType) -> None:
    """Nor does the control group end what left."""
    if hasattr(module.Cgroup, "kill"):
        _replace(module.Cgroup, "kill", lambda *_: None)


_AGENT = "opsconductor.agent"
_ENGINE = "opsconductor.orchestrator.engine"

PATCHES: dict[str, dict[str, Callable[[ModuleType], None]]] = {
    "m1": {f"{_AGENT}.journal": m1_start_before_record},
    "m2": {f"{_AGENT}.journal": m2_no_sync},
    "m3": {f"{_AGENT}.record_log": m3_no_folder_sync},
    "m4": {f"{_AGENT}.lock": m4_no_lock, f"{_ENGINE}.keeping": m4_copies_unseen},
    "m5": {f"{_AGENT}.journal": m5_memory_only},
    "m6": {f"{_ENGINE}.reporting": m6_acknowledged_first},
    "m7": {f"{_ENGINE}.restoring": m7_blind_orchestrator},
    "m8": {
        f"{_ENGINE}.reporting": m8_reassigned,
        "opsconductor.orchestrator.domain.executions.states": m8_starting_report,
    },
    "m9": {f"{_AGENT}.ending": m9_timeout_is_clean},
    "m10": {"opsconductor.orchestrator.store.output": m10_output_unchecked},
    "m11": {
        "opsconductor.rpc.ids": m11_random_ids,
        f"{_AGENT}.verify": m11_ids_unverified,
    },
    "m12": {
        f"{_AGENT}.approvals": m12_any_execution,
        f"{_ENGINE}.deciding": m12_any_execution_decided,
    },
    "m13": {
        f"{_AGENT}.daemon": m13_wall_clock,
        f"{_AGENT}.session.control": m13_wall_clock_sent,
    },
    "m14": {
        f"{_AGENT}.executors.local.stop": m14_group_only,
        f"{_AGENT}.executors.cgroups": m14_no_cgroup,
    },
}
