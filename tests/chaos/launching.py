"""How the processes of a world are started: commands, environments, folders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.disks import mount_small
from chaos.proxy import FaultProxy
from chaos.service import Service, free_port
from opsconductor.tool_registry import tools_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from chaos.clocks import Clock
    from chaos.namespaces import Namespace

INSIDE = Path(__file__).with_name("inside")


@dataclass
class Place:
    """An agent: its process, its folder, and what is between it and the orchestrators."""

    service: Service
    folder: Path
    proxy: FaultProxy
    """Between it and the first orchestrator."""
    namespace: Namespace | None = None

    def connect(self) -> None:
        """Heals its network."""
        self.proxy.set("pass")
        if self.namespace:
            self.namespace.heal()


@dataclass
class Launcher:
    """Knows what each process of one world needs."""

    folder: Path
    tools: Path
    clock: Clock
    store: str
    lease: float
    replicas: int
    patches: Sequence[str]
    variables: Mapping[str, str]
    small_disks: bool
    namespaces: Mapping[str, Namespace]
    """By agent; empty where all share the machine's network."""
    ports: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ports = [free_port() for _ in range(self.replicas)]

    @property
    def signers(self) -> Path:
        """Who may sign approvals."""
        return self.folder / "data" / "allowed_signers"

    def data_of(self, number: int) -> Path:
        """Returns an orchestrator's folder."""
        return self.folder / ("data" if number == 0 else f"data-{number}")

    def orchestrator(self, number: int) -> Service:
        """Returns an orchestrator that is not yet started."""
        data = self.data_of(number)
        if self.small_disks:
            mount_small(data)
        shared = (
            *("--pki-dir", str(self.folder / "pki"), "--lease", f"{self.lease:g}"),
            *("--allowed-signers", str(self.signers), "--operator", "olga"),
        )
        hosts = [word for each in self.namespaces.values() for word in ("--host", each.host)]
        command = [
            *(sys.executable, "-m", "opsconductor.orchestrator.main", "serve"),
            *("--data-dir", str(data), "--port", str(self.ports[number])),
            *("--tools", str(self.tools), "--ready-file", str(data / "orchestrator.ready")),
            *(("--store", self.store) if self.store else ()),
            *(shared if self.replicas > 1 else ()),
            *(("--listen", "0.0.0.0", *hosts) if hosts else ()),
        ]
        name = "orchestrator" if number == 0 else f"orchestrator-{number}"
        return self._service(name, command, self._environment("orchestrator"))

    def place(self, name: str, token: Path, random: Random) -> Place:
        """Returns an agent that has still to join."""
        folder = self.folder / f"agent-{name}"
        folder.mkdir(exist_ok=True)
        if self.small_disks:
            mount_small(folder)
        proxy = FaultProxy(("127.0.0.1", self.ports[0]), random.getrandbits(32))
        namespace = self.namespaces.get(name)
        endpoints = [proxy.endpoint, *(f"127.0.0.1:{port}" for port in self.ports[1:])]
        if namespace:
            endpoints = [f"{namespace.host}:{port}" for port in self.ports]
        command = [
            *self._agent(name, "join"),
            *(word for endpoint in endpoints for word in ("--endpoint", endpoint)),
            *("--token-file", str(token)),
            *("--data-dir", str(folder), "--allowed-signers", str(self.signers)),
        ]
        environment = self._environment(
            "agent",
            OPSCONDUCTOR_AGENT_TOOLS=f"{tools_root()},{self.tools}",
            OPSC_CHAOS_BOOT=str(folder / "boot"),
        )
        service = self._service(f"agent-{name}", command, environment)
        return Place(service, folder, proxy, namespace)

    def running(self, name: str, folder: Path) -> list[str]:
        """Returns the command of an agent that has joined."""
        return [*self._agent(name, "run"), "--data-dir", str(folder)]

    def _agent(self, name: str, verb: str) -> list[str]:
        namespace = self.namespaces.get(name)
        prefix = namespace.prefix if namespace else ()
        return [*prefix, sys.executable, "-m", "opsconductor.agent.main", verb]

    def _environment(self, party: str, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        path = [str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
        patches = [*self.patches, *(() if self.clock.library else ("clock",))]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(path),
            "OPSC_CHAOS": ",".join(patches),
            **self.clock.variables(party),
            **self.variables,
            **more,
        }

    def _service(self, name: str, command: list[str], environment: dict[str, str]) -> Service:
        log, fired = self.folder / f"{name}.log", self.folder / f"{name}.fired"
        return Service(name, command, environment, log, fired)
