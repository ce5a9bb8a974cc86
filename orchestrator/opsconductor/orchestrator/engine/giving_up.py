"""Agents that cannot say what became of their work: it is unknown, and they are kept out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from opsconductor.orchestrator.domain.executions.states import SessionState
from opsconductor.orchestrator.engine.cluster import LOOK
from opsconductor.rpc.errors import InvalidArgument, InvalidTransition, PermissionDenied

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.engine.keeping import Keeping
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.engine.reporting import Reporting
    from opsconductor.orchestrator.engine.restoring import Restoring
    from opsconductor.orchestrator.store.store import Store

LOG = logging.getLogger(__name__)

OTHERS_HAVE_LOOKED = 3 * LOOK
"""Seconds after which every orchestrator that may grant has read that an agent is kept out."""
RETIRED = (
    "retired: {reason}; `opsctl agents release {name}` lets it in again, and what it says of "
    "steps that are unknown is evidence"
)
JOURNAL_LOST = (
    "JOURNAL_LOST: it has a new journal and cannot say what it has done; look at the steps that "
    "are unknown, then `opsctl agents release {name}`"
)
_CONNECTED = frozenset({SessionState.ONLINE, SessionState.DRAINING})


class GivingUp:
    """Ends what agents were given and nobody can tell of."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        keeping: Keeping,
        reporting: Reporting,
        restoring: Restoring,
    ) -> None:
        self._store = store
        self._engine = engine
        self._keeping = keeping
        self._reporting = reporting
        self._restoring = restoring

    async def forgotten(self, member: Member, said: Introduction) -> NoReturn:
        """Ends what an agent was given and cannot remember, and keeps it out.

        Raises:
            PermissionDenied: Always: what it was given could start twice, so a person looks first.
        """
        reported = {report.attempt_id for report in said.attempts}
        if self._restoring.hands_over(said):
            await self._restoring.forget(member, "opsconductor")
        why = f"agent {member.name} has lost its journal and cannot say what became of it"
        await self._reporting.give_up(member, "JOURNAL_LOST", why, reported)
        reason = JOURNAL_LOST.format(name=member.name)
        await self._keeping.quarantine(member, reason, journal_id=said.journal_id)
        raise PermissionDenied(f"agent {member.name} is quarantined: {reason}")

    async def retire(self, member: Member, person: str, reason: str) -> list[tuple[str, str]]:
        """Gives up on an agent that will not come back, and keeps it out. May be repeated.

        Returns:
            Execution and step of each change that is unknown from here on.

        Raises:
            InvalidArgument: No reason is given.
            InvalidTransition: It is connected, so it can tell itself.
        """
        if not reason:
            raise InvalidArgument("a reason is required: it is the record of why nobody waits")
        # Its own word counts, whichever orchestrator hears it.
        if not {member.state, *member.elsewhere.values()}.isdisjoint(_CONNECTED):
            raise InvalidTransition(
                f"agent {member.name} is connected and can say what became of its work: drain it, "
                "wait until it runs nothing, stop it; then retire it"
            )
        # Kept out first: it may be about to come back with what is given up here.
        await self._keeping.quarantine(member, RETIRED.format(name=member.name, reason=reason))
        LOG.warning("%s retired agent %s: %s", person, member.name, reason)
        why = f"agent {member.name} was retired by {person}: {reason}"
        unknown = await self._reporting.give_up(member, "AGENT_RETIRED", why)
        if self._store.shared:  # others may have granted it something before they read of it
            await asyncio.sleep(OTHERS_HAVE_LOOKED)
            unknown += await self._reporting.give_up(member, "AGENT_RETIRED", why)
        self._engine.place_soon()
        return list(dict.fromkeys(unknown))
