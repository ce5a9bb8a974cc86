"""Every case, carried out by the running product on what answers it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tools_live.case import cases, categories

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from tools_live.case import Case
    from tools_live.place import Place


def parameters() -> list[ParameterSet]:
    """Returns each case under its name, which begins with its category."""
    found = (case for category in categories() for case in cases(category))
    return [pytest.param(case, id=case.title) for case in found]


# The first that needs the Debian host may have to make it, which takes minutes.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", parameters())
def test_a_tool_does_what_it_says(case: Case, request: pytest.FixtureRequest) -> None:
    if case.needs and shutil.which(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    place: Place = request.getfixturevalue(case.category)
    for server in case.servers:
        request.getfixturevalue(server)
    place.use(case)
