"""One simulated world: built from a seed, run to its end, the same every time."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from opsconductor.agent.policy import Policy as AgentPolicy
from opsconductor.orchestrator.domain.executions.states import SessionState
from opsconductor.orchestrator.store.base import PutAgent
from opsconductor.orchestrator.store.rows import AgentRow
from simulation import faults as faulty
from simulation import plans
from simulation.canaries import AGENTS, found_in
from simulation.database import DatabaseServer
from simulation.disk import Disk
from simulation.final_checks import FinalChecks
from simulation.invariants import Checker
from simulation.network import Network
from simulation.people import People, signers
from simulation.programs import BEGIN, Agent, Orchestrator
from simulation.scenario import Verdict
from simulation.tape import Tape
from simulation.truth import Effects, Ledger, Tendency
from simulation.virtual_loop import Deadlock, TooManyCallbacks, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.network import Call
    from simulation.scenario import Scenario

PATIENCE = 1800.0
"""Seconds after the last fault within which everything has to have ended (I1, I20)."""


class World:
    """Everything there is."""

    def __init__(self, scenario: Scenario) -> None:
        rng = random.Random(scenario.seed)
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.ledger = Ledger()
        self.checker = Checker(self.ledger, self.loop.time)
        self.refused: list[str] = []
        self.destroyed: set[str] = set()
        """Agents whose hosts are gone for good, as far as anybody knows."""
        self.faults_met = 0
        self._rng = rng
        self.network = Network(self.loop, random.Random(rng.random()))
        self.network.on_frame = self._sent
        self.network.on_arrival = self._arrived
        self.tape = Tape(self.network, rng)
        self.database = DatabaseServer(
            self.loop,
            random.Random(rng.random()),
            lambda: BEGIN.timestamp() + self.loop.time(),
        )
        self.checker.tenants = self.network.tenants
        self.database.on_commit = self.checker.committed
        self.database.snapshot_of_checker = lambda: self.checker.known
        self.database.restore_checker = self.checker.put_back
        self.checker.owner_of = self._owner
        level, drawn_count = rng.choice((0, 0, 1, 2, 3)), rng.choice((1, 1, 2, 3))
        self.orchestrators = self._make_orchestrators(level, scenario.orchestrators or drawn_count)
        self.shares = rng.random() < 0.5
        """Whether there are two tenants, who name their requests alike."""
        self.agents = self._make_agents(rng, level)
        gates = rng.random() < 0.5
        count = rng.randint(8, 32)
        self.programs: list[Orchestrator | Agent] = [*self.orchestrators, *self.agents]
        self._documents = [plans.plan(rng, number, gates=gates) for number in range(count)]
        tenants = sorted({agent.tenant for agent in self.agents})
        self.shares = len(tenants) > 1
        self._tenants = [tenants[number % len(tenants)] for number in range(count)]
        self._times = [rng.uniform(0.0, scenario.span * 0.8) for _ in range(count)]
        self.people = People(
            self, random.Random(rng.random()), restless=rng.choice((0.0, 0.01, 0.05))
        )
        rate = rng.choice((0.05, 0.15, 0.4)) if scenario.swarm else 0.4
        share = 0.4 if scenario.swarm else 1.0
        drawn = faulty.draw(random.Random(rng.random()), scenario.span, scenario.kinds, rate, share)
        self.faults = [fault for index, fault in enumerate(drawn) if index not in scenario.without]

    def _make_orchestrators(self, level: int, count: int) -> list[Orchestrator]:
        houses = [
            Orchestrator(
                name,
                self.loop,
                self.network,
                self.database,
                plans.registry(),
                plans.policy(level),
                signers(),
            )
            for name in ("o1", "o2", "o3")[:count]
        ]
        self.database.shared = count > 1
        for house in houses:
            house.on_exit = self.start_if_dead
        return houses

    def _make_agents(self, rng: random.Random, level: int) -> list[Agent]:
        tendency = Tendency(
            fail=rng.choice((0.0, 0.1, 0.3)),
            unreachable=rng.choice((0.0, 0.05)),
            lost=rng.choice((0.0, 0.0, 0.05)),
        )
        agents = []
        # Where nobody is asked there is nobody's signature, and the agents ask for none.
        policy = AgentPolicy(quorum=0 if level == 0 else 1)
        self.checker.quorum = policy.quorum
        for name in AGENTS[: rng.randint(1, 3)]:
            tenant = "other" if self.shares and name != "a1" else "default"
            self.network.tenants[name] = tenant
            disk = Disk(self.loop, random.Random(rng.random()))
            disk.on_record = partial(self.checker.journalled, name)
            effects = Effects(name, self.loop, self.ledger, self.scenario.seed, tendency)
            agent = Agent(
                name,
                self.loop,
                self.network,
                disk,
                effects,
                plans.registry(),
                policy,
                signers(),
                tuple(house.name for house in self.orchestrators),
                rng.choice((1, 2, 4, 16)),
                tenant,
            )
            agent.on_exit = self._agent_exited
            agents.append(agent)
        return agents

    # What faults and people use

    def orchestrator(self, who: int) -> Orchestrator:
        """Returns one of the orchestrators."""
        return self.orchestrators[who % len(self.orchestrators)]

    def any_orchestrator(self) -> Orchestrator:
        """Returns one that serves, if there is one."""
        ready = [house for house in self.orchestrators if house.ready]
        return self._rng.choice(ready or self.orchestrators)

    def agent(self, who: int) -> Agent:
        """Returns one of the agents."""
        return self.agents[who % len(self.agents)]

    def later(self, seconds: float, what: Callable[..., Any], *arguments: Any) -> None:
        """Has something happen after a while."""
        self.loop.later(seconds, what, *arguments)

    def start_if_dead(self, program: Orchestrator | Agent) -> None:
        """Starts a program that does not run."""
        if program.process is None:
            self.destroyed.discard(program.name)
            self.checker.note(f"start of {program.name}")
            program.start()
            if isinstance(program, Agent):
                self.checker.lives[program.name] = program.lives

    def _agent_exited(self, agent: Agent) -> None:
        """Starts an agent again that ended itself, as its service manager would."""
        self.checker.note(f"{agent.name} ended itself")
        self.kill_agent(agent)
        self.later(2.0, self.start_if_dead, agent)

    def kill_agent(self, agent: Agent, *, power: bool = False) -> None:
        """Kills an agent's process, or cuts its power."""
        if agent.process is not None:
            agent.effects.killed(agent.process.name)
        agent.kill(power=power)
        if power:
            self.checker.power_lost[agent.name] += 1

    def lose_journal(self, agent: Agent) -> None:
        """Deletes what an agent remembers."""
        agent.disk.wipe()
        self.checker.journals_lost.add(agent.name)
        self.checker.memories.pop(agent.name, None)

    def restore(self, *, wait: float) -> None:
        """Puts the database back; an operator then tells every agent that this was meant."""
        for house in self.orchestrators:
            house.kill()
        if self.database.restore():
            self.checker.note("the database is an older one")
        for house in self.orchestrators:
            self.later(1.0, self.start_if_dead, house)

    # Watching

    def _owner(self, execution_id: str) -> str:
        found = self.database.execute(
            "SELECT replica_id FROM leases WHERE execution_id = ?", execution_id
        )
        return str(found[0][0]) if found else ""

    def _sent(self, call: Call, way: str, frame: Any) -> None:
        if found := found_in((frame.SerializeToString(),)):
            self.checker.fail("I16", f"{call.agent} {way} {call.name}: a frame holds {found!r}")
        if call.name != "Control":
            return
        kind = frame.WhichOneof("frame")
        if kind == "report_ack":
            self.checker.acknowledged(frame.report_ack.attempt_id)
        elif kind == "heartbeat" and way == "up":
            self.checker.beat(call.agent, call.endpoint, frame.heartbeat.number)
        elif kind == "hello":
            call.hello_at = self.loop.time()
        self.tape.sent(call, way, frame)

    def _arrived(self, call: Call, way: str, frame: Any) -> None:
        if call.name != "Control":
            return
        kind = frame.WhichOneof("frame")
        checker, agent, there = self.checker, call.agent, call.endpoint
        if kind != "heartbeat":
            checker.note(f"{agent} {way} {there} {kind} {_about(frame, kind)}")
        if way == "up":
            return
        if kind == "welcome":
            checker.spoke(agent, there, frame.welcome.session_epoch, call.hello_at)
        elif kind == "heartbeat":
            checker.echoed(agent, there, frame.heartbeat.number)
        elif kind == "assign":
            order = frame.assign
            checker.require_tenant(call.agent, order.attempt_id)
            self.tape.arrived(agent, order)
            ttl = order.start_ttl.ToTimedelta().total_seconds()
            checker.ordered(agent, order.attempt_id, order.session_epoch, order.beat, ttl)

    # Its course

    def run(self) -> Verdict:
        """Lets it all happen."""
        failed = ""
        try:
            self.loop.run_until_complete(self.loop.outside(self._course()))
        except (Deadlock, TooManyCallbacks) as exc:
            failed = str(exc)
        if failed and self.checker.violation is None:
            self.checker.fail("I20", failed)
        checker = self.checker
        return Verdict(
            self.scenario,
            checker.violation,
            checker.events,
            self.loop.callbacks,
            self.people.submitted,
            self.faults,
            checker.hash.hexdigest(),
            dict(checker.counts),
            list(checker.trace),
            [*self.loop.complaints, *self.refused],
            self.faults_met,
        )

    async def _course(self) -> None:
        self._enrol()
        for program in self.programs:
            self.start_if_dead(program)
        loop, span = self.loop, self.scenario.span
        for at, (number, document) in zip(self._times, enumerate(self._documents), strict=True):
            loop.outside(self.people.submit(at, number, document, self._tenants[number]))
        loop.outside(self.people.look_after())
        for fault in self.faults:
            loop.later(fault.at, faulty.strike, self, fault)
        for tenth in range(1, 10):
            loop.later(span * tenth / 10, self.database.snapshot)
        while loop.time() < span and self._going:  # noqa: ASYNC110 - the clock is ours
            await asyncio.sleep(0.25)
        self._heal()
        deadline = loop.time() + PATIENCE
        while self._going and not self._settled():
            if loop.time() > deadline:
                self._too_late()
                return
            await asyncio.sleep(1.0)
        if self._going:
            await FinalChecks(self).run()

    @property
    def _going(self) -> bool:
        if self.loop.complaints:
            self.checker.fail("DEFECT", self.loop.complaints[0])
        limit = self.scenario.max_events
        return self.checker.violation is None and not (limit and self.checker.events >= limit)

    def _enrol(self) -> None:
        store = self.database.session()
        for agent in self.agents:
            row = AgentRow(
                agent_id=agent.name,
                tenant=agent.tenant,
                name=agent.name,
                segment="local",
                certificate_sha256="",
                certificate_expire_time=None,
                journal_id="",
                draining=False,
                quarantined=False,
                facts=b"",
                last_seen_time=None,
                create_time=BEGIN,
            )

            outcomes = self.database.write([(PutAgent(row),)], {}, 0)
            if isinstance(outcomes, Exception):
                raise outcomes
        del store

    def _heal(self) -> None:
        """Ends every fault; from here on people are diligent."""
        self.checker.note("healed")
        self.people.diligent = True
        self.network.heal()
        for path in self.network.paths.values():
            for call in list(path.calls):
                if call.dirty:
                    call.abort("the connection was lost in bad weather")
        database = self.database
        database.down, database.failing, database.losing_answers = False, 0.0, 0.0
        for program in self.programs:
            program.machine.ahead = 0.0
            if isinstance(program, Agent):
                program.disk.full = program.disk.broken = False
            if program.process is not None and program.process.frozen:
                program.process.thaw()
            self.start_if_dead(program)

    def _settled(self) -> bool:
        return (
            self.people.submitted + len(self.refused) >= len(self._documents)
            and not any(state.open for state in self.checker.known.executions.values())
            and not any(effect.end is None for effect in self.ledger.effects)
            and all(self._is_online(agent) for agent in self.agents)
        )

    def _is_online(self, agent: Agent) -> bool:
        members = [house.fleet.get(agent.name) for house in self.orchestrators if house.ready]
        return any(item is not None and item.state is SessionState.ONLINE for item in members)

    def _too_late(self) -> None:
        waiting = [
            f"{state.execution_id} {state.state} ({state.reason}): "
            + ", ".join(f"{step.step_id} {step.state}" for step in state.steps.values())
            + "; live "
            + ", ".join(
                f"{a.attempt_id[-8:]} {a.state} {a.agent_id}" for a in state.live_attempts()
            )
            for state in self.checker.known.executions.values()
            if state.open
        ]
        for house in self.orchestrators:
            members = list(house.fleet.members()) if house.ready else []
            waiting += [f"{house.name}: {m.name} {m.state} {m.quarantined}" for m in members]
            waiting += [
                f"{house.name}: {state.execution_id} waits: "
                + ", ".join(house.engine.waiting_reason(state.execution_id, s) for s in state.steps)
                for state in (house.engine.open_states() if house.ready else ())
            ]
        offline = [agent.name for agent in self.agents if not self._is_online(agent)]
        waiting += [f"without a session: {offline}"] if offline else []
        self.checker.fail("I1", f"{PATIENCE:g} s after the last fault still open: {waiting}")


def _about(frame: Any, kind: str) -> str:
    match kind:
        case "assign":
            return f"{frame.assign.attempt_id[-8:]} epoch {frame.assign.session_epoch}"
        case "cancel":
            return str(frame.cancel.attempt_id[-8:])
        case "report_ack":
            return str(frame.report_ack.attempt_id[-8:])
        case "report":
            return f"{frame.report.attempt_id[-8:]} {frame.report.state}"
        case "welcome":
            return f"epoch {frame.welcome.session_epoch}"
        case "hello":
            return f"with {len(frame.hello.attempts)} attempts"
    return ""
