"""The operator: looks at agents and the store, and says what the product asks an operator for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions.states import SessionState

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.safe_mode import SafeMode
    from simulation.programs import Orchestrator
    from simulation.world import World

    Wish = Callable[[Any], Awaitable[Any]]

PATIENCE = (20.0, 120.0)
"""Seconds after which the operator gives up on a journal that is awaited."""


class Operator:
    """Lets agents and tools back to work, confirms a restore, and gives up on lost journals."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._given_up_at: dict[tuple[str, str], float] = {}
        """When an agent's journal is given up, by incarnation and agent."""

    def chores(self) -> list[Wish]:
        """Returns what there is to say, in the order in which it is said."""
        house = next((each for each in self._world.orchestrators if each.ready), None)
        if house is None:
            return []
        wishes = [*self._restored(house)]
        for member in house.fleet.members():
            wishes += self._retired(member) or self._let_back(member)
        return wishes

    def _restored(self, house: Orchestrator) -> list[Wish]:
        mode = house.agents.restoring.mode
        if mode is None:
            return []
        if not mode.confirmed:
            self._world.checker.note("an operator confirms the restore")
            return [_confirm("rita restored it", (), "default")]
        wishes = []
        for agent_id in self._lost(house, mode):
            if member := house.fleet.get(agent_id):
                self._world.checker.note(f"an operator gives up on the journal of {agent_id}")
                wishes.append(_confirm("the disk is gone", (member.name,), member.tenant))
        return wishes

    def _lost(self, house: Orchestrator, mode: SafeMode) -> list[str]:
        """Returns the awaited agents on whose journals nobody waits any longer."""
        now, lost = self._world.loop.time(), []
        for agent_id in mode.awaited:
            key = house.agents.restoring.incarnation, agent_id
            patience = self._rng.uniform(*PATIENCE)
            if now >= self._given_up_at.setdefault(key, now + patience):
                lost.append(agent_id)
        return lost

    def _retired(self, member: Member) -> list[Wish]:
        if member.name not in self._world.destroyed:
            return []
        self._world.checker.note(f"an operator retires {member.name}")
        self._world.checker.retired.add(member.name)
        return [_retire(member)]

    def _let_back(self, member: Member) -> list[Wish]:
        wishes = [_release(member, tool) for tool in sorted(member.kept_tools)]
        if member.state is SessionState.QUARANTINED:
            why = member.quarantined[:40]
            self._world.checker.note(f"an operator releases {member.name}: {why}")
            wishes.append(_release(member, ""))
        return wishes


def _confirm(reason: str, without: Sequence[str], tenant: str) -> Wish:
    return lambda house: house.agents.restoring.confirm(
        "rita", tenant, reason, without, planned=False
    )


def _retire(member: Member) -> Wish:
    return lambda house: house.agents.retire(
        member.name, "rita", "its host burnt", tenant=member.tenant
    )


def _release(member: Member, tool: str) -> Wish:
    return lambda house: house.agents.release(member.name, tool, tenant=member.tenant)
