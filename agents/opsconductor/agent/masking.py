"""Keeps the agent's own secrets out of everything that leaves it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from opsconductor.agent.executors.redact import Redactor, StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opsconductor.agent.executors.base import Sink, Stream
    from opsconductor.agent.report import Report


class Masks:
    """Masks the secrets of the moment; their patterns are built again only when they change."""

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets
        self._known: tuple[str, ...] = ()
        self._redactor = Redactor(())

    def sink(self, store: Sink) -> MaskedSink:
        """Puts a mask before a store of output."""
        return MaskedSink(store, self._current())

    def streams(self) -> dict[Stream, StreamRedactor]:
        """Returns a mask for each stream of one attempt."""
        redactor = self._current()
        return {"stdout": redactor.stream(), "stderr": redactor.stream()}

    def report(self, report: Report) -> Report:
        """Returns a report whose texts hold no secret.

        Captured state stays as it is: an undo restores it, and a masked one would do harm.
        """
        redactor = self._current()
        if not self._known:
            return report
        error = report.error
        if error is not None:
            error = replace(error, message=redactor.text(error.message))
        output = report.output
        if output:
            output = json.dumps(redactor.value(json.loads(output)), ensure_ascii=False)
        return replace(
            report,
            command=redactor.text(report.command),
            error=error,
            output=output,
            survivors=tuple(redactor.text(line) for line in report.survivors),
        )

    def _current(self) -> Redactor:
        secrets = tuple(sorted(set(self._secrets())))
        if secrets != self._known:
            self._redactor = Redactor(secrets)
            self._known = secrets
        return self._redactor


class MaskedSink:
    """Masks output on its way to a store; may hold back an end that could begin a secret."""

    def __init__(self, store: Sink, redactor: Redactor) -> None:
        self._store = store
        self._streams: dict[Stream, StreamRedactor] = {
            "stdout": redactor.stream(),
            "stderr": redactor.stream(),
        }

    async def write(self, stream: Stream, data: bytes) -> None:
        """Passes on what no later byte can change."""
        if done := self._streams[stream].feed(data):
            await self._store.write(stream, done)

    async def flush(self, *, whole: bool = True) -> None:
        """Passes on the rest. See Flushing."""
        for stream, redactor in self._streams.items():
            if rest := redactor.finish(whole=whole):
                await self._store.write(stream, rest)
