"""The product's programs in the simulated world: everything real but sockets, files and effects."""

from __future__ import annotations

import asyncio
import secrets
import time as real_time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent import attempt as agent_attempt
from opsconductor.agent.calls import Caller
from opsconductor.agent.fence import Fences
from opsconductor.agent.journal import Journal
from opsconductor.agent.masking import Masks
from opsconductor.agent.output import Spools
from opsconductor.agent.session.inventory import InventoryQueries
from opsconductor.agent.session.links import Links
from opsconductor.agent.session.shared import Shared
from opsconductor.agent.session.switchboard import Switchboard
from opsconductor.agent.spans import NoSpans
from opsconductor.agent.verify import Trust
from opsconductor.agent.worker import Worker
from opsconductor.orchestrator.engine.agents import Agents
from opsconductor.orchestrator.engine.cluster import Cluster
from opsconductor.orchestrator.engine.deciding import Deciding
from opsconductor.orchestrator.engine.engine import Engine
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.history import History
from opsconductor.orchestrator.engine.listeners import Listeners
from opsconductor.orchestrator.engine.marking import Marking
from opsconductor.orchestrator.engine.neighbours import Neighbours
from opsconductor.orchestrator.engine.planning import Planner
from opsconductor.orchestrator.engine.replica import Replica
from opsconductor.orchestrator.engine.submission import Submission, Submissions
from opsconductor.orchestrator.servicers.agent_servicer import AgentServicer
from opsconductor.orchestrator.store.mark import Mark
from opsconductor.orchestrator.store.store import Store
from simulation.canaries import secret_of
from simulation.disk import Disk, DiskSlots, Folder, Runs
from simulation.network import Server
from simulation.virtual_loop import PROCESS, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from opsconductor.agent.policy import Policy as AgentPolicy
    from opsconductor.orchestrator.domain.plans.policy import Policy
    from opsconductor.rpc.allowed_signers import AllowedSigners
    from opsconductor.tool_registry.registry import Registry
    from simulation.database import DatabaseServer
    from simulation.network import Channel, Network
    from simulation.truth import Effects
    from simulation.virtual_loop import VirtualLoop

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Machine:
    """A computer with clocks: one that people set, and one since boot that nobody can."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ahead = 0.0
        self.boots = 1
        self._booted_at = 0.0

    def wall(self) -> float:
        """Returns seconds since 1970 as this machine believes."""
        return BEGIN.timestamp() + self._loop.time() + self.ahead

    def now(self) -> datetime:
        """Returns the time of day as this machine believes."""
        return BEGIN + timedelta(seconds=self._loop.time() + self.ahead)

    def boottime(self) -> float:
        """Returns seconds since boot."""
        return self._loop.time() - self._booted_at + 100.0

    def reboot(self) -> None:
        """Starts the clock since boot anew."""
        self.boots += 1
        self._booted_at = self._loop.time()


class Clocks:
    """Takes the place of the module ``time`` where agents read it directly."""

    CLOCK_BOOTTIME = real_time.CLOCK_BOOTTIME

    @staticmethod
    def clock_gettime(_: int) -> float:
        """Returns the boot clock of the machine whose process asks."""
        process = PROCESS.get()
        machine: Machine = process.machine  # type: ignore[union-attr]
        return machine.boottime()

    @classmethod
    def boottime(cls) -> float:
        """Returns the same."""
        return cls.clock_gettime(cls.CLOCK_BOOTTIME)


class Orchestrator:
    """One orchestrator program on its machine; may be killed and started again."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        network: Network,
        database: DatabaseServer,
        registry: Registry,
        policy: Policy,
        signers: AllowedSigners,
    ) -> None:
        self.name = name
        self.machine = Machine(loop)
        self.slots = DiskSlots()
        """The file in its data directory; no restore of the database touches it."""
        self.process: Process | None = None
        self.ready = False
        self.lives = 0
        self.on_exit: Callable[[Orchestrator], None] = lambda _: None
        self.engine: Engine
        self.submissions: Submissions
        self.deciding: Deciding
        self.fleet: Fleet
        self.agents: Agents
        self._loop = loop
        self._network = network
        self._database = database
        self._registry = registry
        self._policy = policy
        self._signers = signers

    def start(self) -> None:
        """Starts the program."""
        self.lives += 1
        self.ready = False
        process = Process(self._loop, f"{self.name}/{self.lives}")
        process.machine = self.machine  # type: ignore[attr-defined]
        self.process = process
        main = process.spawn(self._main(process))
        main.add_done_callback(self._main_ended, context=self._loop.kernel.copy())

    def _main_ended(self, main: asyncio.Task[None]) -> None:
        """A program that could not start has exited; somebody starts it again."""
        if main.cancelled() or main.exception() is None or self.ready:
            return
        self.kill()
        self._loop.later(2.0, self.on_exit, self)

    def kill(self) -> None:
        """Ends it as SIGKILL does."""
        if self.process is not None:
            self.process.kill()
            for (_, endpoint), path in self._network.paths.items():
                if endpoint == self.name:
                    for call in list(path.calls):
                        call.abort("the orchestrator died")
        self._network.servers.pop(self.name, None)
        self.process = None
        self.ready = False

    async def _main(self, process: Process) -> None:
        clock = self.machine.now
        store = Store(self._database.session(), await self._incarnation())
        fleet, listeners = Fleet(), Listeners()
        replica = Replica(store.shared, self.machine.boottime, self.name)
        steady = self.machine.boottime
        engine = Engine(store, fleet, listeners, clock, replica=replica, steady=steady)
        agents = Agents(store, fleet, engine, clock, self.machine.boottime)
        await agents.load()
        await Marking(store, agents.restoring, engine, Mark(self.slots)).start()
        planner = Planner(store, self._registry, self._policy, fleet, clock)
        self.fleet, self.engine, self.agents = fleet, engine, agents
        self.submissions = Submissions(store, planner, engine, clock)
        self.deciding = Deciding(store, engine, planner, lambda: self._signers)
        history = History(store, engine, listeners)
        enrolment: Any = None
        servicer = AgentServicer(store, fleet, agents, enrolment, engine, history, replica, clock)
        await engine.start()
        if store.shared:
            neighbours = Neighbours(store, fleet, agents.restoring, planner, replica, clock)
            await Cluster(store, engine, fleet, neighbours, replica, clock).start()
        agents.start()
        if self.process is process:
            handlers: Any = {"Control": servicer.Control, "Output": servicer.Output}
            self._network.servers[self.name] = Server(process, handlers)
            self.ready = True

    async def _incarnation(self) -> str:
        found = self._database.execute("SELECT value FROM meta WHERE key = 'incarnation'")
        return str(found[0][0])

    def submit(self, submission: Submission) -> asyncio.Future[Any]:
        """Has the program take a plan."""
        return self.ask(lambda: self.submissions.submit(submission))

    def ask(self, work: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Has the program serve a call; the answer, or the error, comes later or never."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.process is None or not self.ready:
            answer.set_exception(ConnectionError("nobody is there"))
            return answer

        async def serve() -> None:
            try:
                found: Any = await work()
            except Exception as exc:  # noqa: BLE001 - the caller judges
                found = exc
            self._loop.later(0.002, _answer, answer, found)

        self.process.spawn(serve())
        return answer


def _answer(answer: asyncio.Future[Any], found: Any) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


class Certificates:
    """Opens channels on the simulated network."""

    def __init__(self, network: Network, process: Process, agent: str) -> None:
        self._network = network
        self._process = process
        self._agent = agent

    def open_channel(self, endpoint: str) -> Channel:
        """See shared.Certificates."""
        return self._network.channel(self._process, self._agent, endpoint)

    async def renew_when_due(self, channel: object) -> None:
        """Never needs to be."""
        await asyncio.get_running_loop().create_future()


class FixedEndpoints:
    """Takes the place of ``Endpoints``: all orchestrators are in the settings."""

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        self._endpoints = endpoints
        self.change = asyncio.Event()

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def learn(self, named: object) -> None:
        """Knows all there are."""


class Agent:
    """One agent program on its machine; may be killed and started again."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        network: Network,
        disk: Disk,
        effects: Effects,
        registry: Registry,
        policy: AgentPolicy,
        signers: AllowedSigners,
        endpoints: tuple[str, ...],
        capacity: int,
        tenant: str,
    ) -> None:
        self.name = name
        self.tenant = tenant
        self.disk = disk
        self.machine = Machine(loop)
        self.process: Process | None = None
        self.lives = 0
        self.capacity = capacity
        self.effects = effects
        self.worker: Worker
        self.journal: Journal
        self.accept_incarnation = ""
        self.ended_with: list[str] = []
        self.on_exit: Callable[[Agent], None] = lambda _: None
        self._loop = loop
        self._network = network
        self._registry = registry
        self._policy = policy
        self._signers = signers
        self._endpoints = endpoints

    def start(self) -> None:
        """Starts the program."""
        self.lives += 1
        process = Process(self._loop, f"{self.name}/{self.lives}")
        process.machine = self.machine  # type: ignore[attr-defined]
        self.process = process
        process.spawn(self._main(process))

    def kill(self, *, power: bool = False) -> None:
        """Ends it as SIGKILL does, or its whole machine."""
        if self.process is None:
            return
        self.process.kill()
        self.process = None
        for (agent, _), path in self._network.paths.items():
            if agent == self.name:
                for call in list(path.calls):
                    call.abort("the agent died")
        if power:
            self.disk.lose_power()
            self.machine.reboot()
            self.effects.power_lost()

    async def _main(self, process: Process) -> None:
        folder: Any = Folder(self.disk)
        path: Any = self.disk
        journal = Journal.open(path, self.machine.wall)
        self.journal = journal
        boot_id = f"boot-{self.machine.boots}"
        if self.accept_incarnation:
            journal.leave_store()
            journal.pin_incarnation(self.accept_incarnation)
            self.accept_incarnation = ""
        executor: Any = self.effects.executor(process)
        runs: Any = Runs(self.disk)
        spools = Spools(folder)
        trust = Trust(self._registry, self._policy, lambda: self._signers, self.tenant, "local")
        fences = Fences(self.machine.boottime)
        shop = agent_attempt.Workshop(
            journal=journal,
            trust=trust,
            caller=Caller(executor.choose, self._policy),
            spools=spools,
            fence=fences,
            spans=NoSpans(),
            masks=Masks(lambda: (secret_of(self.name),)),
            clock=self.machine.wall,
            boot_id=boot_id,
            runs=runs,
        )
        worker = self.worker = Worker(shop, capacity=self.capacity)
        worker.recover()
        facts = {
            "version": "1",
            "journal_id": journal.journal_id,
            "boot_id": boot_id,
            "instance_id": secrets.token_hex(16),
            "services": ["automation-service"],
            "methods": ["command", "ssh"],
            "labels": {},
            "capacity": self.capacity,
            "tool_digests": {},
        }

        def said() -> dict[str, Any]:
            changing = {
                "last_session_epoch": journal.epoch,
                "incarnation": journal.incarnation,
            }
            return {**facts, **changing}

        certificates: Any = Certificates(self._network, process, self.name)
        endpoints: Any = FixedEndpoints(self._endpoints)
        poison_frames: Any = None
        shared = Shared(
            certificates=certificates,
            endpoints=endpoints,
            worker=worker,
            journal=journal,
            spools=spools,
            fences=fences,
            inventory=InventoryQueries(),
            board=Switchboard(worker, self.machine.boottime),
            poison=shop.poison,
            poison_frames=poison_frames,
            facts=said,
        )
        links = Links(shared)
        life = asyncio.create_task(links.run())
        broken = asyncio.create_task(worker.broken.wait())
        await asyncio.wait({life, broken}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            self.ended_with.append(repr(life.exception()))
        self._loop.later(0.0, self._exited, process)

    def _exited(self, process: Process) -> None:
        """The program ended itself: its journal cannot be relied on. Somebody starts it again."""
        if self.process is process:
            self.on_exit(self)
