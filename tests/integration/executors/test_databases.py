"""The database executor against real servers: what all kinds do alike, and what each does."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from helpers.places import MemorySink, until
from helpers.postgres import Cluster, private_cluster
from helpers.servers import MARIADB_ADMIN
from helpers.servers import mariadb as mariadb
from helpers.servers import redis_server as redis_server
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.executor import DatabaseExecutor
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, Rendered, SqlStatement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

NASTY = [
    "",
    "'",
    '"',
    "\\",
    "'; DROP TABLE shop; --",
    "a\nb",
    "%s ? $1",
    "日本 🎉",
    "\\' OR 1=1 -- ",
]


@dataclass
class Shop:
    """A database with a table ``shop (id, name)`` of three rows."""

    dialect: Literal["postgresql", "mysql", "sqlite"]
    executor: DatabaseExecutor
    target: dict[str, Any] | None
    database: str
    slow: str
    """A query that takes much longer than any test."""
    sink: MemorySink = field(default_factory=MemorySink)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, sql: str, *binds: Any, seconds: float = 30, **options: Any) -> Outcome:
        given = {"read_only": True, **options}
        statement = SqlStatement(self.dialect, sql, binds, self.database, **given)
        return await self.carry_out(statement, seconds=seconds)

    async def carry_out(
        self, rendered: Rendered, *, seconds: float = 30, read_only: bool = False
    ) -> Outcome:
        call = Call("att_1", rendered, self.target, timedelta(seconds=seconds), read_only=read_only)
        return await self.executor.run(call, self.sink, self.cancel)

    async def names(self) -> list[str]:
        outcome = await self.run("SELECT name FROM shop ORDER BY id", row_limit=100)
        assert outcome.state == "completed", outcome.error
        return [row["name"] for row in outcome.output["rows"]]


def told(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code


def login(user: str, password: str = "") -> Credential:
    return Credential(kind="database", username=user, password=password)


def executor(credential: Credential) -> DatabaseExecutor:
    return DatabaseExecutor(lambda _: credential, idle=timedelta(seconds=20))


def target(port: int) -> dict[str, Any]:
    return {"name": "db-01", "address": "127.0.0.1", "port": port, "credential": "db"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as running:
        yield running


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    made = make_shop(request.param, request, tmp_path)
    text = {"mysql": "VARCHAR(200)"}.get(made.dialect, "TEXT")
    write = {"read_only": False}
    for sql in (
        "DROP TABLE IF EXISTS shop",
        f"CREATE TABLE shop (id INTEGER PRIMARY KEY, name {text})",
        "INSERT INTO shop VALUES (1, 'ann'), (2, 'bob'), (3, 'cid')",
    ):
        outcome = await made.run(sql, **write)
        assert outcome.state == "completed", outcome.error
    made.sink = MemorySink()
    yield made
    await made.executor.close()


def make_shop(kind: str, request: pytest.FixtureRequest, folder: Path) -> Shop:
    if kind == "postgresql":
        url = request.getfixturevalue("cluster").new_database()
        port = int(url.rpartition(":")[2].partition("/")[0])
        database = url.rpartition("/")[2]
        return Shop(
            "postgresql", executor(login("opsc")), target(port), database, "SELECT pg_sleep(600)"
        )
    if kind == "mysql":
        server = request.getfixturevalue("mariadb")
        return Shop(
            "mysql",
            executor(login(*MARIADB_ADMIN)),
            target(server.port),
            "shop",
            "SELECT SUM(a.seq * b.seq) FROM seq_1_to_9999999 a, seq_1_to_9999999 b",
        )
    path = folder / "shop.db"
    sqlite3.connect(path).close()
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"
    return Shop("sqlite", executor(Credential()), None, str(path), slow)


async def test_rows_come_structured_and_as_lines(shop: Shop) -> None:
    outcome = await shop.run("SELECT id, name FROM shop WHERE name <> ? ORDER BY id", "bob")
    assert (outcome.state, outcome.effects) == ("completed", "none")
    rows = [{"id": 1, "name": "ann"}, {"id": 3, "name": "cid"}]
    assert outcome.output["columns"] == ["id", "name"]
    assert outcome.output["rows"] == rows
    assert (outcome.output["row_count"], outcome.output["truncated"]) == (2, False)
    assert [json.loads(line) for line in shop.sink.stdout.splitlines()] == rows


async def test_nasty_values_are_data(shop: Shop) -> None:
    for number, value in enumerate(NASTY, start=10):
        outcome = await shop.run("INSERT INTO shop VALUES (?, ?)", number, value, read_only=False)
        assert (outcome.state, outcome.effects) == ("completed", "done"), outcome.error
        assert outcome.output["rows_affected"] == 1
    assert await shop.names() == ["ann", "bob", "cid", *NASTY]


async def test_question_marks_in_texts_and_comments_are_no_places(shop: Shop) -> None:
    sql = "SELECT '?' AS mark, name /* ? */ FROM shop WHERE id = ? -- ?\n"
    outcome = await shop.run(sql, 2)
    assert outcome.output["rows"] == [{"mark": "?", "name": "bob"}], outcome.error


async def test_columns_of_one_name_are_told_apart(shop: Shop) -> None:
    outcome = await shop.run("SELECT 1 AS x, 2 AS x")
    assert outcome.output["rows"] == [{"x": 1, "x_2": 2}]


async def test_the_row_limit_cuts_and_says_so(shop: Shop) -> None:
    outcome = await shop.run("SELECT id FROM shop ORDER BY id", row_limit=2)
    assert [row["id"] for row in outcome.output["rows"]] == [1, 2]
    assert (outcome.output["row_count"], outcome.output["truncated"]) == (2, True)


async def test_a_large_result_is_cut_by_bytes_in_what_is_structured(shop: Shop) -> None:
    for number in range(100, 160):
        await shop.run("INSERT INTO shop VALUES (?, ?)", number, "x" * 190, read_only=False)
    sql = "SELECT a.name AS a, b.name AS b FROM shop a, shop b"
    shop.sink = MemorySink()
    outcome = await shop.run(sql, row_limit=1000)
    assert outcome.output["row_count"] == 1000
    assert shop.sink.stdout.count(b"\n") == 1000
    assert outcome.output["truncated"] is True
    assert len(json.dumps(outcome.output)) < 64 * 1024


async def test_a_dry_run_tells_and_changes_nothing(shop: Shop) -> None:
    outcome = await shop.run("DELETE FROM shop WHERE id > ?", 1, read_only=False, dry_run=True)
    assert (outcome.state, outcome.effects) == ("completed", "none")
    assert (outcome.output["rows_affected"], outcome.output["dry_run"]) == (2, True)
    assert await shop.names() == ["ann", "bob", "cid"]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM shop", "DROP TABLE shop", "CREATE TABLE t (a INTEGER)"]
)
async def test_a_step_that_may_only_read_cannot_change(shop: Shop, sql: str) -> None:
    assert told(await shop.run(sql)) == ("failed", "none", "READ_ONLY")
    statement = SqlStatement(shop.dialect, sql, (), shop.database, read_only=False)
    outcome = await shop.carry_out(statement, read_only=True)
    assert told(outcome) == ("failed", "none", "READ_ONLY")
    assert await shop.names() == ["ann", "bob", "cid"]


async def test_two_statements_are_refused_and_neither_is_done(shop: Shop) -> None:
    sql = "SELECT 1; DELETE FROM shop"
    assert told(await shop.run(sql, read_only=False))[:2] == ("failed", "none")
    assert await shop.names() == ["ann", "bob", "cid"]


@pytest.mark.parametrize(("sql", "binds"), [("SELECT ?", ()), ("SELECT 1", ("x",))])
async def test_a_wrong_number_of_values_is_refused(
    shop: Shop, sql: str, binds: tuple[str, ...]
) -> None:
    assert told(await shop.run(sql, *binds))[:2] == ("failed", "none")


async def test_a_mistake_in_the_statement_is_told_with_the_servers_words(shop: Shop) -> None:
    outcome = await shop.run("SELECT nothing FROM shop")
    assert told(outcome) == ("failed", "none", "SQL_ERROR")
    assert outcome.error is not None
    assert "nothing" in outcome.error.message
    assert (await shop.run("SELECT 1")).state == "completed"


@pytest.mark.parametrize("sql", ["", "  ", "SELECT '\0'"])
async def test_an_impossible_statement_is_refused(shop: Shop, sql: str) -> None:
    assert told(await shop.run(sql)) == ("failed", "none", "STATEMENT_INVALID")


async def test_a_nul_in_a_value_is_refused(shop: Shop) -> None:
    assert told(await shop.run("SELECT ?", "a\0b")) == ("failed", "none", "NUL_BYTE")


async def test_another_kind_of_call_is_refused(shop: Shop) -> None:
    outcome = await shop.carry_out(ArgvCommand(("true",)))
    assert told(outcome) == ("failed", "none", "METHOD_MISMATCH")


async def test_a_cancel_ends_the_query_on_the_server(shop: Shop) -> None:
    running = asyncio.create_task(shop.run(shop.slow))
    await until(lambda: _sent(shop))
    shop.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.effects, outcome.survivors) == ("cancelled", "none", ())
    shop.cancel = asyncio.Event()
    assert await running_queries(shop) == 0


async def test_a_timeout_ends_the_query_on_the_server(shop: Shop) -> None:
    outcome = await shop.run(shop.slow, seconds=0.7)
    assert (outcome.state, outcome.effects, outcome.survivors) == ("timed_out", "none", ())
    assert await running_queries(shop) == 0


async def test_a_cancel_before_the_start_sends_nothing(shop: Shop) -> None:
    shop.cancel.set()
    outcome = await shop.run("DELETE FROM shop", read_only=False)
    assert (outcome.state, outcome.effects) == ("cancelled", "none")
    shop.cancel = asyncio.Event()
    assert await shop.names() == ["ann", "bob", "cid"]


async def test_a_cancelled_change_is_rolled_back(shop: Shop) -> None:
    sql = f"INSERT INTO shop SELECT 9, 'zoe' WHERE ({shop.slow}) IS NOT NULL"
    if shop.dialect == "postgresql":
        sql = "INSERT INTO shop SELECT 9, 'zoe' FROM pg_sleep(600)"
    running = asyncio.create_task(shop.run(sql, read_only=False))
    await until(lambda: _sent(shop))
    shop.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.survivors) == ("cancelled", ())
    shop.cancel = asyncio.Event()
    assert await shop.names() == ["ann", "bob", "cid"]


async def test_many_statements_run_at_once(shop: Shop) -> None:
    async def one(number: int) -> int:
        outcome = await replace(shop, sink=MemorySink()).run("SELECT ? + 0 AS n", number)
        assert outcome.state == "completed", outcome.error
        return int(outcome.output["rows"][0]["n"])

    assert await asyncio.gather(*(one(number) for number in range(20))) == list(range(20))


def _sent(shop: Shop) -> bool:
    """Tells whether the server has the statement, seen from the outside."""
    if shop.dialect == "sqlite":
        return bool(shop.executor._backends["sqlite"]._open)  # type: ignore[attr-defined]
    return _count_running(shop) > 0


def _count_running(shop: Shop) -> int:
    assert shop.target is not None
    port = str(shop.target["port"])
    if shop.dialect == "postgresql":
        command = ["psql", "-h", "127.0.0.1", "-p", port, "-U", "opsc", "-Atc"]
        command += [
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND query LIKE '%pg_sleep(600)%' AND query NOT LIKE '%pg_stat%'",
            "postgres",
        ]
    else:
        user, password = MARIADB_ADMIN
        command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", port]
        command += [f"-u{user}", f"-p{password}", "-Ne"]
        command += [
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE info LIKE '%seq_1_to%' AND info NOT LIKE '%processlist%'"
        ]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


async def running_queries(shop: Shop) -> int:
    if shop.dialect == "sqlite":
        return len(shop.executor._backends["sqlite"]._open)  # type: ignore[attr-defined]
    return await asyncio.to_thread(_count_running, shop)
