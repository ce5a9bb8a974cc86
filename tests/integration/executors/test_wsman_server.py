"""The WS-Management server of our tests, found right by clients we did not write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from helpers.wsman_server import WsmanServer

ANSIBLE = Path(sys.executable).parent / "ansible"
SPEAKS = "echo out; echo err >&2; exit 7"
both_logins = pytest.mark.parametrize("way", ["basic", "ntlm"])


@both_logins
def test_pywinrm_finds_the_server_right(
    wsman_server: WsmanServer, tmp_path: Path, way: Any
) -> None:
    import winrm

    session = winrm.Session(
        f"https://127.0.0.1:{wsman_server.port}/wsman",
        auth=(wsman_server.user, wsman_server.password),
        transport=way,
        ca_trust_path=str(tmp_path / "server.pem"),
    )
    answer = session.run_cmd(SPEAKS)
    assert (answer.std_out, answer.std_err, answer.status_code) == (b"out\n", b"err\n", 7)


@both_logins
def test_pypsrp_finds_the_server_right(wsman_server: WsmanServer, tmp_path: Path, way: Any) -> None:
    from pypsrp.client import Client

    with Client(
        "127.0.0.1",
        username=wsman_server.user,
        password=wsman_server.password,
        port=wsman_server.port,
        auth=way,
        cert_validation=str(tmp_path / "server.pem"),
        encryption="never",
    ) as client:
        stdout, stderr, code = client.execute_cmd(SPEAKS)
    assert (stdout, stderr, code) == ("out\n", "err\n", 7)


def ansible(server: WsmanServer, folder: Path, way: str, text: str) -> tuple[int, str]:
    """Runs Ansible's module ``raw``; returns its exit code and what it printed."""
    host = {
        "host": "127.0.0.1",
        "port": server.port,
        "connection": "winrm",
        "user": server.user,
        "password": server.password,
        "winrm_scheme": "https",
        "winrm_transport": way,
        "winrm_ca_trust_path": folder / "server.pem",
    }
    inventory = folder / "inventory"
    inventory.write_text("win-01 " + " ".join(f"ansible_{key}={host[key]}" for key in host))
    done = subprocess.run(
        [ANSIBLE, "win-01", "-i", inventory, "-m", "raw", "-a", text],
        env={**os.environ, "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


@pytest.mark.skipif(not ANSIBLE.exists(), reason="ansible-core is not installed")
@both_logins
def test_ansible_finds_the_server_right(
    wsman_server: WsmanServer, tmp_path: Path, way: str
) -> None:
    code, printed = ansible(wsman_server, tmp_path, way, SPEAKS)
    assert code == 2, printed
    assert "win-01 | FAILED | rc=7 >>\nout\nerr\n" in printed
    numbers = "\n".join(str(number) for number in range(1, 20001))
    code, printed = ansible(wsman_server, tmp_path, way, "echo ümläut; seq 1 20000")
    assert (code, printed.rstrip("\n")) == (0, f"win-01 | CHANGED | rc=0 >>\nümläut\n{numbers}")
    assert wsman_server.shells == {}, "Ansible deletes its shells"
