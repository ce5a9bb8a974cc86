"""One real use of a tool: the call, and what must be true of its answer and of the host.

Cases stand in ``cases/CATEGORY.yaml``, one list a file::

    - tool: set_file_mode
      target: lab                     # the asset it is used on; left out: the agent's own host
      inputs: {path: /srv/data/a, mode: "0640"}
      before: "touch /srv/data/a && chmod 600 /srv/data/a"    # run on the lab first
      expect: "output.changed"       # CEL over output, exit_code, inputs; left out: it completed
      after: "test $(stat -c %a /srv/data/a) = 640"           # must succeed on the lab afterwards
      undone: "test $(stat -c %a /srv/data/a) = 600"          # and after ``opsctl runs rollback``
      dry_run: true                  # only asked what it would do
      fails: EXIT_CODE               # the error it must end with, instead of completing
      servers: [lab]                 # fixtures of counterparts/ it needs beside its category's
      counterpart: systemd host      # what answered; left out: what the category has
                                     # "recorded API" says that nothing real did
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """One real use of a tool."""

    category: str
    tool: str
    target: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    before: str = ""
    expect: str = "true"
    after: str = ""
    undone: str = ""
    dry_run: bool = False
    fails: str = ""
    servers: list[str] = field(default_factory=list)
    counterpart: str = ""
    name: str = ""
    """Tells two cases of one tool apart."""
    needs: str = ""
    """A program of this machine without which the case is skipped."""

    @property
    def title(self) -> str:
        """Name of the test."""
        of_tool = f"{self.category}-{self.tool}"
        return f"{of_tool}-{self.name}" if self.name else of_tool


def cases(category: str) -> list[Case]:
    """Returns the cases of a category; ValueError for a key that does not exist."""
    known = {item.name for item in fields(Case)} - {"category"}
    found = []
    for entry in yaml.safe_load((CASES / f"{category}.yaml").read_text()) or []:
        if unknown := set(entry) - known:
            raise ValueError(f"{category}: {entry.get('tool')}: unknown {sorted(unknown)}")
        found.append(Case(category, **entry))
    return found


def categories() -> list[str]:
    """Returns the categories that have cases."""
    return sorted(file.stem for file in CASES.glob("*.yaml"))
