"""A data directory keeps how far the store had come, and shows one that was put back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from helpers.engines import House
from opsconductor.orchestrator.engine.marking import Marking
from opsconductor.orchestrator.store.mark import Mark, MarkFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Place:
    """An orchestrator over a SQLite file; its mark is kept in a file beside it."""

    folder: Path
    house: House | None = None
    file: MarkFile | None = None
    marking: Marking | None = None

    async def start(self, mark: str = "store.mark") -> House:
        self.house = await House.open(f"sqlite:///{self.folder}/store.sqlite")
        self.file = MarkFile(self.folder / mark)
        house = self.house
        self.marking = Marking(house.store, house.agents.restoring, house.engine, Mark(self.file))
        await self.marking.start()
        return house

    async def stop(self) -> None:
        if self.house and self.marking and self.file:
            await self.marking.stop()
            await self.house.close()
            self.file.close()
        self.house = None

    def backup(self) -> None:
        shutil.copy(self.folder / "store.sqlite", self.folder / "backup")

    def restore(self) -> None:
        shutil.copy(self.folder / "backup", self.folder / "store.sqlite")

    async def go_back(self, mark: str = "store.mark") -> House:
        """Works on after a backup, puts it back and starts again; no agent comes."""
        await self.start()
        await self.stop()
        self.backup()
        await (await self.start()).enrol("a1")
        await self.stop()
        self.restore()
        return await self.start(mark)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await made.stop()


def held(house: House) -> str:
    return house.fleet.held("default")


async def test_a_store_that_only_grew_is_trusted(place: Place) -> None:
    await (await place.start()).enrol("a1")
    await place.stop()
    assert held(await place.start()) == ""


async def test_a_store_that_was_put_back_is_noticed_before_any_agent_comes(place: Place) -> None:
    said = held(await place.go_back())
    assert "safe mode" in said
    assert "this store only knows" in said


async def test_another_data_directory_cannot_know(place: Place) -> None:
    assert held(await place.go_back("new.mark")) == ""


async def test_what_was_noticed_stays_so_when_an_older_but_higher_state_is_put_back(
    place: Place,
) -> None:
    await place.go_back()
    await place.stop()
    place.restore()
    assert "safe mode" in held(await place.start())


async def test_a_restore_that_was_confirmed_is_not_noticed_again(place: Place) -> None:
    house = await place.go_back()
    await house.agents.restoring.confirm("olga", "default", "disk died", (), planned=False)
    assert held(house) == ""
    await place.stop()
    assert held(await place.start()) == ""


async def test_a_state_from_before_a_confirmed_restore_is_noticed(place: Place) -> None:
    house = await place.go_back()
    await house.agents.restoring.confirm("olga", "default", "disk died", (), planned=False)
    await place.stop()
    await place.start()
    await place.stop()
    place.restore()
    assert "safe mode: the store may have been restored" in held(await place.start())


async def test_a_slot_that_was_torn_leaves_the_one_before(place: Place) -> None:
    await place.start()
    await place.stop()
    path = place.folder / "store.mark"
    file = MarkFile(path)
    whole = Mark(file)
    count = whole.count
    for slot in range(2):
        torn = file.read()
        file.write(slot, torn[slot][:40])
        left = Mark(file)
        assert left.name == whole.name
        assert count - 1 <= left.count <= count
        file.write(slot, torn[slot].rstrip(b"\0"))
    file.close()
