"""Takes changed tool files into a running process; what is broken stays as it was."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.checked import CheckedFiles
from opsconductor.tool_registry.registry import Source, checked_once, name_clashes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.registry import Registry

_log = logging.getLogger(__name__)
_State = dict["Path", tuple[int, int]]
"""Change time and size of every tool file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a look at changed files has found."""

    tools: dict[Path, Tool]
    """The last good definition of each file."""
    faults: tuple[Fault, ...]


class ToolFolders:
    """The tool files of a process, and what is wrong with them now."""

    def __init__(self, registry: Registry, roots: Sequence[Path], *, settle: bool = False) -> None:
        """Takes a registry that was loaded from these folders.

        ``settle`` takes a change only when the next look sees the same: an orchestrator then never
        plans with a definition that the agents beside it have not had the time to take.
        """
        self.faults: tuple[Fault, ...] = ()
        """Mistakes in files whose former definitions are still in use."""
        self._registry = registry
        self._roots = tuple(roots)
        self._settle = settle
        self._seen = self._state() or {}
        self._pending = self._seen
        by_name = {tool.name: tool for tool in registry.tools}
        self._tools = {file: by_name[file.stem] for file in self._seen if file.stem in by_name}

    async def watch(self, every: timedelta) -> None:
        """Looks at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(every.total_seconds())
            await self.look()

    async def look(self) -> bool:
        """Takes what has changed; returns whether the tools are other ones now."""
        state = await asyncio.to_thread(self._state)
        if state is None:
            return False  # a folder is being replaced, or not mounted now
        settled, self._pending = state == self._pending or not self._settle, state
        if state == self._seen or not settled:
            return False
        reading = await asyncio.to_thread(self._read, state)
        self._seen = state
        return self._take(reading)

    def _state(self) -> _State | None:
        """Returns the state of every file; None while one of the folders is not there."""
        found: _State = {}
        for root in self._roots:
            if not root.exists():
                return None
            for file in root.rglob("*.yaml") if root.is_dir() else [root]:
                try:
                    status = file.stat()
                except OSError:
                    continue  # it went away in between
                found[file] = (status.st_mtime_ns, status.st_size)
        return found

    def _read(self, state: _State) -> Reading:
        tools: dict[Path, Tool] = {}
        faults: list[Fault] = []
        checked = CheckedFiles()
        for file in sorted(state):
            former = self._tools.get(file)
            tool, mistakes = self._checked(file, checked)
            faults += mistakes
            if (kept := tool or former) is not None:
                tools[file] = kept
        checked.save()
        return Reading(tools, tuple(faults))

    def _checked(self, file: Path, checked: CheckedFiles) -> tuple[Tool | None, list[Fault]]:
        try:
            return checked_once(file, checked)
        except OSError as error:
            fault = Fault(code="UNREADABLE", field=file.name, found=str(error), expected="a file")
            return None, [fault]

    def _take(self, reading: Reading) -> bool:
        sources = [Source(tool, file.name) for file, tool in reading.tools.items()]
        clashes = tuple(name_clashes(sources))
        self._tell(reading.faults + clashes)
        if clashes:
            return False  # nobody can say which of two is meant; all stay as they were
        before = self._registry.digests()
        self._tools = reading.tools
        self._registry.replace(list(reading.tools.values()))
        after = self._registry.digests()
        changed = {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        }
        for name in sorted(changed):
            what = "removed" if name not in after else "changed" if name in before else "added"
            _log.info("tool %s was %s", name, what)
        return bool(changed)

    def _tell(self, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            _log.error("tool file not taken, its former definition stays in use: %s", fault)
        if self.faults and not faults:
            _log.info("every tool file is in order again")
        self.faults = faults
