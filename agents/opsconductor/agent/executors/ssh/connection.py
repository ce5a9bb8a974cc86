"""One SSH login: who, where, which host keys; and every way it can fail, told apart."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.ssh import host_keys
from opsconductor.agent.executors.ssh.carrier import preamble, remote_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import asyncssh

    from opsconductor.agent.executors.credential import Credential, Credentials

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_MOST_JUMPS = 3
KEEPALIVE = 5.0
"""Seconds of silence after which a connection is asked for a sign of life; three misses end it."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection is made from; equal logins share connections."""

    name: str
    address: str
    port: int
    credential: Credential
    declared_keys: tuple[str, ...]
    jump: Login | None = None
    """The host that is gone through to get there."""
    elevated: bool = field(default=False, compare=False)
    """Whether commands run as root, whatever the credential says; connections are shared."""

    @property
    def remote_command(self) -> str:
        """Returns the constant command that becomes a shell there."""
        with_password = bool(self._become_password)
        return remote_command(self.become_user, with_password=with_password, elevated=self.elevated)

    @property
    def preamble(self) -> bytes:
        """Returns what the shell's input begins with."""
        return preamble(self._become_password)

    @property
    def become_user(self) -> str:
        """Returns whom commands run as by sudo; empty when they run as the login's user."""
        credential = self.credential
        if self.elevated:
            return "" if credential.username == "root" else "root"
        return credential.setting("become_user", "root") if credential.setting("become") else ""

    @property
    def _become_password(self) -> str:
        return self.credential.setting("become_password") if self.become_user else ""

    def __str__(self) -> str:
        """Returns the login's end as people read it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.name} ({host}:{self.port})" if self.name else f"{host}:{self.port}"


def login_of(target: Mapping[str, Any], credentials: Credentials) -> Login:
    """Returns the login a target asks for; raises Refused when it cannot be had."""
    address, reference = str(target.get("address") or ""), str(target.get("credential") or "")
    name = str(target.get("name") or "")
    if not address:
        message = f"the target {name or '(without a name)'} has no address"
        raise Refused(Outcome.refused("TARGET_INVALID", message))
    port = int(target.get("port") or 22)
    login_name = name if name != address else ""
    credential = _credential(reference, credentials, name or address, address)
    keys = tuple(target.get("host_keys") or ())
    jump = _jump(credential.setting("jump"), credentials, (reference,))
    return Login(login_name, address, port, credential, keys, jump)


def _credential(reference: str, credentials: Credentials, needed_for: str, host: str) -> Credential:
    try:
        credential = credentials(reference)
    except LookupError as error:
        which = f"credential {reference!r}" if reference else "default credential for SSH"
        message = f"this agent has no {which}, needed for {needed_for}: {_text(error)}"
        raise Refused(Outcome.refused("CREDENTIAL_UNKNOWN", message)) from error
    if credential.kind != "ssh" or not credential.username:
        message = f"credential {reference!r} is no SSH login: it needs kind ssh and a username"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    if host and (objection := credential.objection_to(host)):
        message = f"credential {reference!r} is not used for {needed_for}: {objection}"
        raise Refused(Outcome.refused("CREDENTIAL_DENIED", message))
    user = credential.setting("become_user", "root")
    if credential.setting("become") and not _USER.fullmatch(user):
        message = f"credential {reference!r}: become_user {user!r} is no name of a user"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    return credential


def _jump(reference: str, credentials: Credentials, passed: tuple[str, ...]) -> Login | None:
    """Returns the login of a jump host, with those before it; raises Refused for a circle."""
    if not reference:
        return None
    if reference in passed or len(passed) > _MOST_JUMPS:
        message = f"credential {passed[0]!r} jumps in a circle: {' -> '.join((*passed, reference))}"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    credential = _credential(reference, credentials, f"the jump host {reference}", "")
    address, port = credential.setting("address"), credential.setting("port", "22")
    if not address or not port.isdecimal():
        message = f"credential {reference!r} is a jump host, so it needs an address (and a port)"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    before = _jump(credential.setting("jump"), credentials, (*passed, reference))
    return Login(f"jump host {reference}", address, int(port), credential, (), before)


@dataclass(frozen=True, slots=True)
class Connection:
    """An authenticated connection, and that to the host it goes through."""

    ssh: asyncssh.SSHClientConnection
    through: Connection | None = None

    def close(self) -> None:
        """Closes both."""
        self.ssh.close()
        if self.through is not None:
            self.through.close()


async def connect(login: Login, known_hosts: Path | None, timeout: float) -> Connection:
    """Returns an authenticated connection; raises Refused with the outcome for each failure."""
    through = await connect(login.jump, known_hosts, timeout) if login.jump else None
    try:
        ssh = await _connect(login, known_hosts, timeout, through)
    except BaseException:
        if through is not None:
            through.close()
        raise
    return Connection(ssh, through)


async def _connect(
    login: Login, known_hosts: Path | None, timeout: float, through: Connection | None
) -> asyncssh.SSHClientConnection:
    import asyncssh

    expected = host_keys.expected_keys(login.declared_keys, known_hosts, login.address, login.port)
    shown: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            shown.append(key)
            return expected.judge(key) == "known"

    try:
        async with asyncio.timeout(timeout):
            return await asyncssh.connect(
                login.address,
                login.port,
                client_factory=Client,
                tunnel=through.ssh if through else (),
                username=login.credential.username,
                client_keys=_client_keys(login.credential),
                password=login.credential.password or None,
                # Nothing of the agent's own user takes part: no config, agent, keys or defaults.
                config=None,
                agent_path=None,
                agent_forwarding=False,
                gss_host=None,
                x509_trusted_certs=None,
                known_hosts=([], [], []),
                server_host_key_algs=expected.algorithms,
                keepalive_interval=KEEPALIVE,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        outcome = host_keys.refusal(str(login), shown[-1] if shown else None, expected)
        raise Refused(outcome) from error
    except (OSError, asyncssh.Error) as error:
        raise Refused(_failure(login, error, timeout)) from error


def _client_keys(credential: Credential) -> list[asyncssh.SSHKey] | None:
    import asyncssh

    passphrase = credential.passphrase or None
    try:
        if credential.private_key:
            return [asyncssh.import_private_key(credential.private_key, passphrase)]
        if credential.private_key_file:
            return [asyncssh.read_private_key(credential.private_key_file, passphrase)]
    except (OSError, ValueError) as error:
        what = credential.private_key_file or "the private key"
        message = f"cannot use {what} of user {credential.username}: {error}"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message)) from error
    return None


def _failure(login: Login, error: Exception, timeout: float) -> Outcome:
    import asyncssh

    user = login.credential.username
    match error:
        case asyncssh.PermissionDenied():
            ways = _ways(login.credential)
            message = f"{login} refused the login of user {user} by {ways}: {error.reason}"
            return Outcome.refused("AUTH_FAILED", message)
        case asyncssh.KeyExchangeFailed():
            message = f"{login} and the agent share no algorithm: {error.reason}"
            return Outcome.refused("SSH_INCOMPATIBLE", message)
        case TimeoutError():
            message = f"cannot reach {login}: no SSH login within {timeout:g} s"
            return Outcome.unreachable("CONNECT_TIMEOUT", message)
        case ConnectionRefusedError():
            message = f"cannot reach {login}: connection refused; is the SSH server running?"
            return Outcome.unreachable("CONNECTION_REFUSED", message)
        case socket.gaierror():
            message = f"cannot reach {login}: the name does not resolve ({error.strerror})"
            return Outcome.unreachable("NAME_UNKNOWN", message)
    return Outcome.unreachable("UNREACHABLE", f"cannot reach {login}: {_text(error)}")


def _ways(credential: Credential) -> str:
    has_key = credential.private_key or credential.private_key_file
    ways = ["key"] if has_key else []
    return " and ".join([*ways, "password"] if credential.password else ways) or "no key at all"


def _text(error: Exception) -> str:
    return (
        str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        or type(error).__name__
    )
