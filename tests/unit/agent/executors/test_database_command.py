"""Client programs of databases get their login by a file nobody else can read."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import MemorySink
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.database.command import LOGIN_FILE, DatabaseCommandExecutor
from opsconductor.tool_registry.rendering.rendered import (
    ArgvCommand,
    HttpRequest,
    Rendered,
    ScriptCommand,
)

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Sink

SECRET = "pass:word\\ '\"#"
TARGET = {"name": "db", "address": "127.0.0.1", "port": 5433, "credential": "db"}


@dataclass
class Local:
    """Notes what it would run, and what the login files hold at that time."""

    method: str = "local-command"
    call: Call | None = None
    files: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def run(self, call: Call, _sink: Sink, _cancel: asyncio.Event) -> Outcome:
        self.call = call
        words = [*call.env.values()]
        if isinstance(call.rendered, ArgvCommand):
            words += [word.partition("=")[2] for word in call.rendered.argv]
        self._note(words)
        return Outcome.ended(call, 0)

    def _note(self, words: list[str]) -> None:
        for word in words:
            if word.startswith("/") and (path := Path(word)).is_file():
                mode = stat.S_IMODE(path.stat().st_mode)
                self.files[path.name] = (path.read_text(), mode)

    async def close(self) -> None:
        """Keeps nothing."""


def is_gone(path: str) -> bool:
    return not os.path.lexists(path)


async def ran(
    rendered: Rendered, target: dict[str, Any] | None = None, **credential: Any
) -> tuple[Outcome, Local]:
    login = Credential("database", **{"username": "ops", "password": SECRET, **credential})
    local = Local()
    executor = DatabaseCommandExecutor(lambda _: login, local)
    call = Call("att", rendered, TARGET if target is None else target, timedelta(seconds=5))
    return await executor.run(call, MemorySink(), asyncio.Event()), local


async def test_libpq_gets_user_and_password_by_its_own_variables() -> None:
    outcome, local = await ran(ArgvCommand(("pg_dump", "--host=127.0.0.1")))
    assert outcome.state == "completed"
    assert local.call is not None
    assert local.call.rendered == ArgvCommand(("pg_dump", "--host=127.0.0.1"))
    assert (local.call.env["PGUSER"], local.call.env["PGSSLMODE"]) == ("ops", "disable")
    assert local.files == {"pgpass": ("*:*:*:*:pass\\:word\\\\ '\"#\n", 0o600)}


async def test_a_server_elsewhere_is_verified_unless_the_credential_says_otherwise() -> None:
    target = {**TARGET, "address": "192.0.2.7"}
    _, local = await ran(ArgvCommand(("pg_dump",)), target)
    assert local.call is not None
    assert local.call.env["PGSSLMODE"] == "verify-full"
    assert local.call.env["PGSSLROOTCERT"]
    _, local = await ran(ArgvCommand(("pg_dump",)), target, settings=(("tls", "require"),))
    assert local.call is not None
    assert local.call.env["PGSSLMODE"] == "require"


async def test_mariadb_reads_one_option_file_and_no_other() -> None:
    _, local = await ran(ArgvCommand(("mariadb-check", "--check", "--", "shop")))
    assert local.call is not None
    assert isinstance(local.call.rendered, ArgvCommand)
    program, first, *rest = local.call.rendered.argv
    assert (program, rest) == ("mariadb-check", ["--check", "--", "shop"])
    assert first.startswith("--defaults-file=")
    text, mode = local.files["client.cnf"]
    assert (mode, 'password="pass:word\\\\ \'\\"#"' in text) == (0o600, True)


async def test_a_script_finds_the_file_by_its_variable() -> None:
    _, local = await ran(ScriptCommand("sh", 'exec mariadb --defaults-file="$X" "$@"', ("shop",)))
    assert local.call is not None
    assert local.call.env[LOGIN_FILE].endswith("client.cnf")


async def test_the_login_is_gone_afterwards_and_never_an_argument() -> None:
    _, local = await ran(ArgvCommand(("pg_restore", "--", "/var/backups/shop.dump")))
    assert local.call is not None
    assert local.files
    assert is_gone(local.call.env["PGPASSFILE"])
    assert SECRET not in str(local.call.rendered)
    assert SECRET not in str(local.call.env)


async def test_a_command_of_another_kind_gets_no_login() -> None:
    outcome, local = await ran(ScriptCommand("sh", 'test -e "$1"', ("/x",)), {"name": "x"})
    assert outcome.state == "completed"
    assert local.call is not None
    assert local.call.env == {}


@pytest.mark.parametrize("broken", ["two\nlines", "nul\0", "return\r"])
async def test_a_login_no_file_can_carry_is_refused(broken: str) -> None:
    outcome, local = await ran(ArgvCommand(("pg_dump",)), password=broken)
    assert outcome.error is not None
    assert (outcome.error.code, local.call) == ("CREDENTIAL_INVALID", None)


async def test_what_is_no_command_goes_on_to_be_refused() -> None:
    _, local = await ran(HttpRequest("GET", "http://127.0.0.1/"))
    assert local.call is not None
    assert isinstance(local.call.rendered, HttpRequest)
