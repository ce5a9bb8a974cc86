"""Two segments that cannot see each other: network namespaces if they can be made, else loopback.

Each namespace is joined to this machine by one veth pair and has no route to anywhere else. Agents
in a namespace reach the orchestrator through a forwarder on the pair's near end.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from interrupts import HeldBack

_NAMESPACES = Path("/run/netns")
_OURS = re.compile(r"opsc-(\d+)-\w+")


class Networks:
    """The demo's networks."""

    def __init__(self) -> None:
        self.isolated = False
        self.names: list[str] = []
        self._forwarders: list[subprocess.Popen[bytes]] = []
        self._segments: list[str] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of the forwarders."""
        return [forwarder.pid for forwarder in self._forwarders]

    def build(self, segments: list[str]) -> None:
        """Makes a namespace for each segment if that is possible here."""
        self._segments = segments
        if not shutil.which("ip") or os.geteuid() != 0:
            return
        _remove_abandoned()
        try:
            for segment in segments:
                self._make(segment)
        except subprocess.CalledProcessError:
            self.remove()
            return
        self.isolated = True

    def address(self, segment: str) -> str:
        """Returns the address of a segment's host."""
        return f"{self._net(segment)}.2" if self.isolated else f"127.0.0.{self._octet(segment)}"

    def inside(self, segment: str) -> list[str]:
        """Returns the words that run a command inside a segment."""
        return ["ip", "netns", "exec", self._name(segment)] if self.isolated else []

    def endpoint(self, segment: str, server: str, owner: Path) -> str:
        """Returns where a segment reaches a server that listens on this machine's loopback."""
        if not self.isolated:
            return server
        host, _, port = server.rpartition(":")
        near = f"{self._net(segment)}.1"
        program = str(Path(__file__).parent / "forwarder.py")
        with HeldBack():
            forwarder = subprocess.Popen(
                [sys.executable, program, near, host, port, str(owner)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._forwarders.append(forwarder)
        if forwarder.stdout is None:
            raise RuntimeError("the forwarder has no output")
        with forwarder.stdout:
            return f"{near}:{int(forwarder.stdout.readline())}"

    def remove(self) -> None:
        """Removes what was made."""
        for forwarder in self._forwarders:
            forwarder.terminate()
            forwarder.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        self.names = []
        self.isolated = False

    def _octet(self, segment: str) -> int:
        # By process id: two demos at a time do not get into each other's way.
        return 2 + os.getpid() % 120 * 2 + self._segments.index(segment)

    def _net(self, segment: str) -> str:
        return f"10.199.{self._octet(segment)}"

    def _name(self, segment: str) -> str:
        return f"opsc-{os.getpid()}-{segment}"

    def _make(self, segment: str) -> None:
        name, net = self._name(segment), self._net(segment)
        link = f"oc{os.getpid() % 1_000_000}{segment[0]}"
        near, far = f"{link}h", f"{link}n"
        _ip("netns", "add", name)
        self.names.append(name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", f"{net}.1/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "addr", "add", f"{net}.2/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")


def _remove_abandoned() -> None:
    """Removes namespaces of demos that were killed and have no process left in them."""
    with suppress(OSError):
        for path in _NAMESPACES.iterdir():
            made = _OURS.fullmatch(path.name)
            if made and not Path(f"/proc/{made[1]}").exists() and not _inhabited(path.name):
                subprocess.run(
                    ["ip", "netns", "delete", path.name], check=False, capture_output=True
                )


def _inhabited(name: str) -> bool:
    """Tells whether a process runs in a namespace, as in a demo that was kept running."""
    words = ["ip", "netns", "pids", name]
    return bool(subprocess.run(words, check=False, capture_output=True).stdout.strip())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
