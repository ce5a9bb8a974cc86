"""An orchestrator whose store can be put back, and agents that remember more than it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House, Line
from opsconductor.orchestrator.engine.messages import Remembered, Report
from opsconductor.rpc import ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.orchestrator.domain.executions.execution import Execution

TRIO = ("", "-wal", "-shm")


@dataclass
class Backup:
    """An orchestrator over a SQLite file that can be copied and put back."""

    folder: Path
    house: House

    @property
    def store(self) -> Path:
        return self.folder / "store.sqlite"

    def copy(self) -> None:
        """Copies the file and what belongs to it, while it is in use."""
        for suffix in TRIO:
            shutil.copy(f"{self.store}{suffix}", self.folder / f"copy{suffix}")

    async def restore(self) -> House:
        """Puts the copy back in place of what happened since, and starts over it."""
        await self.house.close()
        for suffix in TRIO:
            shutil.copy(self.folder / f"copy{suffix}", f"{self.store}{suffix}")
        return await self.reopen()

    async def reopen(self) -> House:
        self.house = await House.open(f"sqlite:///{self.store}")
        return self.house

    async def again(self) -> House:
        await self.house.close()
        return await self.reopen()


@pytest.fixture
async def backup(tmp_path: Path) -> AsyncIterator[Backup]:
    """Two agents are connected."""
    made = Backup(tmp_path, await House.open(f"sqlite:///{tmp_path}/store.sqlite"))
    for name in ("a1", "a2"):
        await made.house.enrol(name)
        await made.house.connect(name)
    yield made
    await made.house.close()


def remember(run: Execution, step_id: str, state: str, **fields: Any) -> Remembered:
    """Returns what a journal says of a step's first attempt."""
    started = fields.pop("started", state != "not_started")
    kind = fields.pop("kind", "forward")
    attempt_id = ids.attempt_id(run.execution_id, step_id, kind, fields.pop("number", 1))
    fields.setdefault("effects", "done" if state == "completed" else "none")
    report = Report(attempt_id, state, session_epoch=1, **fields)
    return Remembered(report, run.execution_id, step_id, kind, started)


def why(house: House, run: Execution, step_id: str = "a") -> str:
    return house.engine.waiting_reason(run.execution_id, step_id)


async def confirm(house: House, *without: str) -> str:
    """Lets an operator confirm; returns the incarnation before."""
    before = house.store.incarnation
    await house.agents.restoring.confirm("olga", "default", "disk died", without, planned=False)
    return before


async def confirm_but(house: House, *empty: str) -> str:
    """Lets an operator confirm, and agents that did nothing hand over their journals and leave."""
    before = await confirm(house)
    for name in empty:
        await come(house, name, before)
        house.hang_up(name)
    return before


async def come(house: House, name: str, incarnation: str, *journal: Remembered) -> Line:
    """Lets an agent of the time before connect, with what it remembers."""
    return await house.connect(name, last_session_epoch=9, incarnation=incarnation, journal=journal)
