"""An agent changes an asset only for a running attempt of its own that is about that asset."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from opsconductor.orchestrator.engine.asset_changes import AssetChanges
from opsconductor.rpc.errors import AssetExists, NotFound, PermissionDenied
from opsconductor.rpc.identity import Identity

AGENT = Identity("acme", "agent", "local")
PRINTER = {"name": "printer-01", "type": "printer"}


@dataclass
class World:
    """What the orchestrator knows; each field may be made wrong."""

    attempt_agent: str = "agt_1"
    attempt_state: str = "running"
    method: str = "inventory"
    risk: str = "modify"
    asset: str = "printer-01"
    known: set[str] = field(default_factory=set)
    written: list[Any] = field(default_factory=list)

    @property
    def changes(self) -> AssetChanges:
        parts: Any = self
        return AssetChanges(parts, parts, parts, parts)

    async def find(self, name: str, tenant: str) -> Any:
        return SimpleNamespace(agent_id="agt_1") if (name, tenant) == ("local", "acme") else None

    async def attempt(self, attempt_id: str) -> Any:
        if attempt_id != "att_1":
            return None
        return SimpleNamespace(
            execution_id="exe_1",
            step_id="change",
            agent_id=self.attempt_agent,
            state=self.attempt_state,
        )

    async def execution(self, _execution_id: str) -> Any:
        body = {
            "tool": "asset_create",
            "method": self.method,
            "risk": self.risk,
            "inputs": {"name": self.asset},
        }
        return SimpleNamespace(compiled_step=lambda _: SimpleNamespace(body=body))

    async def has(self, _tenant: str, name: str) -> bool:
        return name in self.known

    async def put(self, _tenant: str, assets: list[Any]) -> None:
        self.written += assets

    async def delete(self, _tenant: str, name: str) -> None:
        self.written.append(name)


@pytest.mark.parametrize("state", ["granted", "running"])
async def test_an_attempt_creates_the_asset_it_is_about(state: str) -> None:
    world = World(attempt_state=state)
    await world.changes.create(AGENT, "att_1", PRINTER)
    assert world.written == [PRINTER]


async def test_it_replaces_and_deletes_it() -> None:
    world = World(known={"printer-01"})
    await world.changes.replace(AGENT, "att_1", PRINTER)
    await world.changes.delete(AGENT, "att_1", "printer-01")
    assert world.written == [PRINTER, "printer-01"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempt_agent": "agt_2"},
        {"attempt_state": "completed"},
        {"attempt_state": "failed"},
        {"method": "command"},
        {"risk": "read_only"},
        {"asset": "web-01"},
        {"asset": "${{ steps.find.output.name }}"},
    ],
    ids=str,
)
async def test_nothing_else_may_be_changed(wrong: dict[str, str]) -> None:
    world = World(known={"printer-01"}, **wrong)  # type: ignore[arg-type]  # texts only
    with pytest.raises(PermissionDenied):
        await world.changes.replace(AGENT, "att_1", PRINTER)
    with pytest.raises(PermissionDenied):
        await world.changes.delete(AGENT, "att_1", "printer-01")
    world.known = set()
    with pytest.raises(PermissionDenied):
        await world.changes.create(AGENT, "att_1", PRINTER)
    assert world.written == []


@pytest.mark.parametrize("attempt", ["", "att_2"])
async def test_without_an_attempt_nothing_is_changed(attempt: str) -> None:
    with pytest.raises(PermissionDenied):
        await World().changes.create(AGENT, attempt, PRINTER)


async def test_an_agent_that_is_not_enrolled_changes_nothing() -> None:
    with pytest.raises(PermissionDenied):
        await World().changes.create(Identity("acme", "agent", "other"), "att_1", PRINTER)


async def test_an_asset_without_a_name_is_refused() -> None:
    with pytest.raises(PermissionDenied):
        await World(asset="").changes.create(AGENT, "att_1", {"type": "printer"})


async def test_a_taken_name_and_an_unknown_one_are_told() -> None:
    with pytest.raises(AssetExists):
        await World(known={"printer-01"}).changes.create(AGENT, "att_1", PRINTER)
    with pytest.raises(NotFound):
        await World().changes.replace(AGENT, "att_1", PRINTER)
