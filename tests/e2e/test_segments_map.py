"""A bare address is routed by the segments map, or refused before anyone is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from helpers.stack import Stack, running

if TYPE_CHECKING:
    from pathlib import Path


def plan(stack: Stack, target: str) -> tuple[int, dict[str, Any], str]:
    step = {"id": "a", "tool": "run_command", "inputs": {"argv": ["uname"]}, "target": target}
    answer = stack.opsctl("plan", "-f", stack.plan({"steps": [step]}), "-o", "json")
    assert answer.stdout, (answer.code, answer.err)
    return answer.code, answer.json, answer.err


def test_a_bare_address_goes_to_the_agent_of_its_segment(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        code, preview, _ = plan(stack, "10.20.0.5")
        assert code == 0, "one segment: no question"
        stack.join("dmz-1", "dmz")

        code, preview, said = plan(stack, "10.20.0.5")
        assert code == 2
        for words in ("10.20.0.5", "dmz, local", "opsctl assets import", "add segment: dmz"):
            assert words in said

        file = tmp_path / "inventory.json"
        file.write_text(json.dumps({"segments": [{"name": "dmz", "cidrs": ["10.20.0.0/16"]}]}))
        assert stack.opsctl("assets", "import", str(file)).code == 0
        code, preview, _ = plan(stack, "10.20.0.5")
        assert (code, preview["steps"][0]["segment"]) == (0, "dmz")
        assert "dmz-1" in preview["steps"][0]["routing_reason"]
        assert stack.json("assets", "list") == [], "segments are no assets"

        stack.kill_orchestrator()
        stack.up()
        assert plan(stack, "10.20.0.5")[1]["steps"][0]["segment"] == "dmz"
        assert plan(stack, "10.21.0.5")[0] == 2

        file.write_text(json.dumps({"segments": [{"name": "dmz", "cidrs": ["10.20.0.1/16"]}]}))
        refused = stack.opsctl("assets", "import", str(file))
        assert refused.code == 2
        assert "segments[0].cidrs[0]" in refused.err
        assert plan(stack, "10.20.0.5")[0] == 0, "a refused import changes nothing"
