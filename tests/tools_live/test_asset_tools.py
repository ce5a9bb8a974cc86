"""Asset tools against the inventory of the running orchestrator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from helpers.embedded_context import OPSCTL
from tools_live.case import Case, cases

if TYPE_CHECKING:
    from tools_live.place import Place

OFFICE = [
    {"name": "printer-01", "type": "printer", "address": "192.0.2.11", "labels": {"floor": "2"}},
    {"name": "printer-02", "type": "printer", "address": "192.0.2.12", "tags": ["colour"]},
]


@pytest.fixture(scope="session")
def inventory(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The product with a file of two printers, which each case imports anew."""
    office = tmp_path_factory.mktemp("office") / "assets.json"
    office.write_text(json.dumps({"assets": OFFICE}))
    environment = place.stack.environment()
    place.variables.update(
        OPSCTL=str(OPSCTL),
        OFFICE=str(office),
        OPSCONDUCTOR_CONTEXT=environment["OPSCONDUCTOR_CONTEXT"],
    )
    return place


@pytest.mark.parametrize("case", cases("asset"), ids=lambda case: case.title)
def test_an_asset_tool_does_what_it_says(case: Case, inventory: Place) -> None:
    inventory.use(case)
