"""Changes of the inventory that agents carry out: each is what one approved attempt is about.

An agent's certificate alone may change nothing: with an asset's address in its hands it could
send the next step, and the login for it, to a host of its choice. It may do what people approved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.risk import READ_ONLY
from opsconductor.orchestrator.store.rows import OPEN_ATTEMPT_STATES
from opsconductor.rpc.errors import AssetExists, NotFound, PermissionDenied

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.agents import Agents
    from opsconductor.orchestrator.engine.engine import Engine
    from opsconductor.orchestrator.engine.inventory import Inventory
    from opsconductor.orchestrator.store.store import Store
    from opsconductor.rpc.identity import Identity

METHOD = "inventory"


class AssetChanges:
    """Creates, replaces and deletes assets for attempts."""

    def __init__(self, store: Store, engine: Engine, agents: Agents, inventory: Inventory) -> None:
        self._store = store
        self._engine = engine
        self._agents = agents
        self._inventory = inventory

    async def create(self, agent: Identity, attempt_id: str, asset: dict[str, Any]) -> None:
        """Adds an asset. Raises PermissionDenied, AssetExists, DocumentInvalid."""
        name = str(asset.get("name", ""))
        await self._check(agent, attempt_id, name)
        if await self._inventory.has(agent.tenant, name):
            raise AssetExists(f"there is an asset {name} already")
        await self._inventory.put(agent.tenant, [asset])

    async def replace(self, agent: Identity, attempt_id: str, asset: dict[str, Any]) -> None:
        """Replaces an asset as a whole. Raises PermissionDenied, NotFound, DocumentInvalid."""
        name = str(asset.get("name", ""))
        await self._check(agent, attempt_id, name)
        if not await self._inventory.has(agent.tenant, name):
            raise NotFound(f"there is no asset {name}")
        await self._inventory.put(agent.tenant, [asset])

    async def delete(self, agent: Identity, attempt_id: str, name: str) -> None:
        """Removes an asset. Raises PermissionDenied, NotFound."""
        await self._check(agent, attempt_id, name)
        await self._inventory.delete(agent.tenant, name)

    async def _check(self, agent: Identity, attempt_id: str, name: str) -> None:
        """Raises PermissionDenied unless the agent's attempt runs and is about the asset."""
        member = await self._agents.find(agent.name, agent.tenant)
        row = await self._store.attempt(attempt_id)
        if member is None or row is None or row.agent_id != member.agent_id:
            raise PermissionDenied(f"{attempt_id or 'no attempt'} is no attempt of {agent.name}")
        if row.state not in OPEN_ATTEMPT_STATES:
            raise PermissionDenied(f"attempt {attempt_id} has ended: {row.state}")
        execution = await self._engine.execution(row.execution_id)
        body = execution.compiled_step(row.step_id).body
        if body["method"] != METHOD or body["risk"] == READ_ONLY:
            raise PermissionDenied(f"{body['tool']} changes nothing of the inventory")
        if not name or body["inputs"].get("name") != name:
            raise PermissionDenied(
                f"step {row.step_id} is about asset {body['inputs'].get('name')!r}, not {name!r}"
            )
