"""One login at a Windows host: its requests one after the other, each failure told apart."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.credential import Credential, Credentials, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsconductor.agent.executors.base import Call
    from opsconductor.agent.executors.winrm.line import RemoteLine

Result = TypeVar("Result")

_PORT = 5986
_UTF8 = 65001
# How long the server may hold back an answer; also how long a cancel may have to wait.
_POLL = 1
_READ_TIMEOUT = 15
_INPUT_PIECE = 64 * 1024
_TOO_MANY_SHELLS = frozenset({2150859173, 2150859174, 2150859175})
_ACCESS_DENIED = 5
_WRAP, _HALF = 2**32, 2**31


@dataclass(frozen=True, slots=True)
class WinRmLogin:
    """What a connection is made from; equal logins share connections."""

    name: str
    address: str
    port: int
    credential: Credential

    def __str__(self) -> str:
        """Returns the login's end as people read it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.name} ({host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Received:
    """Output that came, and the exit code when the command has ended."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None


class RequestLost(Exception):
    """The server's answer did not come; what it was asked may have been done."""


def login_of(call: Call, credentials: Credentials) -> WinRmLogin:
    """Returns the login a call's target asks for; raises Refused when it cannot be had."""
    target = call.target or {}
    address = str(target.get("address") or "")
    name = str(target.get("name") or address)
    if not address:
        message = f"the target {name or '(without a name)'} has no address"
        raise Refused(Outcome.refused("TARGET_INVALID", message))
    reference = str(target.get("credential") or "")
    credential = resolve(credentials, reference, "winrm", f"WinRM on {name}", address)
    # A host that is otherwise reached by SSH carries that port.
    port = int(target.get("port") or 0) if target.get("connection") == "winrm" else 0
    return WinRmLogin(name, address, port or _PORT, credential)


async def open_connection(login: WinRmLogin) -> WinRmConnection:
    """Returns a connection; it logs in with its first request."""
    return WinRmConnection(login, await asyncio.to_thread(_protocol, login))


class WinRmConnection:
    """Asks one host, in threads, never two things at once."""

    def __init__(self, login: WinRmLogin, protocol: Any) -> None:
        self.login = login
        self.broken = False
        """Whether an answer did not come, so that the connection is of no more use."""
        self._protocol = protocol
        self._turn = asyncio.Lock()
        self._shells: set[str] = set()

    async def open_shell(self, variables: Mapping[str, str]) -> str:
        """Returns the id of a new shell; raises Refused, nothing has been started then."""
        try:
            shell: str = await self._ask(
                self._protocol.open_shell, env_vars=dict(variables), codepage=_UTF8, noprofile=True
            )
        except RequestLost as error:
            message = f"cannot reach {self.login}: {error}"
            raise Refused(Outcome.unreachable("UNREACHABLE", message)) from error
        self._shells.add(shell)
        return shell

    async def start(self, shell: str, line: RemoteLine) -> str:
        """Starts a command and gives it its input; raises Refused or RequestLost."""
        command: str = await self._ask(
            self._protocol.run_command,
            shell,
            line.program,
            line.arguments,
            console_mode_stdin=False,
            skip_cmd_shell=True,
        )
        pieces = range(0, max(len(line.stdin), 1), _INPUT_PIECE)
        for start in pieces:
            piece = line.stdin[start : start + _INPUT_PIECE]
            last = start + _INPUT_PIECE >= len(line.stdin)
            await self._ask(_send_input, self._protocol, shell, command, piece, end=last)
        return command

    async def receive(self, shell: str, command: str) -> Received:
        """Returns what came within the poll time; raises Refused or RequestLost."""
        from winrm.exceptions import WinRMOperationTimeoutError

        try:
            stdout, stderr, code, done = await self._ask(
                self._protocol.get_command_output_raw, shell, command
            )
        except WinRMOperationTimeoutError:
            return Received()
        # Windows' exit codes are unsigned; errors such as 0xC0000005 are known as negative numbers.
        signed = code - _WRAP if code >= _HALF else code
        return Received(stdout, stderr, signed if done else None)

    async def terminate(self, shell: str, command: str) -> None:
        """Sends the signal that ends a command; raises Refused or RequestLost."""
        await self._ask(self._protocol.cleanup_command, shell, command)

    async def delete_shell(self, shell: str) -> bool:
        """Deletes a shell with all that runs in it; returns whether it is gone."""
        if shell not in self._shells:
            return True
        try:
            await self._ask(self._protocol.close_shell, shell, close_session=False)
        except (RequestLost, Refused):
            self.broken = True
            return False
        self._shells.discard(shell)
        return True

    async def close(self) -> None:
        """Closes the connection."""
        await asyncio.to_thread(self._protocol.transport.close_session)

    async def _ask(self, ask: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Does one request; a task that is cancelled meanwhile leaves the connection broken."""
        async with self._turn:
            request = functools.partial(self._told, ask, *arguments, **named)
            try:
                return await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(request)))
            except asyncio.CancelledError:
                self.broken = True
                raise

    def _told(self, ask: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Turns the errors of pywinrm and requests into ours, in the thread."""
        import requests
        from winrm import exceptions

        try:
            return ask(*arguments, **named)
        except exceptions.InvalidCredentialsError as error:
            user = self.login.credential.username
            message = f"{self.login} refused the login of user {user}: {error}"
            raise Refused(Outcome.refused("AUTH_FAILED", message)) from error
        except exceptions.WSManFaultError as error:
            raise Refused(self._fault(error)) from error
        except exceptions.WinRMOperationTimeoutError:
            raise
        except requests.exceptions.SSLError as error:
            message = f"{self.login} is not trusted: {error}"
            raise Refused(Outcome.refused("TLS_UNTRUSTED", message)) from error
        except exceptions.WinRMTransportError as error:
            self.broken = True
            raise RequestLost(str(error)) from error
        except (requests.RequestException, exceptions.WinRMError, OSError) as error:
            self.broken = True
            raise RequestLost(_reason(error)) from error

    def _fault(self, error: Any) -> Outcome:
        said = f"{self.login}: {str(error.reason).strip()} (WS-Man fault {error.wsman_fault_code})"
        if error.wsman_fault_code in _TOO_MANY_SHELLS:
            return Outcome.throttled("TOO_MANY_SHELLS", said)
        if error.wsman_fault_code == _ACCESS_DENIED:
            return Outcome.refused("ACCESS_DENIED", said)
        return Outcome.refused("WINRM_FAULT", said)


def _protocol(login: WinRmLogin) -> Any:
    from winrm.exceptions import WinRMError
    from winrm.protocol import Protocol

    credential = login.credential
    host = f"[{login.address}]" if ":" in login.address else login.address
    try:
        options: dict[str, Any] = {
            "transport": credential.setting("transport", "ntlm"),
            "username": credential.username,
            "password": credential.password,
            "ca_trust_path": credential.setting("ca_file") or None,
            "server_cert_validation": "validate",
            # TLS protects what is said.
            "message_encryption": "never",
            "operation_timeout_sec": _POLL,
            "read_timeout_sec": _READ_TIMEOUT,
            "proxy": None,
        }
        return Protocol(f"https://{host}:{login.port}/wsman", **options)
    except WinRMError as error:
        message = f"cannot log in to {login}: {error}"
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message)) from error


def _send_input(protocol: Any, shell: str, command: str, piece: bytes, *, end: bool) -> None:
    protocol.send_command_input(shell, command, piece, end=end)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "Connection refused" in text:
        return "connection refused; is WinRM listening with HTTPS there?"
    return text[:300]
