"""What a stuck process was doing: told where it is found, for a run nobody can look into later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos.inside.stacks import SIGNAL
from opsconductor.rpc.errors import OpsConductorError
from opsconductor.v1.agent_admin_service_pb2 import AGENT_STATE_ONLINE, AgentState

if TYPE_CHECKING:
    from chaos.service import Service
    from chaos.world import World

FILE = "diagnosis.txt"
LINES, WIDTH = 6, 300
"""Newest lines of a log that are told, and what of each; all of it and all threads' stacks are in
the log itself."""
_WRITTEN_WITHIN = 1.0


def write_down(world: World, why: str) -> None:
    """Adds to the evidence how agents stand, and what those that are not online wait for."""
    began = {service.name: _size(service) for service in world.services}
    for service in world.services:
        service.signal(SIGNAL)
    time.sleep(_WRITTEN_WITHIN)
    states = _states(world)
    lines = [f"=== {why}", *(f"{name}: {state}" for name, state in states.items())]
    online = AgentState.Name(AGENT_STATE_ONLINE)
    well = {f"agent-{name}" for name, state in states.items() if state == online}
    for service in world.services:
        if service.name not in well and not (well and service in world.orchestrators):
            lines += _told(service, began[service.name])
    with (world.folder / FILE).open("a") as file:
        file.write("\n".join(lines) + "\n")


def _states(world: World) -> dict[str, str]:
    """Returns the states of agents, with a reason where there is one; none without an answer."""
    try:
        with world.client() as client:
            agents = client.list_agents(page_size=100).agents
    except (OpsConductorError, OSError):
        return {}
    return {a.name: f"{AgentState.Name(a.state)} {a.state_reason}".strip() for a in agents}


def _told(service: Service, before: int) -> list[str]:
    state = "frozen" if service.frozen else "alive" if service.alive else "dead"
    log = service.log.read_bytes() if service.log.exists() else b""
    said = log[:before].decode(errors="replace").splitlines()[-LINES:]
    tasks = log[before:].decode(errors="replace").splitlines()
    found = [*said, *(line for line in tasks if line.startswith("task "))]
    return [f"--- {service.name}: {state}, pid {service.pid}", *(line[:WIDTH] for line in found)]


def _size(service: Service) -> int:
    return service.log.stat().st_size if service.log.exists() else 0
