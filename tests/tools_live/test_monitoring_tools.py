"""Monitoring tools against a real Prometheus and its kin; others against recorded answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.stack import wait_until
from tools_live.case import Case, cases
from tools_live.recorded import TOKEN, RecordedApis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.servers import Server
    from tools_live.place import Place

REAL = ("prometheus", "alertmanager", "node_exporter", "blackbox_exporter")


@pytest.fixture(scope="session")
def recorded(place: Place) -> Iterator[Place]:
    """The product with one server that answers as seven systems do."""
    server = RecordedApis()
    place.add_login("recorded", kind="http", hosts=["127.0.0.1"], scheme="bearer", token=TOKEN)
    for name, credential in (("recorded", "recorded"), ("recorded-closed", "")):
        place.add_asset(
            name,
            type="monitoring",
            address="127.0.0.1",
            port=server.port,
            connection="http",
            credential=credential,
        )
    place.variables["RECORDED"] = f"http://127.0.0.1:{server.port}"
    yield place
    server.stop()


@pytest.fixture(scope="session")
def monitored(recorded: Place, request: pytest.FixtureRequest) -> Place:
    """The product with Prometheus and its kin as well."""
    for name in REAL:
        server: Server = request.getfixturevalue(name)
        recorded.add_asset(
            name, type="monitoring", address="127.0.0.1", port=server.port, connection="http"
        )
        recorded.variables[name.upper()] = f"http://127.0.0.1:{server.port}"
    ready = Case("setup")
    wait_until(
        lambda: "AlwaysThere" in recorded.shell(ready, "curl -s $ALERTMANAGER/api/v2/alerts"),
        "the alert has arrived",
    )
    return recorded


@pytest.mark.parametrize("case", cases("monitoring"), ids=lambda case: case.title)
def test_a_monitoring_tool_does_what_it_says(case: Case, request: pytest.FixtureRequest) -> None:
    wanted = "monitored" if case.target in REAL else "recorded"
    place: Place = request.getfixturevalue(wanted)
    if case.target == "lab":
        place.add_lab(request.getfixturevalue("lab"))
    place.use(case)
