"""Method "database-command": a database's own client programs, logged in without a word of it.

pg_dump and its kin, mariadb-dump and its kin and mongodump run on the agent's own host against a
server elsewhere. The login stands in a file only the agent's user can read, for as long as the
program runs; it is never an argument, which everybody on the host could see.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.database.work import DatabaseLogin, login_of
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, ScriptCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsconductor.agent.executors.base import Call, Executor, Sink
    from opsconductor.agent.executors.credential import Credentials

LOGIN_FILE = "DATABASE_LOGIN_FILE"
"""Variable by which a script finds the login file of ``mariadb --defaults-file``."""
_POSTGRES = frozenset({"pg_dump", "pg_restore", "pg_isready", "psql"})
_MYSQL = frozenset({"mariadb", "mariadb-dump", "mariadb-check", "mysql", "mysqldump", "mysqlcheck"})
_MONGO = frozenset({"mongodump", "mongorestore"})


class DatabaseCommandExecutor:
    """Runs client programs with the target's login; see the local executor for the rest."""

    method = "database-command"

    def __init__(self, credentials: Credentials, local: Executor) -> None:
        """Takes what runs commands on the agent's host."""
        self._credentials = credentials
        self._local = local

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command. See Executor."""
        kind = _kind(call)
        if not kind:
            return await self._local.run(call, sink, cancel)
        try:
            login = login_of(call, kind, "", self._credentials)
            _require_lines(login)
        except Refused as refused:
            return refused.outcome
        folder = await asyncio.to_thread(_private_folder)
        try:
            ours = await asyncio.to_thread(_LOGIN[kind], call, login, folder)
            return await self._local.run(ours, sink, cancel)
        except Refused as refused:
            return refused.outcome
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def close(self) -> None:
        """Keeps nothing of its own."""


def _kind(call: Call) -> str:
    """Returns the database a command logs in to; empty for one that needs no login."""
    match call.rendered:
        case ArgvCommand(argv):
            words: tuple[str, ...] = argv[:1]
        case ScriptCommand(_, body, _):
            words = tuple(body.split())
        case _:
            return ""  # the local executor refuses it, naming what it is
    programs = {"postgresql": _POSTGRES, "mysql": _MYSQL, "mongodb": _MONGO}
    return next((kind for kind, names in programs.items() if names & set(words)), "")


def _require_lines(login: DatabaseLogin) -> None:
    credential = login.credential
    for text in (credential.username, credential.password, credential.setting("ca_file")):
        if set("\r\n\0") & set(text):
            message = "the login holds a line break, which no login file can carry"
            raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))


def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="opsconductor-login-"))


def _postgres(call: Call, login: DatabaseLogin, folder: Path) -> Call:
    modes = {"off": "disable", "require": "require", "verify": "verify-full"}
    environment = {"PGSSLMODE": modes[login.tls_mode], "PGCONNECT_TIMEOUT": "10"}
    credential = login.credential
    if credential.username:
        environment["PGUSER"] = credential.username
    if credential.password:
        secret = credential.password.replace("\\", "\\\\").replace(":", "\\:")
        environment["PGPASSFILE"] = _file(folder, "pgpass", f"*:*:*:*:{secret}\n")
    if login.tls_mode == "verify":
        environment["PGSSLROOTCERT"] = _authorities(login)
    return _with(call, environment)


def _mysql(call: Call, login: DatabaseLogin, folder: Path) -> Call:
    credential = login.credential
    options = {"user": credential.username, "password": credential.password}
    lines = ["[client]", *(f"{name}={_option(text)}" for name, text in options.items() if text)]
    if login.tls_mode == "off":
        lines.append("skip-ssl")
    else:
        lines.append("ssl")
        if login.tls_mode == "verify":
            lines += ["ssl-verify-server-cert", f"ssl-ca={_option(_authorities(login))}"]
    path = _file(folder, "client.cnf", "\n".join([*lines, ""]))
    if isinstance(call.rendered, ArgvCommand):
        program, *rest = call.rendered.argv
        # Must stand first; with it no other file is read.
        call = dataclasses.replace(
            call, rendered=ArgvCommand((program, f"--defaults-file={path}", *rest))
        )
    return _with(call, {LOGIN_FILE: path})


def _mongo(call: Call, login: DatabaseLogin, folder: Path) -> Call:
    if not isinstance(call.rendered, ArgvCommand):
        raise Refused(Outcome.refused("METHOD_MISMATCH", "MongoDB's programs run by themselves"))
    credential, (program, *rest) = login.credential, call.rendered.argv
    words = [f"--username={credential.username}"] if credential.username else []
    words += ["--authenticationDatabase=admin"] if credential.username else []
    if credential.password:
        secret = credential.password.replace("\\", "\\\\").replace('"', '\\"')
        path = _file(folder, "mongo.yaml", f'password: "{secret}"\n')
        words.append(f"--config={path}")
    if login.tls_mode != "off":
        words.append("--ssl")
        trusting = "--sslAllowInvalidCertificates"
        authorities = f"--sslCAFile={_authorities(login)}"
        words.append(trusting if login.tls_mode == "require" else authorities)
    return dataclasses.replace(call, rendered=ArgvCommand((program, *words, *rest)))


_LOGIN: Mapping[str, Callable[[Call, DatabaseLogin, Path], Call]] = {
    "postgresql": _postgres,
    "mysql": _mysql,
    "mongodb": _mongo,
}


def _authorities(login: DatabaseLogin) -> str:
    """Returns the file of certificates the server's must come from."""
    system = ssl.get_default_verify_paths()
    return login.credential.setting("ca_file") or system.cafile or system.openssl_cafile


def _option(text: str) -> str:
    """Returns a value of an option file, quoted: there a hash begins a comment."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return str(path)


def _with(call: Call, environment: Mapping[str, str]) -> Call:
    return dataclasses.replace(call, env={**call.env, **environment})
