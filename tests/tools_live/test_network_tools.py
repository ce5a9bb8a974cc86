"""Network tools on this machine's loopback, on the link to the lab, and on a recorded capture."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tools_live.case import Case, cases

if TYPE_CHECKING:
    from tools_live.lab import Lab
    from tools_live.place import Place


@pytest.fixture(scope="session")
def network(place: Place, lab: Lab) -> Place:
    """The product with a host to look at."""
    place.add_lab(lab)
    return place


@pytest.mark.parametrize("case", cases("network"), ids=lambda case: case.title)
def test_a_network_tool_does_what_it_says(case: Case, network: Place) -> None:
    if case.needs and shutil.which(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    network.use(case)
