"""A person looks at what became of a lost change before deciding about it, on the real target."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from helpers.stack import Stack, wait_until

if TYPE_CHECKING:
    from pathlib import Path

CONTROL = """\
#!/bin/sh
# A service manager of its own: what it did stands in a file beside it.
state=$(dirname "$0")/state
case $1 in
  restart) echo "$2" >"$state"; sleep 60 ;;
  status) [ "$(cat "$state")" = "$2" ] ;;
esac
"""


def _lost_restart(stack: Stack, tmp_path: Path) -> str:
    """Returns a run whose restart nobody knows the outcome of: its agent lost its journal."""
    control = tmp_path / "control"
    control.write_text(CONTROL)
    control.chmod(0o755)
    host = {
        "name": "web-01",
        "type": "linux_server",
        "connection": "local",
        "service_manager": "command",
        "service_command": str(control),
    }
    document = tmp_path / "assets.json"
    document.write_text(json.dumps({"assets": [host]}))
    answer = stack.opsctl("assets", "import", str(document))
    assert answer.code == 0, answer.err
    step = {"id": "web", "tool": "restart_service", "target": "web-01"}
    execution_id = stack.submit({"steps": [{**step, "inputs": {"service": "shop"}}]})
    wait_until((tmp_path / "state").exists, "the restart has begun")
    stack.kill_agent()
    (stack.embedded.agent_directory / "journal").unlink()
    stack.start_agent()
    result = stack.wait_for(execution_id)
    assert result["step_results"][0]["status"] == "unknown"
    return execution_id


@pytest.mark.parametrize(("now", "active"), [("shop", "yes"), ("other", "no")])
def test_the_probe_shows_what_the_lost_change_did(
    stack: Stack, tmp_path: Path, now: str, active: str
) -> None:
    stack.up()
    execution_id = _lost_restart(stack, tmp_path)
    (tmp_path / "state").write_text(f"{now}\n")
    assert stack.opsctl("agents", "release", "local").code == 0
    stack.kill_agent()
    stack.start_agent()
    wait_until(lambda: stack.agent_state("local") == "online", "the agent is let in again")
    probed = stack.json("runs", "probe", execution_id, "web")
    (probe,) = probed["step_results"]
    assert (probe["step_id"], probe["status"]) == ("probe", "completed")
    assert probe["output"]["active"] is (active == "yes")
    assert stack.wait_for(execution_id)["status"] == "attention_required"
    words = ("--as", "completed", "--reason", "it has the new state")
    resolved = stack.opsctl("runs", "resolve", execution_id, "web", *words)
    assert resolved.code == 0, resolved.err
    assert "service_status says" in resolved.out
    shown = resolved.out.partition("service_status says")[2]
    assert re.search(rf"active +{active}$", shown, re.MULTILINE), shown
    assert stack.wait_for(execution_id)["status"] == "completed"


def test_an_agent_that_is_kept_out_cannot_be_asked_and_a_person_decides_all_the_same(
    stack: Stack, tmp_path: Path
) -> None:
    stack.up()
    execution_id = _lost_restart(stack, tmp_path)
    asked = stack.opsctl("runs", "probe", execution_id, "web")
    assert asked.code == 4
    assert "on whose own host the step ran, is kept out: JOURNAL_LOST" in asked.err
    words = ("--as", "failed", "--reason", "nobody can look")
    resolved = stack.opsctl("runs", "resolve", execution_id, "web", *words)
    assert resolved.code == 0, resolved.err
    assert "the probe could not be started: agent local" in resolved.out
    assert stack.wait_for(execution_id)["status"] == "failed"
