"""A private snmpd for tests: a device that speaks versions 2c and 3."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from helpers.servers import Server, free_port, private_folder, program

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMUNITY = "private-community"
USER, AUTH_PASSWORD, PRIVACY_PASSWORD = "ops", "auth-password", "privacy-password"
_CONFIG = f"""\
agentaddress udp:127.0.0.1:{{port}}
rwcommunity {COMMUNITY} 127.0.0.1
rocommunity readers-community 127.0.0.1
createUser {USER} SHA {AUTH_PASSWORD} AES {PRIVACY_PASSWORD}
rwuser {USER} priv
sysName device-01
"""


def _command(server: Server) -> list[str]:
    config = server.folder / "snmpd.conf"
    config.write_text(_CONFIG.format(port=server.port))
    (server.folder / "state").mkdir(exist_ok=True)
    state = f"SNMP_PERSISTENT_DIR={server.folder}/state"
    command = ["env", state, program("snmpd", "snmpd"), "-f", "-Lo", "-C", "-c", str(config)]
    return [*command, "-p", f"{server.folder}/pid", "-I", "-smux"]


def _answers(server: Server) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", server.port))
        except OSError:
            return True
    return False


@pytest.fixture(scope="session")
def snmpd() -> Iterator[Server]:
    """A device called device-01."""
    program("snmpd", "snmpd")
    with private_folder("opsc-snmp-") as folder:
        server = Server(_command, _answers, folder, port=free_port(socket.SOCK_DGRAM))
        server.start()
        try:
            yield server
        finally:
            server.kill()
