"""Which executor carries out a call: those every agent has and those of installed distributions.

The others of this distribution are offered as a stranger would offer his: by entry point.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.database.command import DatabaseCommandExecutor
from opsconductor.agent.executors.http.executor import HttpExecutor
from opsconductor.agent.executors.inventory import InventoryExecutor
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.needs import Unavailable
from opsconductor.agent.executors.ssh.executor import SshExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from opsconductor.agent.executors.base import Executor
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.inventory import InventoryQuery

GROUP = "opsconductor.executors"
"""Entry point group; each names a callable that takes Collaborators and returns an Executor.

It raises Unavailable where something the executor needs is missing; then it is not offered.
"""

_log = logging.getLogger(__name__)


class ExecutorInvalid(RuntimeError):
    """An installed distribution offers an executor that cannot be used."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What an executor may need from the agent."""

    credentials: Credentials
    known_hosts: Path
    inventory: InventoryQuery
    local: Executor
    """Runs commands on the agent's own host."""
    grace: timedelta = timedelta(seconds=5)


class Executors:
    """All executors of an agent, by method."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        known_hosts: Path,
        inventory: InventoryQuery,
        grace: timedelta = timedelta(seconds=5),
        replacements: Mapping[str, Executor] | None = None,
    ) -> None:
        """Loads plug-ins; raises ExecutorInvalid. ``replacements`` win by method, for tests."""
        local = LocalExecutor(grace=grace)
        offered = Collaborators(credentials, known_hosts, inventory, local, grace)
        plugins, self.unavailable = _plugins(offered)
        """Methods that are not offered, and what each misses."""
        self._by_method: dict[str, Executor] = {
            "local-command": local,
            "ssh": SshExecutor(credentials, known_hosts=known_hosts, grace=grace),
            "http": HttpExecutor(credentials),
            "database-command": DatabaseCommandExecutor(credentials, local),
            "inventory": InventoryExecutor(inventory),
            **plugins,
            **(replacements or {}),
        }

    @property
    def methods(self) -> tuple[str, ...]:
        """Returns every method a tool may name."""
        return tuple(sorted({*self._by_method, "command"}))

    def choose(self, method: str, target: Mapping[str, Any] | None) -> Executor:
        """Returns the executor of a call; raises Refused when there is none.

        ``command`` goes the way the target's ``connection`` says; without a target it runs on the
        agent's own host.
        """
        name = method
        if method == "command" and "command" not in self._by_method:
            connection = str((target or {}).get("connection") or "")
            name = {"": "ssh", "local": "local-command"}.get(connection, connection)
            if target is None:
                name = "local-command"
        if name in self._by_method:
            return self._by_method[name]
        if method == "command":
            label = (target or {}).get("name", "the target")
            missing = self.unavailable.get(name)
            why = f": {missing}" if missing else f"; this agent has: {self._known()}"
            message = f"no executor for connection {name!r} of {label}{why}"
            raise Refused(Outcome.refused("CONNECTION_UNSUPPORTED", message))
        missing = self.unavailable.get(name)
        why = f": {missing}" if missing else f"; this agent has: {self._known()}"
        message = f"no executor for method {method!r}{why}"
        raise Refused(Outcome.refused("METHOD_UNSUPPORTED", message))

    async def close(self) -> None:
        """Closes every executor."""
        for executor in self._by_method.values():
            await executor.close()

    def _known(self) -> str:
        return ", ".join(sorted(self._by_method))


def _plugins(offered: Collaborators) -> tuple[dict[str, Executor], dict[str, str]]:
    """Returns the executors of entry points, and why others are not offered."""
    found: dict[str, Executor] = {}
    unavailable: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        source = point.dist.name if point.dist is not None else point.value
        try:
            executor: Executor = point.load()(offered)
        except Unavailable as missing:
            unavailable[point.name] = str(missing)
            _log.info("method %s is not offered: %s", point.name, missing)
            continue
        except Exception as error:
            message = f"executor {point.name!r} of {source} cannot be loaded: {error}"
            raise ExecutorInvalid(message) from error
        found[point.name] = executor
    return found, unavailable
