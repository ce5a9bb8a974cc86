"""A schedule follows from its seed alone, and what it runs is what the product takes."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from chaos.cells import PLACES
from chaos.faults import FAULTS
from chaos.plans import KINDS
from chaos.scenarios import SCENARIOS
from chaos.schedule import ACTIONS, cells, random_rounds
from chaos.special import SPECIAL
from chaos.tools import write_tools
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.tool_registry import tools_root
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

WHERE = ("agent", "orchestrator", "replica")


def test_the_same_seed_makes_the_same_schedule() -> None:
    assert random_rounds(Random(7), 50) == random_rounds(Random(7), 50)
    assert random_rounds(Random(7), 50) != random_rounds(Random(8), 50)
    for where in WHERE:
        assert cells(Random(7), where, ACTIONS) == cells(Random(7), where, ACTIONS)


def test_every_failpoint_of_the_product_is_tried_with_every_action() -> None:
    rounds = [item for where in WHERE for item in cells(Random(1), where, ACTIONS)]
    tried = {(item.cell.point, item.cell.action) for item in rounds if item.cell}
    assert tried == {(point, action) for point in PLACES for action in ACTIONS}
    assert len(PLACES) > 25


def test_scenarios_name_faults_that_exist() -> None:
    named = {name for scenario in SCENARIOS.values() for name in scenario.faults}
    assert named <= FAULTS.keys() | SPECIAL.keys()
    for scenario in SCENARIOS.values():
        rounds = scenario.rounds(Random(1), 100)
        assert {item.fault for item in rounds} == set(scenario.faults)


@pytest.mark.parametrize("kind", KINDS)
def test_every_plan_is_one_the_product_takes(kind: str, tmp_path: Path) -> None:
    tools = write_tools(tmp_path / "tools", tmp_path / "ledger")
    registry = Registry.load((tools_root(), tools))
    assert check_plan(KINDS[kind]("key", Random(3)), None, registry, {}).faults == ()
