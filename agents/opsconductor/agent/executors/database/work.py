"""What the backends of the database executor share: where to log in, how far a call has come."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.credential import Credential, Credentials, resolve
from opsconductor.tool_registry.rendering.rendered import RedisCommand, SqlStatement

if TYPE_CHECKING:
    import asyncio

    from opsconductor.agent.executors.base import Call
    from opsconductor.agent.executors.database.rows import Rows

CONNECT_TIMEOUT = 10.0
STOP_WITHIN = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379, "mongodb": 27017}
# An asset that is reached by these carries their port, not that of its database.
_OTHER_PORTS = frozenset({"ssh", "winrm"})


@dataclass(frozen=True, slots=True)
class DatabaseLogin:
    """Where a database is and as whom it is asked; equal logins share connections."""

    kind: str
    name: str
    address: str
    port: int
    database: str
    credential: Credential

    def __str__(self) -> str:
        """Returns the server as people read it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        server = f"{self.kind} on {self.name} ({host}:{self.port})"
        return f"database {self.database} of {server}" if self.database else server

    @property
    def tls_mode(self) -> str:
        """Returns off, require or verify; verify unless the server is on this host."""
        return self.credential.setting("tls", "off" if _is_here(self.address) else "verify")

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Returns how the connection is protected; None when it is not, as on this host."""
        if self.tls_mode == "off":
            return None
        context = ssl.create_default_context(cafile=self.credential.setting("ca_file") or None)
        if self.tls_mode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(slots=True)
class Work:
    """One call on its way."""

    call: Call
    statement: SqlStatement | RedisCommand
    login: DatabaseLogin
    rows: Rows
    read_only: bool
    seconds: float
    """Time that is left, for the server's own limit."""
    sent: bool = field(default=False)
    """Whether the server may have begun."""
    session: int = field(default=0)
    """Number of the server's session that carries it out; 0 while there is none."""

    @property
    def sql(self) -> SqlStatement:
        """Returns the statement of a database that speaks SQL."""
        if not isinstance(self.statement, SqlStatement):
            raise TypeError(f"{self.login} was given a {type(self.statement).__name__}")
        return self.statement

    @property
    def redis(self) -> RedisCommand:
        """Returns the command of a Redis server."""
        if not isinstance(self.statement, RedisCommand):
            raise TypeError(f"{self.login} was given a {type(self.statement).__name__}")
        return self.statement


class Backend(Protocol):
    """One kind of database."""

    async def run(self, work: Work) -> int | None:
        """Carries out the statement, returns the rows it changed; raises CallEnded."""

    async def stop(self, work: Work, running: asyncio.Future[int | None]) -> tuple[str, ...]:
        """Ends the statement on the server; returns what may still run, or why that is unknown."""

    async def close(self) -> None:
        """Closes kept connections."""


class CallEnded(Exception):
    """The call ended otherwise than by its result."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.error.message if outcome.error else outcome.state)


def login_of(call: Call, kind: str, database: str, credentials: Credentials) -> DatabaseLogin:
    """Returns the login a call asks for; raises Refused when it cannot be had."""
    target = call.target
    if target is None or not target.get("address"):
        message = f"a {kind} statement needs a target with an address"
        raise Refused(Outcome.refused("TARGET_INVALID", message))
    address = str(target["address"])
    name = str(target.get("name") or address)
    reference = str(target.get("credential") or "")
    credential = resolve(credentials, reference, "database", f"{kind} on {name}", address)
    port = credential.setting("port")
    if not port and target.get("connection") not in _OTHER_PORTS:
        port = str(target.get("port") or "")
    if port and not port.isdecimal():
        message = f"credential {reference!r} has the port {port!r}, which is no number"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    return DatabaseLogin(kind, name, address, int(port or 0) or PORTS[kind], database, credential)


def too_many_changed(work: Work, affected: int | None) -> CallEnded | None:
    """Returns why a statement is rolled back that changed more rows than it may; None if it may."""
    most = work.sql.most_changed
    if most is None:
        return None
    if affected is None and not work.rows.truncated:
        affected = work.rows.count
    if affected is not None and affected <= most:
        return None
    changed = "more rows than were read" if affected is None else f"{affected} rows"
    message = f"the statement changed {changed}, at most {most} may be; it was rolled back"
    return failed("TOO_MANY_ROWS", message)


def failed(code: str, message: str, *, retryable: bool = False) -> CallEnded:
    """Returns the end of a statement that the server refused and did not carry out."""
    error = StepFailure(code, message, "retryable" if retryable else "non_retryable")
    return CallEnded(Outcome("failed", error=error))


def connection_failed(work: Work, why: object) -> CallEnded:
    """Returns the end of a call whose connection broke: unknown once a change was sent."""
    text = str(why) or type(why).__name__
    if not work.sent:
        message = f"cannot reach {work.login}: {text}"
        return CallEnded(Outcome.unreachable("UNREACHABLE", message))
    message = f"the connection to {work.login} was lost while the statement ran: {text}"
    # Only what the database itself keeps from changing anything may be called a read.
    if work.read_only:
        return CallEnded(Outcome.unreachable("CONNECTION_LOST", message))
    return CallEnded(Outcome.lost(work.call, "CONNECTION_LOST", message))


def _is_here(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"
