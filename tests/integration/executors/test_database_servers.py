"""What database servers do to a call: logins, deaths, conflicts, types; and Redis."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from helpers.databases import Client, login, told
from helpers.places import until
from helpers.postgres import Cluster, private_cluster
from helpers.servers import MARIADB_ADMIN, Server, free_port
from helpers.servers import mariadb as mariadb
from helpers.servers import redis_server as redis_server
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.executor import DatabaseExecutor
from opsconductor.tool_registry.rendering.rendered import SqlStatement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as running:
        yield running


@pytest.fixture
async def postgres_client(cluster: Cluster) -> AsyncIterator[Client]:
    url = cluster.new_database()
    client = Client(login("opsc"), cluster.port, url.rpartition("/")[2])
    yield client
    await client.executor.close()


@pytest.fixture
async def mysql_client(mariadb: Server) -> AsyncIterator[Client]:
    client = Client(login(*MARIADB_ADMIN), mariadb.port, "shop")
    yield client
    await client.executor.close()


async def test_postgres_values_become_what_the_column_wants(postgres_client: Client) -> None:
    sql = """SELECT ?::int AS i, ?::numeric AS n, ?::bool AS b, ?::timestamptz AS t, ?::jsonb AS j,
        ?::uuid AS u, ?::text AS x, ?::int[] AS a, ?::bytea AS y, ?::inet AS ip,
        9007199254740993 AS big,
        'NaN'::float AS nan, '\\xff'::bytea AS raw, ?::text IS NULL AS absent"""
    values = ("7", "1.50", "true", "2026-01-02T03:04:05", '{"a": [1]}')
    values += ("00000000-0000-0000-0000-000000000001", 12, ["1", "2"], "hé", "10.0.0.1", None)  # type: ignore[assignment]
    outcome = await postgres_client.sql("postgresql", sql, *values)
    assert outcome.state == "completed", outcome.error
    (row,) = outcome.output["rows"]
    assert row == {
        "i": 7,
        "n": "1.50",
        "b": True,
        "t": "2026-01-02T03:04:05+00:00",
        "j": '{"a": [1]}',
        "u": "00000000-0000-0000-0000-000000000001",
        "x": "12",
        "a": [1, 2],
        "y": "hé",
        "ip": "10.0.0.1",
        "big": "9007199254740993",
        "nan": "nan",
        "raw": {"base64": "/w=="},
        "absent": True,
    }


async def test_postgres_refuses_a_value_of_another_type(postgres_client: Client) -> None:
    outcome = await postgres_client.sql("postgresql", "SELECT ?::int", "seven")
    assert told(outcome)[:3] == ("failed", "none", "BIND_INVALID")


async def test_postgres_operators_with_question_marks_are_written_twice(
    postgres_client: Client,
) -> None:
    sql = """SELECT '{"a": 1}'::jsonb ?? ? AS has, $$ ? $$ AS raw, E'\\'?' AS escaped"""
    outcome = await postgres_client.sql("postgresql", sql, "a")
    assert outcome.output["rows"] == [{"has": True, "raw": " ? ", "escaped": "'?"}]


async def test_postgres_runs_outside_a_transaction_when_the_tool_says_so(
    postgres_client: Client,
) -> None:
    outcome = await postgres_client.sql("postgresql", "VACUUM", autocommit=True)
    assert (outcome.state, outcome.effects) == ("completed", "done")
    assert told(await postgres_client.sql("postgresql", "VACUUM"))[2] == "SQL_ERROR"
    outcome = await postgres_client.sql("postgresql", "VACUUM", autocommit=True, dry_run=True)
    assert told(outcome)[2] == "DRY_RUN_IMPOSSIBLE"


async def test_a_pool_survives_the_death_of_its_server(cluster: Cluster) -> None:
    client = Client(login("opsc"), cluster.port, "postgres")
    try:
        assert (await client.sql("postgresql", "SELECT 1")).state == "completed"
        cluster.stop()
        outcome = await client.sql("postgresql", "SELECT 1")
        assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")
        assert outcome.error is not None
        assert f"127.0.0.1:{cluster.port}" in outcome.error.message
        cluster.start()
        assert (await client.sql("postgresql", "SELECT 1")).state == "completed"
    finally:
        await client.executor.close()


