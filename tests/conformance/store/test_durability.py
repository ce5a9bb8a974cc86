"""What was acknowledged is there after a crash; what was not is told apart honestly."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection

from conformance.store.samples import NOON, append, append_output, stored_event
from opsconductor.orchestrator.store.base import SequenceConflict, SetMeta
from opsconductor.orchestrator.store.store import Store
from opsconductor.rpc.errors import StoreLocked, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.postgres import Cluster

_TESTS = Path(__file__).parents[2]
_WRITER = """
import asyncio, sys
from conformance.store.samples import NOON, append
from opsconductor.orchestrator.store.store import Store

async def main():
    store = await Store.open(sys.argv[1], clock=lambda: NOON)
    for seq in range(1, 10_000):
        await store.commit(append("exe_1", seq))
        print(seq, flush=True)

asyncio.run(main())
"""


async def _write_until_killed(url: str, failpoint: str) -> int:
    """Returns the last event number the writer was told is durable."""
    environment = {
        **os.environ,
        "OPSCONDUCTOR_FAILPOINTS": "1",
        "OPSCONDUCTOR_FAILPOINT": failpoint,
        "PYTHONPATH": str(_TESTS),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, url, stdout=asyncio.subprocess.PIPE, env=environment
    )
    lines, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    return int(lines.split()[-1])


@pytest.mark.parametrize(
    ("failpoint", "written"),
    [("store.before_commit:kill9:20", 19), ("store.after_commit:kill9:20", 20)],
)
async def test_a_killed_process_leaves_exactly_what_it_committed(
    store_url: str, failpoint: str, written: int
) -> None:
    acknowledged = await _write_until_killed(store_url, failpoint)
    assert acknowledged == 19
    store = await Store.open(store_url, clock=lambda: NOON)
    assert await store.events("exe_1") == tuple(stored_event(n + 1) for n in range(written))
    await store.close()


async def test_a_second_store_on_one_sqlite_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    with pytest.raises(StoreLocked) as caught:
        await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    assert str(path) in caught.value.message
    assert str(os.getpid()) in caught.value.message
    await store.close()
    again = await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    await again.close()


async def test_the_sqlite_file_is_closed_to_other_accounts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.sqlite"
    store = await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    await store.commit(append("exe_1", 1))
    modes = {item.name: item.stat().st_mode & 0o077 for item in path.parent.iterdir()}
    assert len(modes) == 4  # the file, its log, its index and its lock
    assert set(modes.values()) == {0}
    assert path.parent.stat().st_mode & 0o077 == 0
    await store.close()


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"file/store\.sqlite"):
        await Store.open(f"sqlite:///{tmp_path}/file/store.sqlite", clock=lambda: NOON)


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes " * 50)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    assert path.read_text().startswith("not a database, but")


async def test_reads_do_not_wait_for_a_writer_that_is_blocked(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = await Store.open(f"sqlite:///{path}", clock=lambda: NOON)
    await store.commit(append("exe_1", 1))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(store.commit(append("exe_1", 2)))
    assert await store.events("exe_1") == (stored_event(1),)
    assert not writing.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await writing == [None]
    await store.close()


async def test_a_full_disk_takes_nothing_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/store.sqlite", clock=lambda: NOON)
    await store.commit(append("exe_1", 1))
    writer = store._database._writer  # type: ignore[attr-defined]

    def limit(pages: int) -> None:
        with writer.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await asyncio.to_thread(limit, 1)  # SQLite raises it to what is in use
    with pytest.raises(StoreUnavailable, match="full"):
        await store.commit(append_output("att", 0, bytes(1 << 20)), append("exe_1", 2))
    assert await store.events("exe_1") == (stored_event(1),)
    await asyncio.to_thread(limit, 1 << 20)
    assert await store.commit(append_output("att", 0, bytes(1 << 20))) == [1 << 20]
    await store.close()


def _losing_commits(
    monkeypatch: pytest.MonkeyPatch, times: int, *, arrives: bool
) -> Callable[[], int]:
    """Makes COMMIT end with a lost connection, after or before it reached the server."""
    commit = Connection.commit
    lost = 0

    def lose(connection: Connection) -> None:
        nonlocal lost
        if lost < times:
            lost += 1
            if arrives:
                commit(connection)
            raise ConnectionResetError("connection lost")
        commit(connection)

    monkeypatch.setattr(Connection, "commit", lose)
    return lambda: lost


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_connection_lost_inside_commit_is_looked_up_and_written_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    store = await Store.open(postgres_url, clock=lambda: NOON)
    await store.commit(append("exe_0", 1))
    lost = _losing_commits(monkeypatch, 1, arrives=arrives)
    outcomes = await asyncio.gather(
        store.commit(append("exe_1", 1), append_output("att", 0, b"out")),
        store.commit(append("exe_0", 1, text="late")),
        return_exceptions=True,
    )
    assert lost() == 1
    assert outcomes[0] == [None, 3]
    assert isinstance(outcomes[1], SequenceConflict)
    assert await store.events("exe_1") == (stored_event(1),)
    assert await store.events("exe_0") == (stored_event(1),)
    assert await store.output_length("att", 1) == 3
    await store.close()


async def test_a_lost_commit_without_events_is_repeated(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(postgres_url, clock=lambda: NOON)
    _losing_commits(monkeypatch, 1, arrives=True)
    assert await store.commit(SetMeta("key", "value"), append_output("att", 0, b"abc")) == [None, 3]
    assert await store.meta("key") == "value"
    assert await store.output_length("att", 1) == 3
    await store.close()


async def test_cut_connections_lose_and_repeat_nothing(
    postgres: Cluster, postgres_url: str
) -> None:
    store = await Store.open(postgres_url, clock=lambda: NOON)
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for seq in range(1, 41):
            await store.commit(append(f"exe_{writer}", seq))
            if writer == 0 and seq == 10:
                done.set()

    writers = [asyncio.create_task(write(writer)) for writer in range(8)]
    await done.wait()
    await asyncio.to_thread(postgres.end_connections, postgres_url)
    await asyncio.gather(*writers)
    for writer in range(8):
        events = await store.events(f"exe_{writer}")
        assert [event.seq for event in events] == [*range(1, 41)]
    await store.close()


async def test_two_orchestrators_racing_for_one_chain_agree(postgres_url: str) -> None:
    stores = [await Store.open(postgres_url, clock=lambda: NOON) for _ in range(2)]

    async def race(index: int) -> int:
        won = 0
        for seq in range(1, 31):
            try:
                await stores[index].commit(append("exe_1", seq, text=f"of-{index}"))
            except SequenceConflict:
                continue
            won += 1
        return won

    assert sum(await asyncio.gather(race(0), race(1))) == 30
    assert [event.seq for event in await stores[0].events("exe_1")] == [*range(1, 31)]
    await stores[0].commit(append_output("att", 0, b"abc"))
    await stores[1].commit(append_output("att", 3, b"def"))
    # The first store still believes that the stream ends at 3.
    assert await stores[0].commit(append_output("att", 3, b"defg")) == [7]
    for store in stores:
        await store.close()


async def test_a_stopped_server_is_unavailable_and_used_again_when_back() -> None:
    from helpers.postgres import private_cluster

    with private_cluster() as cluster:
        store = await Store.open(cluster.new_database(), clock=lambda: NOON)
        await store.commit(append("exe_1", 1))
        await asyncio.to_thread(cluster.stop)
        with pytest.raises(StoreUnavailable):
            await store.commit(append("exe_1", 2))
        with pytest.raises(StoreUnavailable):
            await store.events("exe_1")
        await asyncio.to_thread(cluster.start)
        assert await store.commit(append("exe_1", 2)) == [None]
        assert await store.events("exe_1") == (stored_event(1), stored_event(2))
        await store.close()
