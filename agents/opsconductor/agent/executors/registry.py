"""Which executor carries out a call: the built-in ones and those of installed distributions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.http import HttpExecutor
from opsconductor.agent.executors.inventory import InventoryExecutor
from opsconductor.agent.executors.local import LocalExecutor
from opsconductor.agent.executors.ssh import SshExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from opsconductor.agent.executors.base import Executor
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.inventory import InventoryQuery

GROUP = "opsconductor.executors"
"""Entry point group; each names a callable that takes Collaborators and returns an Executor."""


class ExecutorInvalid(RuntimeError):
    """An installed distribution offers an executor that cannot be used."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What an executor may need from the agent."""

    credentials: Credentials
    known_hosts: Path
    inventory: InventoryQuery
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
        offered = Collaborators(credentials, known_hosts, inventory, grace)
        local = LocalExecutor(grace=grace)
        self._by_method: dict[str, Executor] = {
            "local-command": local,
            "ssh": SshExecutor(credentials, known_hosts=known_hosts, grace=grace),
            "http": HttpExecutor(),
            "inventory": InventoryExecutor(inventory),
            **_plugins(offered),
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
            message = (
                f"no executor for connection {name!r} of {label}; this agent has: {self._known()}"
            )
            raise Refused(Outcome.refused("CONNECTION_UNSUPPORTED", message))
        message = f"no executor for method {method!r}; this agent has: {self._known()}"
        raise Refused(Outcome.refused("METHOD_UNSUPPORTED", message))

    async def close(self) -> None:
        """Closes every executor."""
        for executor in self._by_method.values():
            await executor.close()

    def _known(self) -> str:
        return ", ".join(sorted(self._by_method))


def _plugins(offered: Collaborators) -> dict[str, Executor]:
    found: dict[str, Executor] = {}
    for point in entry_points(group=GROUP):
        source = point.dist.name if point.dist is not None else point.value
        try:
            executor: Executor = point.load()(offered)
        except Exception as error:
            message = f"executor {point.name!r} of {source} cannot be loaded: {error}"
            raise ExecutorInvalid(message) from error
        found[point.name] = executor
    return found
