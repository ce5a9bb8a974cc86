"""The inventory of the running orchestrator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from helpers.embedded_context import OPSCTL

if TYPE_CHECKING:
    from tools_live.place import Place

OFFICE = [
    {"name": "printer-01", "type": "printer", "address": "192.0.2.11", "labels": {"floor": "2"}},
    {"name": "printer-02", "type": "printer", "address": "192.0.2.12", "tags": ["colour"]},
]


@pytest.fixture(scope="session")
def asset(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
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
