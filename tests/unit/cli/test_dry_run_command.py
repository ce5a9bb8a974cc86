from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from opsconductor.cli.documents import as_dry_run
from opsconductor.rpc.errors import PlanInvalid
from opsconductor.v1.tool_service_pb2 import Tool

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script

_PLAN = "version: opsconductor/v1\nsteps:\n  - id: one   # first\n    tool: ping\n"


def test_a_tool_is_run_as_a_dry_run(opsctl: Opsctl, script: Script) -> None:
    script.tools.append(Tool(name="ping"))
    assert opsctl("run", "ping", "--dry-run").exit_code == 0
    assert script.document()["dry_run"] is True
    assert opsctl("run", "ping").exit_code == 0
    assert "dry_run" not in script.document()


def test_a_plan_keeps_its_lines(opsctl: Opsctl, script: Script, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(_PLAN)
    assert opsctl("run", "-f", str(file), "--dry-run").exit_code == 0
    assert script.submitted[-1].plan.document == (_PLAN + "dry_run: true\n").encode()


@pytest.mark.parametrize(
    "document",
    [
        '{"steps": [{"id": "one", "tool": "ping"}]}',
        '{"steps": [{"id": "one", "tool": "ping"}], "dry_run": false}',
        "{steps: [{id: one, tool: ping}]}",
        _PLAN + "dry_run: false\n",
        _PLAN + "name: |+\n  two lines\n\n\n",
        _PLAN + "name: |\n  a text\n  dry_run: false",
        "dry_run: false\n" + _PLAN + "context: {prompt: 'dry_run: true'}",
        _PLAN + "name: text that\n  goes on\n",
    ],
)
def test_every_style_of_plan_becomes_a_dry_run_and_nothing_else_of_it_changes(
    document: str,
) -> None:
    wanted = {**yaml.safe_load(document), "dry_run": True}
    assert yaml.safe_load(as_dry_run(document.encode())) == wanted


@pytest.mark.parametrize("document", ["[1, 2]", "steps: [", "steps: &a []\nrollback: *a\n", "\xff"])
def test_a_plan_that_cannot_be_read_is_not_sent_as_it_is(
    opsctl: Opsctl, script: Script, document: str
) -> None:
    with pytest.raises(PlanInvalid):
        as_dry_run(document.encode("latin-1"))
    result = opsctl("run", "-f", "-", "--dry-run", stdin=document)
    assert result.exit_code == 2
    assert script.submitted == []


def test_render_shows_the_dry_run(opsctl: Opsctl, script: Script) -> None:
    script.tools.append(Tool(name="ping", dry_run=True))
    opsctl("tools", "render", "ping", "--dry-run")
    opsctl("tools", "render", "ping")
    asked = [call.dry_run for call in script.calls if type(call).__name__ == "RenderRequest"]
    assert asked == [True, False]
    assert "dry run" in opsctl("tools", "show", "ping").stdout
    assert json.dumps(True) in opsctl("tools", "show", "ping", "-o", "json").stdout
