"""Commands for which one of root's rights is enough: no sudo where the agent's service has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from helpers.places import Place
from opsconductor.agent.executors import elevation, spawn
from opsconductor.agent.executors.environment import PATH
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.rendering.render import command_line, render
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, capabilities_of
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from pathlib import Path

NET_RAW = 1 << 13
NOT_ROOT = 65534
SUDO = (
    '#!/bin/sh\necho "$*" >> {folder}/sudo.log\necho "sudo: a password is required" >&2\nexit 1\n'
)


@pytest.fixture
def refusing_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of what was asked of a sudo that refuses; this process counts as not root."""
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO.format(folder=tmp_path))
    sudo.chmod(0o755)
    monkeypatch.setattr(spawn, "PATH", f"{tmp_path}:{PATH}")
    monkeypatch.setattr(os, "geteuid", lambda: NOT_ROOT)
    return tmp_path / "sudo.log"


def command(*capabilities: str) -> ArgvCommand:
    return ArgvCommand(("true",), elevated=True, capabilities=capabilities)


@pytest.mark.parametrize(
    ("held", "wanted", "through_sudo"),
    [
        (NET_RAW, ("CAP_NET_RAW",), False),
        (NET_RAW | 1 << 12, ("CAP_NET_RAW",), False),
        (NET_RAW, ("CAP_NET_RAW", "CAP_NET_ADMIN"), True),
        (1 << 12, ("CAP_NET_RAW",), True),
        (0, ("CAP_NET_RAW",), True),
        # Without a list all rights of root are wanted, and no capability is all of them.
        ((1 << 41) - 1, (), True),
    ],
)
async def test_sudo_is_asked_only_where_a_right_is_missing(
    refusing_sudo: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    wanted: tuple[str, ...],
    through_sudo: bool,
) -> None:
    monkeypatch.setattr(elevation, "_ambient", lambda: held)
    outcome = await Place("local-command", LocalExecutor(), None).run(command(*wanted))
    assert outcome.exit_code == (1 if through_sudo else 0)
    assert os.path.exists(refusing_sudo) is through_sudo  # noqa: PTH110, ASYNC240


def test_a_refusal_names_both_ways_to_grant_it() -> None:
    told = elevation.refusal("tcpdump", 1, b"", b"sudo: a password is required\n", ("CAP_NET_RAW",))
    assert told is not None
    assert told.error is not None
    assert "NOPASSWD" in told.error.message
    assert "AmbientCapabilities=CAP_NET_RAW" in told.error.message
    other = elevation.refusal("set_file_mode", 1, b"", b"sudo: a password is required\n")
    assert other is not None
    assert other.error is not None
    assert "AmbientCapabilities" not in other.error.message


def test_shipped_tools_say_which_right_is_enough() -> None:
    tools = Registry.load([tools_root() / "network"])
    rendered = render(tools.get("tcpdump"), {"interface": "lo", "packet_count": 1}, None)
    assert capabilities_of(rendered) == ("CAP_NET_RAW",)
    assert command_line(rendered).startswith("sudo -n -- ")
    for tool in tools.tools:
        assert set(tool.requires_capabilities) <= set(elevation._CAPABILITIES)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to give rights away"
)
def test_what_the_kernel_tells_is_read() -> None:
    done = subprocess.run(
        [
            "setpriv",
            f"--reuid={NOT_ROOT}",
            "--inh-caps=+net_raw",
            "--ambient-caps=+net_raw",
            "grep",
            "CapAmb",
            "/proc/self/status",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert elevation.ambient_of(done.stdout) == NET_RAW
    assert elevation.ambient_of("CapEff:\t00\n") == 0
