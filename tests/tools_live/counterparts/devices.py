"""A real snmpd, by version 2c and version 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.snmp import AUTH_PASSWORD, COMMUNITY, PRIVACY_PASSWORD, USER

if TYPE_CHECKING:
    from helpers.servers import Server
    from tools_live.place import Place


@pytest.fixture(scope="session")
def snmp(place: Place, snmpd: Server) -> Place:
    """The product with one device, known by either version."""
    place.add_login(
        "device-v2", kind="snmp", hosts=["127.0.0.1"], version="2c", community=COMMUNITY
    )
    place.add_login(
        "device-v3",
        kind="snmp",
        hosts=["127.0.0.1"],
        version="3",
        username=USER,
        auth_protocol="sha",
        auth_password=AUTH_PASSWORD,
        privacy_protocol="aes",
        privacy_password=PRIVACY_PASSWORD,
    )
    for name in ("device-v2", "device-v3"):
        place.add_asset(
            name, type="network_device", address="127.0.0.1", port=snmpd.port, credential=name
        )
    return place
