"""The running product as the cases use it: assets, logins, and calls through ``opsctl``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jsonschema
import yaml

from opsconductor.tool_registry.expressions import evaluate_bool
from opsconductor.tool_registry.outputs.schema import output_schema
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from helpers.stack import Stack
    from tools_live.case import Case
    from tools_live.lab import Lab

CALL_SECONDS = 180.0
REGISTRY = Registry.load()
PRINTED = "printed"
"""``${printed}`` in an input is the last word ``before`` printed; ``${NAME}`` is a variable."""


@dataclass
class Place:
    """Where tools are used."""

    stack: Stack
    hosts: dict[str, Lab] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """What scripts on this machine and inputs know counterparts by."""
    _credentials: dict[str, Any] = field(default_factory=dict)

    def add_login(self, reference: str, **entry: Any) -> None:
        """Adds an entry to the agent's own store of logins."""
        self._credentials[reference] = entry
        file = self.stack.embedded.agent_directory / "credentials.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(self._credentials))

    def add_asset(self, name: str, **fields: Any) -> None:
        """Adds an asset to the inventory."""
        document = self.stack.folder / f"asset-{name}.json"
        document.write_text(json.dumps({"assets": [{"name": name, **fields}]}))
        answer = self.stack.opsctl("assets", "import", str(document))
        assert answer.code == 0, answer.out + answer.err

    def use(self, case: Case) -> dict[str, Any]:
        """Carries a case out, checks all it says, and returns the result document."""
        printed = self.shell(case.before, case.target) if case.before else ""
        known = {**self.variables, PRINTED: (printed.split() or [""])[-1]}
        inputs = {key: _filled(value, known) for key, value in case.inputs.items()}
        words = [f"{key}={_word(value)}" for key, value in inputs.items()]
        target = ["--target", case.target] if case.target else []
        target += ["--dry-run"] if case.dry_run else []
        answer = self.stack.opsctl(
            "run", case.tool, *target, *words, "--yes", "--wait", "-o", "json", seconds=CALL_SECONDS
        )
        assert answer.stdout, answer.err
        result: dict[str, Any] = answer.json
        assert "status" in result, json.dumps(result)[:3000]
        (step,) = result.get("step_results") or [{}]
        told = json.dumps(result, indent=1)[-6000:] + answer.err
        if case.fails:
            assert result["status"] == "failed", told
            assert step["error"]["code"] == case.fails, told
            return result
        assert result["status"] == "completed", told
        if step.get("output") is not None and not case.dry_run:
            jsonschema.validate(step["output"], output_schema(REGISTRY.get(case.tool)))
        scope = {
            "output": step.get("output") or {},
            "exit_code": step.get("exit_code") or 0,
            "inputs": inputs,
        }
        assert evaluate_bool(case.expect, scope), f"{case.expect} does not hold: {told}"
        if case.after:
            self.shell(case.after, case.target)
        if case.undone:
            undo = self.stack.opsctl(
                "runs", "rollback", result["execution_id"], seconds=CALL_SECONDS
            )
            ended = self.stack.wait_for(result["execution_id"], "rolled_back", "rollback_failed")
            assert ended["status"] == "rolled_back", undo.out + undo.err + json.dumps(ended)[-4000:]
            self.shell(case.undone, case.target)
        return result

    def shell(self, script: str, target: str = "") -> str:
        """Runs a script on a host, or here, and returns its output; it must succeed."""
        lab = self.hosts.get(target)
        done = subprocess.run(
            ["sh", "-euc", script] if lab is None else lab.ssh("sh -eu"),
            input=None if lab is None else script,
            env={**os.environ, **self.variables, "PATH": self.stack.environment()["PATH"]},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{script!r}: {done.stdout}{done.stderr}"
        return done.stdout


def _filled(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(item, known) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], found[0]), value)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
