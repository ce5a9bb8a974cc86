"""Connects an agent's insides with orchestrators of a test."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from opsconductor.agent.session.endpoints import FILE, Endpoints
from opsconductor.agent.session.inventory import InventoryQueries
from opsconductor.agent.session.links import Links
from opsconductor.agent.session.poison_frames import PoisonFrames
from opsconductor.agent.session.shared import Shared
from opsconductor.agent.session.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.agents import Agent
    from helpers.fake_orchestrator import FakeOrchestrator
    from opsconductor.agent.session.shared import Certificates


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def shared_by(agent: Agent, *endpoints: str, certificates: Certificates) -> Shared:
    """Returns what the links of an agent work with; real time and sessions count from now on."""
    agent.fences._boottime = boottime
    agent.fences._fences.clear()  # the scripted session is over
    facts: dict[str, Any] = {"version": "0", "journal_id": agent.journal.journal_id, "capacity": 4}
    return Shared(
        certificates=certificates,
        endpoints=Endpoints(agent.folder / FILE, endpoints),
        worker=agent.worker,
        journal=agent.journal,
        spools=agent.spools,
        fences=agent.fences,
        inventory=InventoryQueries(),
        board=Switchboard(agent.worker, boottime),
        poison=agent.shop.poison,
        poison_frames=PoisonFrames(agent.folder / "poison"),
        facts=lambda: {
            **facts,
            "last_session_epoch": agent.journal.epoch,
            "incarnation": agent.journal.incarnation,
        },
    )


@contextlib.asynccontextmanager
async def linked(agent: Agent, *servers: FakeOrchestrator) -> AsyncIterator[Shared]:
    """Keeps an agent connected to its orchestrators."""
    endpoints = [server.endpoint for server in servers]
    shared = shared_by(agent, *endpoints, certificates=servers[0])
    task = asyncio.create_task(Links(shared).run())
    try:
        yield shared
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