@pytest.mark.parametrize(
    ("read_only", "expected"),
    [
        (True, ("unreachable", "none", "CONNECTION_LOST", "unreachable")),
        (False, ("unknown", "possible", "CONNECTION_LOST", "unknown")),
    ],
)
async def test_postgres_lost_in_flight_is_unknown_for_changes(
    postgres_client: Client, cluster: Cluster, read_only: bool, expected: tuple[str, ...]
) -> None:
    sql = "SELECT pg_sleep(600)"
    running = asyncio.create_task(postgres_client.sql("postgresql", sql, read_only=read_only))
    url = f"postgresql://x/{postgres_client.database}"
    await until(lambda: _asks(cluster, postgres_client.database))
    await asyncio.to_thread(cluster.end_connections, url)
    assert told(await running) == expected
    assert (await postgres_client.sql("postgresql", "SELECT 1")).state == "completed"


def _asks(cluster: Cluster, database: str) -> bool:
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        f" AND datname = '{database}' AND query LIKE '%pg_sleep%'"
    )
    command = ["psql", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "opsc", "-Atc", sql]
    done = subprocess.run([*command, "postgres"], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "1"


async def test_mysql_lost_in_flight_is_unknown_for_changes(
    mysql_client: Client, mariadb: Server
) -> None:
    running = asyncio.create_task(
        mysql_client.sql(
            "mysql", "SELECT SUM(a.seq*b.seq) FROM seq_1_to_9999999 a, seq_1_to_9999999 b"
        )
    )
    works = mysql_client.executor._backends
    await until(lambda: "mysql" in works and not running.done() and _mysql_busy(mariadb))
    mariadb.kill()
    assert told(await running) == ("unknown", "possible", "CONNECTION_LOST", "unknown")
    outcome = await mysql_client.sql("mysql", "SELECT 1")
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")
    mariadb.start()
    assert (await mysql_client.sql("mysql", "SELECT 1")).state == "completed"


def _mysql_busy(server: Server) -> bool:
    user, password = MARIADB_ADMIN
    sql = (
        "SELECT COUNT(*) FROM information_schema.processlist"
        " WHERE info LIKE '%seq_1%' AND info NOT LIKE '%processlist%'"
    )
    command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(server.port)]
    done = subprocess.run(
        [*command, f"-u{user}", f"-p{password}", "-Ne", sql],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() != "0"


async def test_mysql_dry_run_on_a_table_without_transactions_is_told(mysql_client: Client) -> None:
    await mysql_client.sql("mysql", "CREATE OR REPLACE TABLE flat (a INT) ENGINE=MyISAM")
    outcome = await mysql_client.sql("mysql", "INSERT INTO flat VALUES (1)", dry_run=True)
    assert told(outcome) == ("failed", "done", "NOT_ROLLED_BACK", "rollback_required")


async def test_mysql_has_no_dry_run_of_what_ends_the_transaction(mysql_client: Client) -> None:
    for sql in ("DROP TABLE nothing", "/* x */ CREATE TABLE t (a INT)", "TRUNCATE flat"):
        outcome = await mysql_client.sql("mysql", sql, dry_run=True)
        assert told(outcome)[:3] == ("failed", "none", "DRY_RUN_IMPOSSIBLE")


async def test_mysql_shows_what_it_cannot_prepare(mysql_client: Client) -> None:
    outcome = await mysql_client.sql("mysql", "SHOW PROCESSLIST", read_only=True)
    assert outcome.state == "completed", outcome.error
    assert outcome.output["rows"]


@pytest.mark.parametrize(
    ("dialect", "credential"),
    [("mysql", login("admin", "wrong-password")), ("mysql", login("nobody", "wrong-password"))],
)
async def test_a_refused_login_is_told(
    mariadb: Server, dialect: str, credential: Credential
) -> None:
    client = Client(credential, mariadb.port)
    outcome = await client.sql(dialect, "SELECT 1")
    assert told(outcome)[:3] == ("failed", "none", "AUTH_FAILED")
    await client.executor.close()


async def test_an_unknown_database_is_told(cluster: Cluster, mariadb: Server) -> None:
    for dialect, client in (
        ("postgresql", Client(login("opsc"), cluster.port, "nowhere")),
        ("mysql", Client(login(*MARIADB_ADMIN), mariadb.port, "nowhere")),
    ):
        outcome = await client.sql(dialect, "SELECT 1")
        assert told(outcome)[:3] == ("failed", "none", "DATABASE_UNKNOWN")
        await client.executor.close()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "redis"])
