"""Writes ARCHITECTURE.md's state diagrams from the domain's tables; ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from generated import keep
from opsconductor.orchestrator.domain.executions.states import TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

DOCUMENT = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"
MARKED = re.compile(r"(<!-- states: begin -->\n).*(<!-- states: end -->)", re.DOTALL)


def diagram(name: str, table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    """Returns one state machine as a Mermaid diagram under its heading."""
    edges = [
        f"    {state} --> {to}" for state, successors in table.items() for to in sorted(successors)
    ]
    ends = [f"    {state} --> [*]" for state, successors in table.items() if not successors]
    start = next(iter(table))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start}", *edges, *ends, "```"]
    return f"#### {name[0].upper()}{name[1:]}\n\n" + "\n".join(lines) + "\n"


def written() -> str:
    """Returns the document as the tables would have it."""
    body = "\n".join(diagram(name, table) for name, table in TABLES.items())
    return MARKED.sub(rf"\g<1>\n{body}\n\g<2>", DOCUMENT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(keep(DOCUMENT, written()))
