"""Two segments that cannot see each other: namespaces where they can be made, else loopback.

Each namespace is joined to this machine by one veth pair and has no route to anywhere else. Agents
in a namespace reach the orchestrator through a forwarder on the pair's near end.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import threading
from contextlib import suppress

_THIRD = {"dmz": 1, "office": 2}


class Networks:
    """The demo's networks."""

    def __init__(self) -> None:
        self.isolated = False
        self.names: list[str] = []
        self._forwarders: list[Forwarder] = []
        self._segments: list[str] = []

    def build(self, segments: list[str]) -> None:
        """Makes a namespace per segment if that is possible here."""
        self._segments = segments
        if not shutil.which("ip"):
            return
        try:
            for segment in segments:
                self._make(segment)
        except subprocess.CalledProcessError:
            self.remove()
            return
        self.isolated = True

    def address(self, segment: str) -> str:
        """Returns the address of a segment's host."""
        octet = _THIRD[segment]
        return f"10.199.{octet}.2" if self.isolated else f"127.0.0.{octet + 1}"

    def inside(self, segment: str) -> list[str]:
        """Returns the words that run a command inside a segment."""
        return ["ip", "netns", "exec", self._name(segment)] if self.isolated else []

    def endpoint(self, segment: str, server: str) -> str:
        """Returns where a segment reaches a server that listens on this machine's loopback."""
        if not self.isolated:
            return server
        host, _, port = server.rpartition(":")
        near = f"10.199.{_THIRD[segment]}.1"
        forwarder = Forwarder((near, 0), (host, int(port)))
        self._forwarders.append(forwarder)
        forwarder.start()
        return f"{near}:{forwarder.port}"

    def remove(self) -> None:
        """Removes what was made."""
        for forwarder in self._forwarders:
            forwarder.stop()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        self.names = []
        self.isolated = False

    def _name(self, segment: str) -> str:
        return f"opsc-{os.getpid()}-{segment}"

    def _make(self, segment: str) -> None:
        name, octet = self._name(segment), _THIRD[segment]
        stem = f"oc{os.getpid() % 100000}{segment[0]}"
        near, far = f"{stem}h", f"{stem}n"
        _ip("netns", "add", name)
        self.names.append(name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", f"10.199.{octet}.1/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "addr", "add", f"10.199.{octet}.2/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")


class Forwarder(threading.Thread):
    """Passes TCP connections on, bytes as they are."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(listen)
        self._to = to
        self.port: int = self._server.getsockname()[1]

    def run(self) -> None:
        """Accepts until stopped."""
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def stop(self) -> None:
        """Stops accepting."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _pass(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._to, timeout=5) as upstream:
            upstream.settimeout(None)
            ends = {client: upstream, upstream: client}
            while True:
                for source in select.select(list(ends), [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    ends[source].sendall(data)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
