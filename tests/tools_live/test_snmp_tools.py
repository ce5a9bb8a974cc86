"""SNMP tools against a real snmpd, by version 2c and version 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import snmp
from tools_live.case import Case, cases

if TYPE_CHECKING:
    from helpers.servers import Server
    from tools_live.place import Place


@pytest.fixture(scope="session")
def devices(place: Place, snmpd: Server) -> Place:
    """The product with one device, known by either version."""
    place.add_login(
        "device-v2", kind="snmp", hosts=["127.0.0.1"], version="2c", community=snmp.COMMUNITY
    )
    place.add_login(
        "device-v3",
        kind="snmp",
        hosts=["127.0.0.1"],
        version="3",
        username=snmp.USER,
        auth_protocol="sha",
        auth_password=snmp.AUTH_PASSWORD,
        privacy_protocol="aes",
        privacy_password=snmp.PRIVACY_PASSWORD,
    )
    for name in ("device-v2", "device-v3"):
        place.add_asset(
            name, type="network_device", address="127.0.0.1", port=snmpd.port, credential=name
        )
    return place


@pytest.mark.parametrize("case", cases("snmp"), ids=lambda case: case.title)
def test_an_snmp_tool_does_what_it_says(case: Case, devices: Place) -> None:
    devices.use(case)
