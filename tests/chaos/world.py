"""An orchestrator and two agents as real processes, each agent behind a proxy that can fail."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from chaos.clocks import PARTIES, Clock
from chaos.disks import keep_small
from chaos.launching import Launcher, Place
from chaos.namespaces import Namespace
from chaos.service import Service, step_processes, wait_until
from chaos.tools import write_tools
from helpers import fake_time
from opsconductor.client.context import Context
from opsconductor.client.sync_client import SyncClient
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.v1 import agent_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from random import Random

    from chaos.cells import Cell
    from helpers.postgres import Cluster

LEASE = 2.0
"""Seconds after which a silent agent is suspect; the product's own is 20."""
PATIENT = 20.0
"""A lease under which a session outlives a freeze, so that only ``start_ttl`` is left to hold."""
READY = 60.0
AGENTS = ("local", "second")


class World:
    """Everything one schedule runs against; keeps what the checker needs in one folder."""

    def __init__(
        self,
        folder: Path,
        random: Random,
        *,
        cluster: Cluster | None = None,
        small_disks: bool = False,
        replicas: int = 1,
        lease: float = LEASE,
        patches: Sequence[str] = (),
        namespaces: bool = False,
        time_library: Path | None = None,
    ) -> None:
        self.folder = folder
        self.random = random
        self.cluster = cluster
        self.store = cluster.new_database() if cluster else ""
        self.data = folder / "data"
        self.ledger = folder / "ledger"
        self.journal_of_run = folder / "world.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = Clock(folder, time_library)
        self.namespaces: Mapping[str, Namespace] = {}
        if namespaces:
            self.namespaces = {name: Namespace.make(random) for name in AGENTS}
        self.launcher = Launcher(
            folder=folder,
            tools=write_tools(folder / "tools", self.ledger),
            clock=self.clock,
            store=self.store,
            lease=LEASE,
            replicas=replicas,
            patches=["short", "boot", "recorder", *patches],
            variables={"OPSC_CHAOS_LEASE": str(lease)},
            small_disks=small_disks,
            namespaces=self.namespaces,
        )
        self.orchestrators = [self.launcher.orchestrator(number) for number in range(replicas)]
        self.orchestrator = self.orchestrators[0]
        self.places: dict[str, Place] = {}
        self.restored = False
        """Whether the store was ever put back to an older state."""
        self._lock = threading.Lock()
        kind = "postgresql" if cluster else "sqlite"
        self.note("world", store=kind, patches=list(patches), lease=LEASE)

    # Life

    def up(self, names: Sequence[str] = AGENTS) -> None:
        """Starts everything and waits until every agent is connected."""
        for orchestrator in self.orchestrators:
            orchestrator.start()
            assert self.wait_ready(orchestrator), self.logs()
        for number in range(1, len(self.orchestrators)):
            self.note("replica", number=number)
        for name in names:
            self.places[name] = self.launcher.place(name, self._token(name), self.random)
            self.new_boot(self.places[name])
            self.places[name].service.start()
        assert wait_until(lambda: self.online() >= set(names), READY), self.logs()
        for name in names:
            place = self.places[name]
            place.service.command = self.launcher.running(name, place.folder)

    def wait_ready(self, orchestrator: Service | None = None) -> bool:
        """Waits until an orchestrator answers or has died; tells whether it answers."""
        service = orchestrator or self.orchestrator
        ready = self.launcher.data_of(self.orchestrators.index(service)) / "orchestrator.ready"

        def there() -> bool:
            if not service.alive:
                return True
            try:
                return bool(json.loads(ready.read_bytes())["pid"] == service.pid)
            except (OSError, ValueError):
                return False

        assert wait_until(there, READY), self.logs()
        return service.alive

    def heal(self, following: Cell | None = None) -> bool:
        """Makes everything run and connected again; tells whether that came true in time.

        What has to be started again anyway is armed for the round that follows.
        """
        self._soothe()
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            for orchestrator in self.orchestrators:
                if not orchestrator.alive:
                    following = self._start(orchestrator, following)
            if not all(self.wait_ready(orchestrator) for orchestrator in self.orchestrators):
                continue
            for place in self.places.values():
                if not place.service.alive:
                    following = self._start(place.service, following)
            self._release()
            wait_until(self._whole_or_dead, min(5.0, max(0.0, deadline - time.monotonic())))
            if self.online() >= self.expected():
                self._release()
                return True
        return False

    def revive(self) -> None:
        """Starts again what died of a failpoint that acted before its turn."""
        for service in self.services:
            if not service.alive and not service.over:
                service.start()

    def _start(self, service: Service, following: Cell | None) -> Cell | None:
        """Starts a process, armed once if the cell that follows is about it."""
        place = "agent" if service.name == "agent-local" else service.name
        if following is None or following.where != place or following.action == "stop":
            service.start()
            return following
        service.start(following.setting)
        return None

    def expected(self) -> set[str]:
        """Returns the agents that should be connected."""
        return set(self.places)

    def down(self) -> None:
        """Stops everything."""
        for place in self.places.values():
            place.connect()
            place.service.stop(40)
            place.proxy.close()
        for orchestrator in self.orchestrators:
            orchestrator.stop()

    def take_apart(self) -> None:
        """Keeps what lies on file systems of this run's own, and ends those and its networks."""
        keep_small((self.data, *(place.folder for place in self.places.values())))
        for namespace in self.namespaces.values():
            namespace.remove()
        if self.clock.library:
            fake_time.sweep()

    def end_hard(self) -> None:
        """Ends everything at once; for worlds whose end no longer matters."""
        for service in self.services:
            service.over = True
        for place in self.places.values():
            place.service.kill_with_kin()
            place.proxy.close()
        for orchestrator in self.orchestrators:
            orchestrator.kill9()
        for pid in step_processes(self.ledger):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.take_apart()

    # Asking

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncClient]:
        """Yields a client of the operator."""
        with SyncClient(self.context) as client:
            yield client

    @property
    def context(self) -> Context:
        """The operator's context."""
        known = Context.load(self.data / "context.yaml")
        endpoints = tuple(f"127.0.0.1:{port}" for port in self.launcher.ports)
        return dataclasses.replace(known, endpoint=endpoints[0], endpoints=endpoints)

    def online(self) -> set[str]:
        """Returns the names of connected agents; nobody when the orchestrator does not answer."""
        return self._agents_in(admin.AGENT_STATE_ONLINE)

    def quarantined(self) -> set[str]:
        """Returns the names of agents that are kept out."""
        return self._agents_in(admin.AGENT_STATE_QUARANTINED)

    def _agents_in(self, state: int) -> set[str]:
        try:
            with self.client() as client:
                answer = client.list_agents(page_size=100)
        except (OpsConductorError, OSError):
            return set()
        return {agent.name for agent in answer.agents if agent.state == state}

    def _release(self) -> None:
        """Lets agents and tools out of quarantine, as an operator does after a look."""
        with contextlib.suppress(OpsConductorError, OSError), self.client() as client:
            for agent in client.list_agents(page_size=100).agents:
                if agent.state == admin.AGENT_STATE_QUARANTINED:
                    client.release_agent(agent.name)
                    self.note("released", agent=agent.name, why=agent.state_reason)
                for tool, why in agent.quarantined_tools.items():
                    client.release_agent(agent.name, tool=tool)
                    self.note("released", agent=agent.name, tool=tool, why=why)

    # Remembering

    def note(self, what: str, **facts: Any) -> None:
        """Writes down what was done to the world, with all clocks."""
        line = {
            "what": what,
            **facts,
            "wall": time.time(),
            "boot": time.clock_gettime(time.CLOCK_BOOTTIME),
        }
        with self._lock, self.journal_of_run.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def sample(self) -> None:
        """Writes down how much memory everything holds."""
        sizes = {name: place.service.rss() for name, place in self.places.items()}
        orchestrators = max(orchestrator.rss() for orchestrator in self.orchestrators)
        self.note("rss", orchestrator=orchestrators, agents=sizes)

    def logs(self) -> str:
        """Returns the last lines of every log."""
        return "\n".join(
            f"--- {file.name}\n{file.read_text(errors='replace')[-2500:]}"
            for file in sorted(self.folder.glob("*.log"))
        )

    def set_clock(self, seconds: float, parties: Sequence[str] = PARTIES) -> None:
        """Shifts the wall clock that some kinds of the product's processes see."""
        self.clock.set(seconds, parties)

    def new_boot(self, place: Place) -> None:
        """Lets an agent's machine have been started again."""
        (place.folder / "boot").write_text(f"boot-{self.random.getrandbits(64):016x}\n")

    @property
    def services(self) -> list[Service]:
        """Every process of the product that should run."""
        return [*self.orchestrators, *(place.service for place in self.places.values())]

    # Inside

    def _soothe(self) -> None:
        """Ends what a fault may have left: cut networks, frozen processes."""
        if self.clock.library:
            fake_time.sweep()
        for place in self.places.values():
            place.connect()
        for service in self.services:
            service.signal(signal.SIGCONT)

    def _token(self, name: str) -> Path:
        if name == "local":
            return self.data / "local-agent.token"
        token = self.folder / f"{name}.token"
        with self.client() as client:
            token.write_text(client.create_join_token(name, segment="local").token_file)
        return token

    def _whole_or_dead(self) -> bool:
        dead = any(not service.alive for service in self.services)
        return dead or self.online() >= self.expected()
