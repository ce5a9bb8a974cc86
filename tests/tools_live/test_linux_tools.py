"""Linux tools on a real Debian host with systemd, over SSH, as root and through sudo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools_live.case import Case, cases

if TYPE_CHECKING:
    from tools_live.lab import Lab
    from tools_live.place import Place


@pytest.fixture(scope="session")
def linux(place: Place, lab: Lab) -> Place:
    """The product with the Debian host in its inventory."""
    place.add_lab(lab)
    return place


@pytest.mark.parametrize("case", cases("linux"), ids=lambda case: case.title)
def test_a_linux_tool_does_what_it_says(case: Case, linux: Place) -> None:
    linux.use(case)
