"""A store that is down or full takes nothing back: callers are told, reports wait, work goes on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from helpers.engines import House
from helpers.plans import look, restart
from helpers.postgres import postgres, private_cluster
from opsconductor.orchestrator.engine.messages import Report
from opsconductor.rpc.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.postgres import Cluster

__all__ = ["postgres"]

PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that this file alone stops and starts."""
    with private_cluster() as made:
        yield made


async def test_while_the_database_is_away_callers_are_told_and_reports_wait(
    cluster: Cluster,
) -> None:
    house = await House.open(cluster.new_database())
    await house.enrol("a1")
    line = await house.connect("a1")
    run = await house.submit(look("a"), restart("b", target="10.0.0.9"), mode="sequential")
    attempt = await house.live(run, "a")
    await asyncio.to_thread(cluster.stop, "immediate")
    with pytest.raises(StoreUnavailable) as refused:
        await house.submit(look("x"))
    assert refused.value.retryable
    assert refused.value.retry_after is not None
    report = Report(attempt.attempt_id, "completed", output={})
    with pytest.raises(StoreUnavailable):
        await house.agents.report(house.member(), report)
    assert line.acknowledged == []
    assert (await _state(house, run.execution_id)).steps["b"].state == "pending"
    await asyncio.to_thread(cluster.start)
    await house.agents.report(house.member(), report)
    assert line.acknowledged == [attempt.attempt_id]
    await house.end(run, "b")
    assert (await house.state(run)).state == "completed"
    await house.close()


async def test_restarts_of_the_database_during_work_lose_and_repeat_nothing(
    cluster: Cluster,
) -> None:
    house = await House.open(cluster.new_database())
    await house.enrol("a1")
    line = await house.connect("a1", capacity=4)
    runs = [
        await house.submit(*(look(f"s{n}") for n in range(5)), mode="sequential") for _ in range(4)
    ]
    agent = asyncio.create_task(_work(house, line))
    for _ in range(3):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.stop, "immediate")
        await asyncio.to_thread(cluster.start)
    async with asyncio.timeout(PATIENCE):
        for run in runs:
            while (await _state(house, run.execution_id)).open:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.05)
    agent.cancel()
    with suppress(asyncio.CancelledError):
        await agent
    for run in runs:
        state = await house.state(run)
        assert state.state == "completed"
        assert len(state.attempts) == 5
    await house.close()


async def _work(house: House, line: Any) -> None:
    """Plays an agent that completes everything, and reports until it is acknowledged."""
    while True:
        for attempt_id in {item.attempt_id for item in line.assigned} - set(line.acknowledged):
            with suppress(StoreUnavailable):
                report = Report(attempt_id, "completed", output={})
                await house.agents.report(house.member(), report)
        await asyncio.sleep(0.02)


async def _state(house: House, execution_id: str) -> Any:
    while True:
        with suppress(StoreUnavailable):
            return await house.engine.execution(execution_id)
        await asyncio.sleep(0.05)


async def test_a_submission_whose_commit_arrived_unseen_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await _house(tmp_path)
    commit = house.store.commit

    async def lost(*ops: Any) -> Any:
        await commit(*ops)
        monkeypatch.setattr(house.store, "commit", commit)
        raise StoreUnavailable("the connection was lost inside COMMIT")

    monkeypatch.setattr(house.store, "commit", lost)
    run = await house.submit(look("a"))
    await house.end(run, "a")
    assert (await house.state(run)).state == "completed"
    await house.close()


async def test_a_submission_that_arrived_unseen_runs_even_if_its_caller_never_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await _house(tmp_path)
    line = house.lines["a1"]
    commit, events, chain = house.store.commit, house.store.events, house.store.chain

    async def lost(*ops: Any) -> Any:
        await commit(*ops)
        raise StoreUnavailable("the connection was lost inside COMMIT")

    async def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("down")

    monkeypatch.setattr(house.store, "commit", lost)
    for name in ("events", "chain"):
        monkeypatch.setattr(house.store, name, down)
    with pytest.raises(StoreUnavailable):
        await house.submit(look("a"))
    monkeypatch.setattr(house.store, "commit", commit)
    monkeypatch.setattr(house.store, "events", events)
    monkeypatch.setattr(house.store, "chain", chain)
    async with asyncio.timeout(PATIENCE):
        while not line.assigned:  # noqa: ASYNC110 - the line only writes down
            await asyncio.sleep(0.02)
    await house.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; skips where none may be mounted, and fails there under CI=true."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("a tmpfs cannot be mounted")
        pytest.skip("a tmpfs cannot be mounted: run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_and_takes_up_where_it_was_once_there_is_room(
    small_disk: Path,
) -> None:
    house = await _house(small_disk)
    run = await house.submit(look("a"), look("b"), mode="sequential")
    attempt = await house.live(run, "a")
    filler = small_disk / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
            file.flush()
    with pytest.raises(StoreUnavailable):
        await _submit_until_it_is_full(house)
    report = Report(attempt.attempt_id, "completed", output={"x": "y" * 200_000})
    with pytest.raises(StoreUnavailable):
        await house.agents.report(house.member(), report)
    assert house.lines["a1"].acknowledged == []
    filler.unlink()
    await house.agents.report(house.member(), report)
    assert house.lines["a1"].acknowledged == [attempt.attempt_id]
    await house.end(run, "b")
    assert (await house.state(run)).state == "completed"
    await house.close()


async def _submit_until_it_is_full(house: House) -> None:
    for _ in range(200):
        await house.submit(look("x"))


async def _house(folder: Path) -> House:
    house = await House.open(f"sqlite:///{folder}/store.sqlite")
    await house.enrol("a1")
    await house.connect("a1")
    return house
