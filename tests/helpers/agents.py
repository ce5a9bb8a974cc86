"""An agent's insides with a scripted executor, for tests without processes or hosts."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.orders import NOW, Person, registry, signers
from opsconductor.agent.attempt import Workshop
from opsconductor.agent.calls import Caller
from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.executors.local.run_folder import RunFolders
from opsconductor.agent.fence import Fences
from opsconductor.agent.journal import Journal
from opsconductor.agent.masking import Masks
from opsconductor.agent.output import Spools
from opsconductor.agent.policy import Policy
from opsconductor.agent.spans import NoSpans
from opsconductor.agent.verify import Trust
from opsconductor.agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from opsconductor.agent.executors.base import Call, Executor, Sink, Stream
    from opsconductor.agent.output import Limits
    from opsconductor.agent.report import Report
    from opsconductor.tool_registry.model import Tool

    Script = Callable[[Call, Sink, asyncio.Event], Awaitable[Outcome]]


class ScriptedExecutor:
    """Answers calls from a list of scripts, else succeeds; keeps what was asked."""

    method = "command"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.scripts: deque[Script] = deque()

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        self.calls.append(call)
        if self.scripts:
            return await self.scripts.popleft()(call, sink, cancel)
        return Outcome.ended(call, 0)

    async def close(self) -> None:
        return None

    @property
    def commands(self) -> list[list[str]]:
        return [list(call.rendered.argv) for call in self.calls]  # type: ignore[union-attr]


def says(text: bytes, exit_code: int = 0, stream: Stream = "stdout") -> Script:
    async def script(call: Call, sink: Sink, _: asyncio.Event) -> Outcome:
        if text:
            await sink.write(stream, text)
        return Outcome.ended(call, exit_code)

    return script


def ends_as(outcome: Outcome) -> Script:
    async def script(_: Call, __: Sink, ___: asyncio.Event) -> Outcome:
        return outcome

    return script


@dataclass
class Gate:
    """Holds a call until it is let go or cancelled."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, call: Call, _: Sink, cancel: asyncio.Event) -> Outcome:
        self.entered.set()
        waits = [asyncio.create_task(self.open.wait()), asyncio.create_task(cancel.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if cancel.is_set():
            return Outcome.stopped(call, "cancelled", exit_code=None)
        return Outcome.ended(call, 0)


class Agent:
    """A worker in a folder, with everything it needs; can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *people: Person,
        capacity: int = 32,
        boot: str = "b",
        limits: Limits | None = None,
        real: Executor | None = None,
        tools: tuple[Tool, ...] = (),
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.real = real
        self.executor = ScriptedExecutor()
        self.seconds = 100.0
        self.secrets: tuple[str, ...] = secrets
        self.reports: list[Report] = []
        self._changed = asyncio.Event()
        self.journal = Journal.open(folder / "journal", NOW.timestamp)
        self.spools = Spools(folder / "spool", limits)
        self.fences = Fences(lambda: self.seconds)
        self.fence = self.fences.new()
        self.fence.begin(1, self.seconds)
        policy = Policy()
        self.shop = Workshop(
            journal=self.journal,
            trust=Trust(registry(*tools), policy, lambda: signers(*people), tenant="default"),
            caller=Caller(self._choose, policy),
            spools=self.spools,
            fence=self.fences,
            spans=NoSpans(),
            masks=Masks(lambda: self.secrets),
            clock=NOW.timestamp,
            boot_id=boot,
            runs=RunFolders(folder / "runs"),
        )
        self.worker = Worker(self.shop, capacity=capacity)
        self.worker.recover()
        self.worker.connect(self._receive)

    def _choose(self, _: str, __: Mapping[str, Any] | None) -> Executor:
        return self.real or self.executor

    def _receive(self, report: Report) -> None:
        self.reports.append(report)
        self._changed.set()

    async def final(self, attempt_id: str) -> Report:
        """Waits for the end of an attempt."""
        while True:
            for report in self.reports:
                if report.attempt_id == attempt_id and report.final:
                    return report
            await self.changed()

    async def changed(self) -> None:
        """Waits for the next report."""
        self._changed.clear()
        await asyncio.wait_for(self._changed.wait(), 10)

    def close(self) -> None:
        self.journal.close()
        self.spools.close()
