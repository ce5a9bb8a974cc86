"""Networks of the run's own: each agent behind a cable that can be pulled.

A network namespace is joined to the machine by a pair of virtual interfaces. Pulling one end loses
what is under way without a word to either side; a route into nothing loses one direction only.
Needs neither iptables nor tc, which a machine may lack.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_NUMBERS = itertools.count(1)
_SUBNETS = 1 << 15
"""Of four addresses each in 198.18.0.0/15, which is set aside for tests of networks."""


class NamespaceRefused(RuntimeError):
    """The kernel or the rights of this account do not allow a namespace."""


@dataclass
class Namespace:
    """One agent's network."""

    name: str
    near: str
    """The machine's own end of the cable."""
    far: str
    host: str
    """The machine's address, as the agent dials it."""
    address: str

    @classmethod
    def make(cls, random: Random) -> Namespace:
        """Makes a namespace and plugs it in. Raises NamespaceRefused."""
        number = next(_NUMBERS)
        subnet = random.randrange(_SUBNETS) * 4
        high, low = divmod(subnet, 1 << 16)
        prefix = f"198.{18 + high}.{low >> 8}"
        stem = f"opc{os.getpid()}-{number}"
        made = cls(
            f"opsc-chaos-{os.getpid()}-{number}",
            f"{stem}a",
            f"{stem}b",
            f"{prefix}.{(low & 255) + 1}",
            f"{prefix}.{(low & 255) + 2}",
        )
        try:
            made._plug()
        except NamespaceRefused:
            made.remove()
            raise
        return made

    def _plug(self) -> None:
        _ip("netns", "add", self.name)
        cable = ("type", "veth", "peer", "name", self.far, "netns", self.name)
        _ip("link", "add", self.near, *cable)
        _ip("address", "add", f"{self.host}/30", "dev", self.near)
        _ip("link", "set", self.near, "up")
        inside = ("netns", "exec", self.name, "ip")
        _ip(*inside, "address", "add", f"{self.address}/30", "dev", self.far)
        _ip(*inside, "link", "set", self.far, "up")
        _ip(*inside, "link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command starts with that shall run inside; it keeps its process id.

        ``ip netns exec`` would hide the control groups of the machine.
        """
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def pull(self) -> None:
        """Takes the machine's end down: both directions are lost."""
        _ip("link", "set", self.near, "down")

    def lose(self, *, sent: bool) -> None:
        """Loses what the agent sends, or what it is sent."""
        if sent:
            _ip("-n", self.name, "route", "replace", "blackhole", f"{self.host}/32")
        else:
            _ip("route", "replace", "blackhole", f"{self.address}/32")

    def heal(self) -> None:
        """Puts everything back."""
        for command in (
            ("-n", self.name, "route", "delete", "blackhole", f"{self.host}/32"),
            ("route", "delete", "blackhole", f"{self.address}/32"),
        ):
            subprocess.run(("ip", *command), check=False, capture_output=True)
        _ip("link", "set", self.near, "up")

    def remove(self) -> None:
        """Deletes it with its cable and routes; what does not exist is not missed."""
        route = ("route", "delete", "blackhole", f"{self.address}/32")
        for command in (route, ("link", "delete", self.near), ("netns", "delete", self.name)):
            subprocess.run(("ip", *command), check=False, capture_output=True)


def refused(random: Random) -> str:
    """Returns why namespaces cannot be made here; empty when they can."""
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        Namespace.make(random).remove()
    except NamespaceRefused as error:
        return str(error)
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(("ip", *words), check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NamespaceRefused(f"ip {' '.join(words)}: {done.stderr.strip()}")
