"""Control groups of steps (cgroups(7), version 2), where the agent may make some.

What is in a group cannot leave it by forking, changing its session or its environment; only one who
may write to the hierarchy can move it.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

_log = logging.getLogger(__name__)


class Cgroup:
    """The group of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def members(self) -> frozenset[int]:
        """Process ids in it and in groups below it."""
        found: set[int] = set()
        for folder in (self.path, *self.path.rglob("*/")):
            with contextlib.suppress(OSError):
                text = (folder / "cgroup.procs").read_text(encoding="ascii")
                found.update(map(int, text.split()))
        return frozenset(found)

    def kill(self) -> None:
        """Kills everything in it at once; kernels before 5.14 cannot."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1", encoding="ascii")

    def remove(self) -> None:
        """Removes it, unless something still runs there."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Cgroups:
    """Where the agent makes groups; makes none where it may not."""

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent

    @classmethod
    def of_this_process(cls) -> Cgroups:
        """Makes groups below the agent's own, if a trial succeeds."""
        try:
            parent = _own_group() / "opsconductor"
            parent.mkdir(exist_ok=True)
            for left in parent.iterdir():
                if left.is_dir():
                    Cgroup(left).remove()
            trial = parent / "trial"
            trial.mkdir(exist_ok=True)
            usable = (trial / "cgroup.kill").exists()
            trial.rmdir()
        except OSError as exc:
            _log.debug("steps get no control groups of their own: %s", exc)
            return cls(None)
        return cls(parent if usable else None)

    def path_of(self, name: str) -> bytes:
        """Returns where a group can be made; empty where none can."""
        return bytes(self._parent / name) if self._parent is not None else b""


def _own_group() -> Path:
    """Returns the folder of this process's group; raises OSError without version 2."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
        points = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    own = next((line[3:] for line in groups if line.startswith("0::")), None)
    if not points or own is None:
        raise FileNotFoundError("there is no version 2 hierarchy")
    return Path(points[0]) / own.lstrip("/")
