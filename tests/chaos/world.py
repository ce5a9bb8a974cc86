"""An orchestrator and two agents as real processes, each agent behind a proxy that can fail."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.proxy import FaultProxy
from chaos.service import Service, step_processes, wait_until
from chaos.tools import write_tools
from opsconductor.client.context import Context
from opsconductor.client.sync_client import SyncClient
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.tool_registry import tools_root
from opsconductor.v1 import agent_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from chaos.cells import Cell
    from helpers.postgres import Cluster

INSIDE = Path(__file__).with_name("inside")
LEASE = 2.0
"""Seconds after which a silent agent is suspect; the product's own is 20."""
PATIENT = 20.0
"""A lease under which a session outlives a freeze, so that only ``start_ttl`` is left to hold."""
READY = 60.0


@dataclass
class Place:
    """An agent: its process, its folder, and the proxy between it and the orchestrator."""

    service: Service
    folder: Path
    proxy: FaultProxy


class World:
    """Everything one schedule runs against; keeps what the checker needs in one folder."""

    def __init__(
        self,
        folder: Path,
        random: Random,
        *,
        cluster: Cluster | None = None,
        tmpfs: bool = False,
        replicas: int = 1,
        lease: float = LEASE,
        patches: Sequence[str] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.random = random
        self.cluster = cluster
        self.store = cluster.new_database() if cluster else ""
        self._tmpfs = tmpfs
        self._ended = False
        self.data = folder / "data"
        self.ledger = folder / "ledger"
        self.clock = folder / "clock"
        self.journal_of_run = folder / "world.jsonl"
        self._patches = ["short", "clock", "boot", "recorder", *patches]
        self._variables = {"OPSC_CHAOS_LEASE": str(lease), **(variables or {})}
        self._ports = [free_port() for _ in range(replicas)]
        folder.mkdir(parents=True, exist_ok=True)
        self.tools = write_tools(folder / "tools", self.ledger)
        self.orchestrators = [self._orchestrator(number) for number in range(replicas)]
        self.orchestrator = self.orchestrators[0]
        self.places: dict[str, Place] = {}
        self._lock = threading.Lock()
        kind = "postgresql" if cluster else "sqlite"
        self.note("world", store=kind, patches=list(patches), lease=LEASE)

    # Life

    def up(self, names: Sequence[str] = ("local", "second")) -> None:
        """Starts everything and waits until every agent is connected."""
        for orchestrator in self.orchestrators:
            orchestrator.start()
            assert self.wait_ready(orchestrator), self.logs()
        for number in range(1, len(self.orchestrators)):
            self.note("replica", number=number)
        for name in names:
            self.places[name] = self._place(name)
            self.places[name].service.start()
        assert wait_until(lambda: self.online() >= set(names), READY), self.logs()
        for name in names:
            self.places[name].service.command = self._run_command(name)

    def wait_ready(self, orchestrator: Service | None = None) -> bool:
        """Waits until an orchestrator answers or has died; tells whether it answers."""
        service = orchestrator or self.orchestrator
        ready = self._data_of(self.orchestrators.index(service)) / "orchestrator.ready"

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
        for place in self.places.values():
            place.proxy.set("pass")
            place.service.signal(_CONT)
        for orchestrator in self.orchestrators:
            orchestrator.signal(_CONT)
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
        for service in self._services():
            if not service.alive and not self._ended:
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
            place.proxy.set("pass")
            place.service.stop(40)
            place.proxy.close()
        for orchestrator in self.orchestrators:
            orchestrator.stop()

    def unmount(self) -> None:
        """Keeps what lies on file systems of this run's own, and ends those."""
        for place in self.places.values() if self._tmpfs else ():
            kept = place.folder.with_name(f"{place.folder.name}.kept")
            shutil.copytree(place.folder, kept, ignore=shutil.ignore_patterns("news"))
            subprocess.run(("umount", "-l", str(place.folder)), check=True)
            shutil.rmtree(place.folder)
            kept.rename(place.folder)

    def end_hard(self) -> None:
        """Ends everything at once; for worlds whose end no longer matters."""
        self._ended = True
        for place in self.places.values():
            place.service.kill_with_kin()
            place.proxy.close()
        for orchestrator in self.orchestrators:
            orchestrator.kill9()
        for pid in step_processes(self.ledger):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.unmount()

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
        if len(self.orchestrators) == 1:
            return known
        endpoints = tuple(f"127.0.0.1:{port}" for port in self._ports)
        return dataclasses.replace(known, endpoint=endpoints[0], endpoints=endpoints)

    def online(self) -> set[str]:
        """Returns the names of connected agents; nobody when the orchestrator does not answer."""
        try:
            with self.client() as client:
                answer = client.list_agents(page_size=100)
        except (OpsConductorError, OSError):
            return set()
        state = admin.AGENT_STATE_ONLINE
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

    # Changing what lies on the disk; nothing that uses it may run meanwhile

    def save_store(self) -> Path:
        """Copies the SQLite store as it is on disk, the orchestrator being down."""
        copy = self.folder / "older-store"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.data.glob("store.sqlite*"):
            shutil.copy2(file, copy / file.name)
        return copy

    def restore_store(self, copy: Path) -> None:
        """Puts an older copy of the store in place."""
        for file in self.data.glob("store.sqlite*"):
            file.unlink()
        for file in copy.iterdir():
            shutil.copy2(file, self.data / file.name)

    def lose_pages(self, place: Place) -> int:
        """Makes a journal what a power loss may leave of it; returns how many bytes went."""
        journal = place.folder / "journal"
        previous = journal.with_name("journal.previous")
        if previous.exists():
            previous.replace(journal)
        durable = 0
        with contextlib.suppress(FileNotFoundError):
            for line in journal.with_name("journal.durable").read_text().splitlines():
                inode, size = map(int, line.split())
                if inode == journal.stat().st_ino:
                    durable = size
        lost = journal.stat().st_size - durable
        if lost > 0:
            os.truncate(journal, durable)
        return lost

    def new_boot(self, place: Place) -> None:
        """Lets an agent's machine have been started again."""
        (place.folder / "boot").write_text(f"boot-{self.random.getrandbits(64):016x}\n")

    def set_clock(self, seconds: float) -> None:
        """Shifts the wall clock that the product's processes see."""
        new = self.clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.clock)

    # Inside

    def _whole_or_dead(self) -> bool:
        dead = any(not service.alive for service in self._services())
        return dead or self.online() >= self.expected()

    def _services(self) -> list[Service]:
        return [*self.orchestrators, *(place.service for place in self.places.values())]

    def _data_of(self, number: int) -> Path:
        return self.data if number == 0 else self.folder / f"data-{number}"

    def _environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        path = [str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(path),
            "OPSC_CHAOS": ",".join(self._patches),
            "OPSC_CHAOS_CLOCK": str(self.clock),
            **self._variables,
            **more,
        }

    def _orchestrator(self, number: int) -> Service:
        data = self._data_of(number)
        shared = (
            *("--pki-dir", str(self.folder / "pki"), "--lease", str(LEASE), "--operator", "olga"),
            *("--allowed-signers", str(self.data / "allowed_signers")),
        )
        command = [
            *(sys.executable, "-m", "opsconductor.orchestrator.main", "serve"),
            *("--data-dir", str(data), "--port", str(self._ports[number])),
            *("--tools", str(self.tools), "--ready-file", str(data / "orchestrator.ready")),
            *(("--store", self.store) if self.store else ()),
            *(shared if len(self._ports) > 1 else ()),
        ]
        name = "orchestrator" if number == 0 else f"orchestrator-{number}"
        return self._service(name, command, self._environment())

    def _place(self, name: str) -> Place:
        folder = self.folder / f"agent-{name}"
        folder.mkdir(exist_ok=True)
        if self._tmpfs:
            mount = ("mount", "-t", "tmpfs", "-o", "size=16m", "chaos", str(folder))
            subprocess.run(mount, check=True)
        proxy = FaultProxy(("127.0.0.1", self._ports[0]), self.random.getrandbits(32))
        endpoints = [proxy.endpoint, *(f"127.0.0.1:{port}" for port in self._ports[1:])]
        token = self.data / "local-agent.token"
        if name != "local":
            token = self.folder / f"{name}.token"
            with self.client() as client:
                token.write_text(client.create_join_token(name, segment="local").token_file)
        command = [
            *(sys.executable, "-m", "opsconductor.agent.main", "join"),
            *(word for endpoint in endpoints for word in ("--endpoint", endpoint)),
            *("--token-file", str(token)),
            *("--data-dir", str(folder), "--allowed-signers", str(self.data / "allowed_signers")),
        ]
        environment = self._environment(
            OPSCONDUCTOR_AGENT_TOOLS=f"{tools_root()},{self.tools}",
            OPSC_CHAOS_BOOT=str(folder / "boot"),
        )
        place = Place(self._service(f"agent-{name}", command, environment), folder, proxy)
        self.new_boot(place)
        return place

    def _run_command(self, name: str) -> list[str]:
        folder = str(self.places[name].folder)
        return [sys.executable, "-m", "opsconductor.agent.main", "run", "--data-dir", folder]

    def _service(self, name: str, command: list[str], environment: dict[str, str]) -> Service:
        log, fired = self.folder / f"{name}.log", self.folder / f"{name}.fired"
        return Service(name, command, environment, log, fired)


_CONT = signal.SIGCONT


def free_port() -> int:
    """Returns a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
