"""SQLite files and Redis: what only they do."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from helpers.databases import Client, login, told
from helpers.places import MemorySink, until
from helpers.servers import redis_server as redis_server
from opsconductor.agent.executors.credential import Credential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from helpers.servers import Server


@pytest.fixture
async def redis_client(redis_server: Server) -> AsyncIterator[Client]:
    client = Client(login(password="redis-password"), redis_server.port)
    await client.redis("FLUSHALL")
    client.sink = MemorySink()
    yield client
    await client.executor.close()


@pytest.mark.parametrize("where", ["relative.db", "/nonexistent/x.db", "/tmp", ""])
async def test_sqlite_opens_only_a_file_that_is_there(where: str) -> None:
    client = Client(Credential(), 1, where)
    client.target = {}
    assert told(await client.sql("sqlite", "SELECT 1"))[:3] == (
        "failed",
        "none",
        "DATABASE_UNKNOWN",
    )


async def test_sqlite_never_opens_another_file(tmp_path: Path) -> None:
    path = tmp_path / "odd ?name#.db"
    sqlite3.connect(path).close()
    client = Client(Credential(), 1, str(path))
    client.target = {}
    outcome = await client.sql("sqlite", f"ATTACH '{tmp_path}/other.db' AS other", autocommit=True)
    assert told(outcome)[:2] == ("failed", "none")
    assert not (tmp_path / "other.db").exists()
    assert (await client.sql("sqlite", "SELECT 1 AS one")).output["rows"] == [{"one": 1}]


async def test_sqlite_locked_by_another_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsconductor.agent.executors.database.sqlite._LOCK_WAIT", 0.1)
    path = tmp_path / "busy.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN EXCLUSIVE")
    client = Client(Credential(), 1, str(path))
    client.target = {}
    outcome = await client.sql("sqlite", "INSERT INTO t VALUES (1)")
    other.close()
    assert told(outcome) == ("failed", "none", "LOCKED", "retryable")


async def test_sqlite_is_not_opened_for_another_host(tmp_path: Path) -> None:
    client = Client(Credential(), 1, str(tmp_path / "x"), connection="ssh")
    assert told(await client.sql("sqlite", "SELECT 1"))[2] == "TARGET_INVALID"


async def test_redis_arguments_are_data(redis_client: Client) -> None:
    nasty = ["", "a\r\nDEL x", "$5\r\n", "日本", "'\""]
    for number, value in enumerate(nasty):
        outcome = await redis_client.redis("SET", f"k{number}", value)
        assert (outcome.state, outcome.effects) == ("completed", "done"), outcome.error
        found = await redis_client.redis("GET", f"k{number}", read_only=True)
        assert (found.output["value"], found.effects) == (value, "none")


async def test_redis_answers_are_plain_json(redis_client: Client) -> None:
    await redis_client.redis("HSET", "h", "a", "1", "b", "2")
    assert (await redis_client.redis("HGETALL", "h")).output["value"] == {"a": "1", "b": "2"}
    assert (await redis_client.redis("DBSIZE")).output["value"] == 1
    assert "redis_version" in (await redis_client.redis("INFO", "server")).output["value"]
    assert (await redis_client.redis("GET", "nothing")).output["value"] is None


async def test_redis_refuses_a_change_in_a_step_that_may_only_read(redis_client: Client) -> None:
    outcome = await redis_client.redis("DEL", "k", read_only=True)
    assert told(outcome)[:3] == ("failed", "none", "READ_ONLY")


@pytest.mark.parametrize("name", ["SUBSCRIBE", "monitor", "AUTH", "MULTI", "select"])
async def test_redis_refuses_what_is_no_request(redis_client: Client, name: str) -> None:
    assert told(await redis_client.redis(name, "x"))[2] == "COMMAND_UNSUPPORTED"


async def test_redis_errors_are_told(redis_client: Client) -> None:
    await redis_client.redis("SET", "k", "text")
    outcome = await redis_client.redis("INCR", "k")
    assert told(outcome)[:3] == ("failed", "none", "REDIS_ERROR")
    assert outcome.error is not None
    assert "not an integer" in outcome.error.message


async def test_a_blocking_redis_command_is_cancelled_on_the_server(redis_client: Client) -> None:
    running = asyncio.create_task(redis_client.redis("BLPOP", "queue", "0"))
    await until(lambda: _redis_blocked(redis_client))
    redis_client.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.survivors) == ("cancelled", ())
    assert not _redis_blocked(redis_client)


def _redis_blocked(client: Client) -> bool:
    port = str(client.target["port"])
    command = ["redis-cli", "--no-auth-warning", "-a", "redis-password", "-p", port, "CLIENT"]
    done = subprocess.run([*command, "LIST"], capture_output=True, text=True, check=True)
    return "cmd=blpop" in done.stdout


async def test_a_wrong_redis_password_is_told(redis_server: Server) -> None:
    client = Client(login(password="wrong-password"), redis_server.port)
    assert told(await client.redis("PING"))[:3] == ("failed", "none", "AUTH_FAILED")
    await client.executor.close()


async def test_redis_lost_in_flight_is_unknown_and_then_comes_back(
    redis_client: Client, redis_server: Server
) -> None:
    running = asyncio.create_task(redis_client.redis("BLPOP", "queue", "0"))
    await until(lambda: _redis_blocked(redis_client))
    redis_server.kill()
    assert told(await running) == ("unknown", "possible", "CONNECTION_LOST", "unknown")
    assert told(await redis_client.redis("PING"))[:2] == ("unreachable", "none")
    redis_server.start()
    assert (await redis_client.redis("PING")).state == "completed"
