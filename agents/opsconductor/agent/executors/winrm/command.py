"""One command in a shell on Windows: started, streamed, and ended when it must be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.waiting import boottime
from opsconductor.agent.executors.winrm.connection import RequestLost

if TYPE_CHECKING:
    import asyncio

    from opsconductor.agent.executors.base import Call, Sink, Stop
    from opsconductor.agent.executors.winrm.connection import Received, WinRmConnection
    from opsconductor.agent.executors.winrm.line import RemoteLine

_CLIXML = b"#< CLIXML"
_ERROR_TEXT = re.compile(r'<S S="Error">(.*?)</S>', re.DOTALL)
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class WinRmCommand:
    """Follows one command from its start to its outcome."""

    def __init__(self, call: Call, connection: WinRmConnection, shell: str, grace: float) -> None:
        self._call = call
        self._connection = connection
        self._shell = shell
        self._grace = grace
        self._stderr = ErrorText()
        self._failure: Exception | None = None

    async def run(
        self, line: RemoteLine, sink: Sink, cancel: asyncio.Event, deadline: float
    ) -> Outcome:
        """Starts the command and returns what became of it."""
        command = ""
        try:
            command = await self._connection.start(self._shell, line)
            while True:
                received = await self._connection.receive(self._shell, command)
                await self._store(received, sink)
                if received.exit_code is not None:
                    return await self._ended(received.exit_code, sink)
                if cancel.is_set() or boottime() >= deadline:
                    why: Stop = "cancelled" if cancel.is_set() else "timed_out"
                    return await self._stop(why, command, sink)
        except RequestLost as error:
            where = self._connection.login
            message = f"the connection to {where} was lost while the command ran: {error}"
            return Outcome.lost(self._call, "CONNECTION_LOST", message)
        except Refused as refused:
            if not command:
                raise
            return Outcome.lost(self._call, "OUTCOME_UNKNOWN", str(refused))

    async def _store(self, received: Received, sink: Sink) -> None:
        pieces = (("stdout", received.stdout), ("stderr", self._stderr.feed(received.stderr)))
        for stream, data in pieces:
            if data and self._failure is None:
                try:
                    await sink.write(stream, data)  # type: ignore[arg-type]  # both are streams
                except Exception as error:  # noqa: BLE001 - told in the outcome
                    self._failure = error

    async def _ended(self, exit_code: int, sink: Sink) -> Outcome:
        if (rest := self._stderr.finish()) and self._failure is None:
            await sink.write("stderr", rest)
        outcome = Outcome.ended(self._call, exit_code)
        if self._failure is None:
            return outcome
        where = self._connection.login
        message = f"the command on {where} ended, but its output was not stored: {self._failure}"
        error = StepFailure("OUTPUT_LOST", message, "non_retryable")
        return Outcome(outcome.state, outcome.exit_code, outcome.effects, error)

    async def _stop(self, why: Stop, command: str, sink: Sink) -> Outcome:
        """Ends the command; that the server says it ended, or its shell is gone, is the proof."""
        survivors: tuple[str, ...] = ()
        exit_code = None
        try:
            await self._connection.terminate(self._shell, command)
            exit_code = await self._wait_for_end(command, sink)
        except (RequestLost, Refused):
            exit_code = None
        if not await self._connection.delete_shell(self._shell):
            where = self._connection.login
            survivors = (f"unknown: {where} did not confirm that shell {self._shell} was deleted",)
        return Outcome.stopped(self._call, why, exit_code=exit_code, survivors=survivors)

    async def _wait_for_end(self, command: str, sink: Sink) -> int | None:
        until = boottime() + self._grace
        while boottime() < until:
            received = await self._connection.receive(self._shell, command)
            await self._store(received, sink)
            if received.exit_code is not None:
                return received.exit_code
        return None


class ErrorText:
    """Takes standard error; PowerShell may wrap it in XML although it was asked for text."""

    def __init__(self) -> None:
        self._held = b""
        self._wrapped: bool | None = None

    def feed(self, data: bytes) -> bytes:
        """Returns what can be passed on now."""
        if self._wrapped is False:
            return data
        self._held += data
        if self._wrapped is None and len(self._held) >= len(_CLIXML):
            self._wrapped = self._held.startswith(_CLIXML)
        if self._wrapped is not False:
            return b""
        held, self._held = self._held, b""
        return held

    def finish(self) -> bytes:
        """Returns the rest as text."""
        if not self._wrapped:
            return self._held
        text = self._held.decode("utf-8", "replace")
        return "".join(map(_plain, _ERROR_TEXT.findall(text))).encode()


def _plain(text: str) -> str:
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
