"""Every executor beside a real counterpart, with what one suite needs to try it.

A new executor joins the suite by one more function here, named in SUBJECTS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import MemorySink, ssh_executor, target_of
from helpers.receivers import receiver, self_signed
from helpers.servers import MARIADB_ADMIN, free_port
from helpers.sshd import standin_server
from helpers.wsman_server import WsmanServer
from opsconductor.agent.executors.aws.cli import AwsCliExecutor
from opsconductor.agent.executors.aws.sdk import AwsSdkExecutor
from opsconductor.agent.executors.base import Call
from opsconductor.agent.executors.communication.executor import CommunicationExecutor
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.command import DatabaseCommandExecutor
from opsconductor.agent.executors.database.executor import DatabaseExecutor
from opsconductor.agent.executors.http.executor import HttpExecutor
from opsconductor.agent.executors.inventory import InventoryExecutor, InventoryRequest
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.mock import MockExecutor, MockReply
from opsconductor.agent.executors.snmp import SnmpExecutor
from opsconductor.agent.executors.winrm.executor import WinRmExecutor
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    AwsCall,
    HttpRequest,
    InternalCall,
    Message,
    RedisCommand,
    Rendered,
    ScriptCommand,
    SnmpRequest,
    SqlStatement,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from opsconductor.agent.executors.base import Executor

SECRET = "s3cret-of-the-agent"
_ONE_INSTANCE = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1}
_NOWHERE = {"name": "gone-01", "address": "127.0.0.1", "credential": "c"}


@dataclass
class Subject:
    """One executor and the calls to try it with."""

    executor: Executor
    works: Rendered
    """Reads something and ends well."""
    bad: Rendered
    """Can be sent by nobody."""
    slow: Rendered
    """Takes much longer than any test."""
    target: Mapping[str, Any] | None = None
    echo: Rendered | None = None
    """Its output holds SECRET."""
    large: Rendered | None = None
    """Has more than 100,000 bytes of output, which the executor itself has to limit."""
    dry_run: Rendered | None = None
    """A change that is only tried."""
    nowhere: Mapping[str, Any] | None = None
    """A target that is not there."""
    change_is_ended: bool = True
    """Whether a change can be ended; else what became of it is unknown."""
    begun: Callable[[], bool] | None = None
    """Whether the slow call has arrived; None where there is nothing to see."""
    wrong: Rendered = field(default_factory=lambda: InternalCall("no_such_handler"))


def _secret(kind: str, user: str = "", **settings: str) -> Credential:
    return Credential(kind, user, password=SECRET, settings=tuple(settings.items()))


def _commands(executor: Executor, target: Mapping[str, Any] | None, **more: Any) -> Subject:
    return Subject(
        executor,
        works=ArgvCommand(("echo", "hello")),
        bad=ArgvCommand(("echo", "a\0b")),
        slow=ScriptCommand("sh", "sleep 3020"),
        echo=ArgvCommand(("echo", f"x{SECRET}y")),
        target=target,
        **more,
    )


@contextlib.asynccontextmanager
async def _local(_request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    grace = timedelta(seconds=0.5)
    yield _commands(LocalExecutor(grace=grace, linger=timedelta(seconds=0.2)), None)


@contextlib.asynccontextmanager
async def _ssh(_request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Subject]:
    async with standin_server(folder / "ssh") as server:
        nowhere = target_of(server, port=free_port())
        yield _commands(ssh_executor(server), target_of(server), nowhere=nowhere)


@contextlib.asynccontextmanager
async def _winrm(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Subject]:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    (folder / "users").write_text(f":ops:{SECRET}\n")
    patch.setenv("NTLM_USER_FILE", str(folder / "users"))
    pem = self_signed(folder)
    server = WsmanServer(pem, password=SECRET)
    credential = _secret("winrm", "ops", ca_file=str(pem))
    target = {"name": "win-01", "address": "127.0.0.1", "connection": "winrm", "port": server.port}
    try:
        executor = WinRmExecutor(lambda _: credential)
        subject = _commands(executor, target, nowhere={**target, "port": free_port()})
        subject.slow = ScriptCommand("cmd", "sleep 3021")
        yield subject
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def _http(_request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    body = b"x" * 200_000
    async with (
        receiver(answer=f'"{SECRET}"'.encode()) as quick,
        receiver(status=None) as silent,
        receiver(answer=body) as long,
    ):
        ask = {"body": b"{}", "headers": (("Content-Type", "application/json"),)}
        yield Subject(
            HttpExecutor(),
            works=HttpRequest("POST", quick.url, **ask),  # type: ignore[arg-type]
            bad=HttpRequest("GET", "http://[::1/"),
            slow=HttpRequest("POST", silent.url, **ask),  # type: ignore[arg-type]
            echo=HttpRequest("POST", quick.url, **ask),  # type: ignore[arg-type]
            large=HttpRequest("POST", long.url, max_body_bytes=1_000_000, **ask),  # type: ignore[arg-type]
            change_is_ended=False,
            begun=silent.arrived.is_set,
        )


def _sql(
    dialect: Any, credential: Credential, target: Any, database: str, slow: str, large: str
) -> Subject:
    def call(text: str, *binds: Any, **more: Any) -> SqlStatement:
        return SqlStatement(dialect, text, binds, database, **{"row_limit": 100_000, **more})

    making = "INSERT INTO rows_of_dry_run VALUES (1)"
    return Subject(
        DatabaseExecutor(lambda _: credential),
        works=call("SELECT 1 AS one"),
        bad=call(" "),
        slow=call(slow),
        echo=call("SELECT ? || 'y' AS x" if dialect != "mysql" else "SELECT ? AS x", SECRET),
        large=call(large),
        dry_run=call(making, read_only=False, dry_run=True),
        target=target,
        nowhere={**_NOWHERE, "port": free_port()} if target else None,
    )


@contextlib.asynccontextmanager
async def _postgres(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    cluster = request.getfixturevalue("postgres")
    url = cluster.new_database()
    cluster.execute(url, "CREATE TABLE rows_of_dry_run (a int)")
    yield _sql(
        "postgresql",
        _secret("database", "opsc"),
        {"name": "db-01", "address": "127.0.0.1", "port": cluster.port},
        url.rpartition("/")[2],
        "SELECT pg_sleep(600)",
        "SELECT repeat('x', 100) AS x FROM generate_series(1, 3000)",
    )


@contextlib.asynccontextmanager
async def _mysql(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    server = request.getfixturevalue("mariadb")
    user, password = MARIADB_ADMIN
    subject = _sql(
        "mysql",
        Credential("database", user, password=password),
        {"name": "db-01", "address": "127.0.0.1", "port": server.port},
        "shop",
        "SELECT SUM(a.seq * b.seq) FROM seq_1_to_9999999 a, seq_1_to_9999999 b",
        "SELECT REPEAT('x', 100) AS x FROM seq_1_to_3000",
    )
    table = "CREATE OR REPLACE TABLE rows_of_dry_run (a INT)"
    made = SqlStatement("mysql", table, (), "shop", read_only=False)
    await _once(subject, Call("a", made, subject.target, timedelta(seconds=30)))
    yield subject


@contextlib.asynccontextmanager
async def _sqlite(_request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Subject]:
    path = folder / "a.db"
    made = sqlite3.connect(path)
    made.execute("CREATE TABLE rows_of_dry_run (a)")
    made.close()
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n {}) "
    yield _sql(
        "sqlite",
        Credential(),
        None,
        str(path),
        numbers.format("") + "SELECT count(*) FROM n",
        numbers.format("LIMIT 3000") + "SELECT printf('%.100d', i) AS x FROM n",
    )


@contextlib.asynccontextmanager
async def _redis(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    server = request.getfixturevalue("redis_server")
    credential = Credential("database", password="redis-password")
    target = {"name": "cache-01", "address": "127.0.0.1", "port": server.port}
    yield Subject(
        DatabaseExecutor(lambda _: credential),
        works=RedisCommand(("PING",)),
        bad=RedisCommand(("SUBSCRIBE", "x")),
        slow=RedisCommand(("XREAD", "BLOCK", "0", "STREAMS", "conformance", "$")),
        echo=RedisCommand(("ECHO", SECRET)),
        target=target,
        nowhere={**_NOWHERE, "port": free_port()},
    )


@contextlib.asynccontextmanager
async def _database_command(
    request: pytest.FixtureRequest, _folder: Path
) -> AsyncIterator[Subject]:
    cluster = request.getfixturevalue("postgres")
    local = LocalExecutor(grace=timedelta(seconds=0.5))
    login = _secret("database", "opsc")

    def asking(sql: str) -> ArgvCommand:
        where = ("-h", "127.0.0.1", "-p", str(cluster.port), "-d", "postgres")
        return ArgvCommand(("psql", *where, "-Atc", sql))

    yield Subject(
        DatabaseCommandExecutor(lambda _: login, local),
        works=asking("SELECT 1"),
        bad=asking("SELECT '\0'"),
        slow=asking("SELECT pg_sleep(600)"),
        echo=asking(f"SELECT '{SECRET}'"),
        target={"name": "db-01", "address": "127.0.0.1", "port": cluster.port},
    )
    await local.close()


@contextlib.asynccontextmanager
async def _aws_sdk(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    proxy = request.getfixturevalue("aws")
    yield Subject(
        AwsSdkExecutor(lambda _: _aws_key(proxy.url)),
        works=AwsCall("ec2", "describe_regions"),
        bad=AwsCall("ec2", "no_such_operation"),
        slow=AwsCall("ec2", "describe_vpcs"),
        dry_run=AwsCall("ec2", "run_instances", _ONE_INSTANCE, dry_run=True),
        change_is_ended=False,
        begun=proxy.arrived.is_set,
    )


@contextlib.asynccontextmanager
async def _aws_cli(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    proxy = request.getfixturevalue("aws")
    program = str(Path(sys.executable).parent / "aws")
    if not os.access(program, os.X_OK):
        pytest.skip("the AWS CLI is not installed: pip install awscli")
    local = LocalExecutor(grace=timedelta(seconds=0.5))
    start = ("aws", "ec2", "run-instances", "--image-id", "ami-12c6146b", "--dry-run")
    yield Subject(
        AwsCliExecutor(lambda _: _aws_key(proxy.url), local, program=program),
        works=ArgvCommand(("aws", "ec2", "describe-regions")),
        bad=ArgvCommand(("aws", "ec2", "create-tags", "file:///etc/passwd")),
        slow=ArgvCommand(("aws", "ec2", "describe-vpcs")),
        dry_run=ArgvCommand(start),
        begun=proxy.arrived.is_set,
    )
    await local.close()


def _aws_key(url: str) -> Credential:
    settings = {"access_key_id": "AKIATEST", "region": "us-east-1", "endpoint_url": url}
    hidden = (("secret_access_key", SECRET),)
    return Credential("aws", settings=tuple(settings.items()), hidden=hidden)


@contextlib.asynccontextmanager
async def _communication(_request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    async with receiver(answer=SECRET.encode()) as quick, receiver(status=None) as silent:
        urls = {"quick": quick.url, "silent": silent.url}

        def credentials(reference: str) -> Credential:
            if reference == "smtp":
                return _secret("smtp", host="127.0.0.1", sender="a@b.c", security="off")
            return Credential("webhook", hidden=(("url", urls[reference]),))

        yield Subject(
            CommunicationExecutor(credentials),
            works=Message("slack", "quick", text="hello"),
            bad=Message("smtp", to=("a@b.c",), subject="a\nBcc: x@y.z"),
            slow=Message("slack", "silent", text="hello"),
            echo=Message("webhook", "quick", data={}),
            change_is_ended=False,
            begun=silent.arrived.is_set,
        )


@contextlib.asynccontextmanager
async def _snmp(request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    device = request.getfixturevalue("snmpd")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr("opsconductor.agent.executors.snmp._ANSWER_WITHIN", 60.0)
    settings = (("version", "2c"),)
    hidden = (("community", "private-community"),)
    credential = Credential("snmp", settings=settings, hidden=hidden)
    target = {"name": "switch-01", "address": "127.0.0.1", "port": device.port}
    yield Subject(
        SnmpExecutor(lambda _: credential),
        works=SnmpRequest("walk", ("1.3.6.1.2.1.1",)),
        bad=SnmpRequest("get", ("sysName",)),
        slow=SnmpRequest("get", ("1.3.6.1.2.1.1.5.0",)),
        target=target,
        change_is_ended=False,
    )


@contextlib.asynccontextmanager
async def _inventory(_request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    async def query(request: InventoryRequest) -> dict[str, Any]:
        if request.args.get("slow"):
            await asyncio.Event().wait()
        return {"total_count": 6}

    yield Subject(
        InventoryExecutor(query),
        works=InternalCall("asset_query", {"type": "windows_workstation"}),
        bad=InternalCall("drop_everything"),
        slow=InternalCall("asset_query", {"slow": True}),
        wrong=ArgvCommand(("true",)),
    )


@contextlib.asynccontextmanager
async def _mock(_request: pytest.FixtureRequest, _folder: Path) -> AsyncIterator[Subject]:
    slow = MockReply(delay=timedelta(hours=1))
    replies = {"works": MockReply(b"hello"), "slow": slow, "echo": MockReply(SECRET.encode())}
    yield Subject(
        MockExecutor(replies),
        works=ArgvCommand(("works",)),
        bad=ArgvCommand(("unknown",)),
        slow=ArgvCommand(("slow",)),
        echo=ArgvCommand(("echo",)),
        wrong=ArgvCommand(("unknown",)),
    )


async def _once(subject: Subject, call: Call) -> None:
    outcome = await subject.executor.run(call, MemorySink(), asyncio.Event())
    assert outcome.state == "completed", outcome.error


Making = Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[Subject]]
SUBJECTS: dict[str, Making] = {
    "local-command": _local,
    "ssh": _ssh,
    "winrm": _winrm,
    "http": _http,
    "postgresql": _postgres,
    "mysql": _mysql,
    "sqlite": _sqlite,
    "redis": _redis,
    "database-command": _database_command,
    "aws-sdk": _aws_sdk,
    "aws-cli": _aws_cli,
    "communication": _communication,
    "snmp": _snmp,
    "inventory": _inventory,
    "mock": _mock,
}
"""How each subject is made, by its name."""
