"""What is checked at the end of a run, when everything is quiet: what is stored, and replays."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.redact import Redactor
from opsconductor.orchestrator.engine import log
from opsconductor.orchestrator.store.rows import StoredEvent
from opsconductor.orchestrator.store.schema import Instant
from opsconductor.orchestrator.store.store import Store
from simulation.canaries import found_in, secret_of

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.executions import events as ev
    from simulation.world import World

QUIET = 10.0
"""Seconds after which a frame that was sent again has had its effect."""
REPLAYED = 120


class FinalChecks:
    """Looks at everything there is; the first violation is the run's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._checker = world.checker

    async def run(self) -> None:
        """Checks."""
        self._check_chains()
        self._check_outputs()
        self._check_secrets()
        await self._check_tenants()
        await self._check_replays()

    def _check_chains(self) -> None:
        """The audit log holds, event by event, what was seen when it was written (I15)."""
        database, known = self._world.database, self._checker.known
        for execution_id, head in known.heads.items():
            rows = database.execute(
                "SELECT seq, type, time, data, hash FROM events WHERE execution_id = ? "
                "ORDER BY seq",
                execution_id,
            )
            stored = tuple(
                StoredEvent(seq, name, _instant(at), data, digest)
                for seq, name, at, data, digest in rows
            )
            again, end = log.chain(log.GENESIS, execution_id, log.read(stored))
            whole = [item.seq for item in stored] == list(range(1, len(stored) + 1))
            holds = whole and end == head and again == stored
            self._checker.require("I15", holds, f"the audit chain of {execution_id} is broken")

    def _check_outputs(self) -> None:
        """What is stored of an output is a beginning of what was printed, masked (I8)."""
        for attempt_id, event in self._checker.ended_with.items():
            effects = self._world.ledger.of(attempt_id)
            if not effects or attempt_id not in self._checker.granted:
                continue
            effect = effects[-1]
            mask, printed = Redactor((secret_of(effect.agent),)).data, effect.fate.output
            kept = _without(mask(printed), event)
            # What did not end by itself may have been stopped when it had printed half.
            half = b"" if event.state == "completed" else mask(printed[: len(printed) // 2])
            rows = self._world.database.execute(
                'SELECT data FROM output WHERE attempt_id = ? AND stream = 1 ORDER BY "offset"',
                attempt_id,
            )
            stored = b"".join(row[0] for row in rows)
            said = f"of {attempt_id}: {stored!r} is stored, {printed!r} was printed"
            possible = [kept, half]
            if self._checker.power_lost[effect.agent]:
                # More may have been sent than is left on the agent, which declares the rest lost.
                possible.append(mask(printed))
            whole = any(item.startswith(stored) for item in possible)
            self._checker.require("I8", whole, said)
            if len(stored) == event.stdout_bytes:
                same = hashlib.sha256(stored).hexdigest() == event.stdout_sha256
                same = same or not event.stdout_bytes
                self._checker.require("I8", same, f"another hash {said}")
            if event.state == "completed" and not self._checker.power_lost[effect.agent]:
                self._checker.require("I8", len(kept) == event.stdout_bytes, f"not all {said}")

    def _check_secrets(self) -> None:
        """No secret of an agent stands in the database or on the agents' disks (I16)."""
        world = self._world
        pieces = [world.database.content()]
        for agent in world.agents:
            pieces += [*agent.disk.records, *map(bytes, agent.disk.output.values())]
        found = found_in(pieces)
        self._checker.require("I16", not found, f"{found!r} is stored")

    async def _check_tenants(self) -> None:
        """Whoever asks for a tenant gets what is the tenant's own (I19)."""
        store = Store(self._world.database.session(), "asked")
        known = self._checker.known.executions
        for tenant in ("default", "other"):
            listed = await store.list_executions(tenant, page_size=200)
            mine = {state.execution_id for state in known.values() if state.tenant == tenant}
            found = {row.execution_id for row in listed.rows}
            self._checker.require("I19", found == mine, f"{tenant} is shown {found ^ mine}")
            agents = {row.agent_id for row in await store.agents(tenant)}
            theirs = {agent.name for agent in self._world.agents if agent.tenant == tenant}
            self._checker.require("I19", agents == theirs, f"{tenant} is shown {agents ^ theirs}")
            for state in known.values():
                row = await store.execution(state.execution_id, tenant)
                own = (row is not None) == (state.tenant == tenant)
                self._checker.require("I19", own, f"{tenant} reads {state.execution_id}")

    async def _check_replays(self) -> None:
        """Every frame there was, sent once more, starts nothing and changes nothing (I21)."""
        world, checker = self._world, self._checker
        checker.note("everything is sent once more")
        before, checker.replaying = self._standing(), True
        # After a restore agents rightly tell of what the store does not know.
        for agent, way, data in world.tape.sample(REPLAYED, reports=not checker.went_back):
            world.tape.deliver(agent, way, data)
            await asyncio.sleep(0.01)
        await asyncio.sleep(QUIET)
        changed = dict(set(self._standing().items()) - set(before.items()))
        checker.require("I21", not changed, f"a frame sent again changed {changed}")

    def _standing(self) -> dict[str, tuple[str, ...]]:
        """Returns where every execution and its steps stand."""
        return {
            state.execution_id: (
                state.state,
                *(
                    f"{step_id} {step.state} {step.effects}"
                    for step_id, step in state.steps.items()
                ),
            )
            for state in self._checker.known.executions.values()
        }


def _instant(value: Any) -> Any:
    moment: Any = Instant()
    return moment.process_result_value(value, None)


def _without(printed: bytes, event: ev.AttemptFinished) -> bytes:
    """Returns what is kept of an output, without what the agent says it had no room for."""
    for gap in event.gaps:
        if gap["stream"] == "stdout":
            printed = printed[: gap["offset"]] + printed[gap["offset"] + gap["bytes"] :]
    return printed
