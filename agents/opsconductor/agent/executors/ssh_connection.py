"""One SSH login: who, where, which host keys; and every way it can fail, told apart."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors import host_keys
from opsconductor.agent.executors.base import Outcome, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import asyncssh

    from opsconductor.agent.executors.credential import Credential, Credentials

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
    try:
        credential = credentials(reference)
    except LookupError as error:
        which = f"credential {reference!r}" if reference else "default credential for SSH"
        message = f"this agent has no {which}, needed for {name or address}: {_text(error)}"
        raise Refused(Outcome.refused("CREDENTIAL_UNKNOWN", message)) from error
    if credential.kind != "ssh" or not credential.username:
        message = f"credential {reference!r} is no SSH login: it needs kind ssh and a username"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    return Login(login_name, address, port, credential, tuple(target.get("host_keys") or ()))


async def connect(
    login: Login, known_hosts: Path | None, timeout: float
) -> asyncssh.SSHClientConnection:
    """Returns an authenticated connection; raises Refused with the outcome for each failure."""
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