async def test_a_closed_port_is_unreachable(dialect: str) -> None:
    port = free_port()
    client = Client(login("x", "secret-password"), port)
    outcome = await (
        client.redis("PING") if dialect == "redis" else client.sql(dialect, "DELETE FROM x")
    )
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")
    assert outcome.error is not None
    assert f"127.0.0.1:{port}" in outcome.error.message
    assert "secret-password" not in outcome.error.message
    await client.executor.close()


async def test_a_silent_server_times_out_before_anything_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(login("x"), silent.getsockname()[1])
        call = SqlStatement("postgresql", "DELETE FROM x", read_only=False)
        outcome = await client.run(call, seconds=0.5)
        assert told(outcome)[:3] == ("timed_out", "none", "TIMEOUT")
        await client.executor.close()


async def test_too_many_connections_are_throttling(cluster: Cluster) -> None:
    database = cluster.new_database().rpartition("/")[2]
    cluster.execute(f"postgresql://x/{database}", f"ALTER DATABASE {database} CONNECTION LIMIT 0")
    cluster.execute("postgresql://x/postgres", "CREATE ROLE plain LOGIN")
    client = Client(login("plain"), cluster.port, database)
    outcome = await client.sql("postgresql", "SELECT 1")
    assert told(outcome) == ("failed", "none", "TOO_MANY_CONNECTIONS", "throttled")
    await client.executor.close()


async def test_a_conflict_can_be_tried_again(postgres_client: Client) -> None:
    await postgres_client.sql("postgresql", "CREATE TABLE t (a int)")
    outcome = await postgres_client.sql(
        "postgresql", "DO $$ BEGIN RAISE 'x' USING ERRCODE='40001'; END $$"
    )
    assert told(outcome) == ("failed", "none", "CONFLICT", "retryable")


async def test_a_missing_credential_or_target_is_told_before_anything_is_sent() -> None:
    def none(reference: str) -> Credential:
        raise LookupError(f"credential {reference!r} is not here")

    client = Client(login("x"), 1)
    client.executor = DatabaseExecutor(none)
    assert told(await client.sql("mysql", "SELECT 1"))[2] == "CREDENTIAL_UNKNOWN"
    client.executor = DatabaseExecutor(lambda _: Credential(kind="ssh", username="x"))
    assert told(await client.sql("mysql", "SELECT 1"))[2] == "CREDENTIAL_INVALID"
    client.executor = DatabaseExecutor(lambda _: replace(login("x"), hosts=("10.0.0.0/8", "db.*")))
    assert told(await client.sql("mysql", "SELECT 1"))[2] == "CREDENTIAL_DENIED"
    client.target = {}
    assert told(await client.sql("mysql", "SELECT 1"))[2] == "TARGET_INVALID"


async def test_a_server_without_tls_is_not_asked_where_tls_is_wanted(cluster: Cluster) -> None:
    client = Client(login("opsc", tls="verify"), cluster.port, "postgres")
    outcome = await client.sql("postgresql", "SELECT 1")
    assert told(outcome)[:2] == ("unreachable", "none")
    assert outcome.error is not None
    assert "tls: off" in outcome.error.message
    await client.executor.close()


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsconductor.agent.executors.database.executor.find_spec", lambda _: None)
    outcome = await Client(login("x"), 1).sql("mysql", "SELECT 1")
    assert told(outcome)[:3] == ("failed", "none", "LIBRARY_MISSING")
    assert outcome.error is not None
    assert "asyncmy" in outcome.error.message
