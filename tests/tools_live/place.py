"""The running product as the cases use it: assets, logins, and calls through ``opsctl``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from opsconductor.tool_registry.expressions import evaluate_bool
from tools_live import lab as labs

if TYPE_CHECKING:
    from helpers.stack import Stack
    from tools_live.case import Case
    from tools_live.lab import Lab

CALL_SECONDS = 180.0
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

    def add_lab(self, lab: Lab) -> None:
        """Makes the booted host known: as root, as one who may use sudo, as one who may not."""
        if "lab" in self.hosts:
            return
        for name, username in (
            ("lab", "root"),
            ("lab-user", "opsadmin"),
            ("lab-guest", "guest"),
        ):
            self.add_login(name, kind="ssh", username=username, private_key_file=str(lab.key))
            self.add_asset(
                name,
                type="linux_server",
                address=lab.address,
                connection="ssh",
                credential=name,
                host_keys=[lab.host_key],
                service_manager="systemd",
            )
            self.hosts[name] = lab
        self.variables |= {"LAB_LINK": labs.LINK, "LAB_NETWORK": f"{labs.NETWORK}.0/30"}

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
        printed = self.shell(case, case.before) if case.before else ""
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
        scope = {
            "output": step.get("output") or {},
            "exit_code": step.get("exit_code") or 0,
            "inputs": inputs,
        }
        assert evaluate_bool(case.expect, scope), f"{case.expect} does not hold: {told}"
        if case.after:
            self.shell(case, case.after)
        if case.undone:
            undo = self.stack.opsctl(
                "runs", "rollback", result["execution_id"], seconds=CALL_SECONDS
            )
            ended = self.stack.wait_for(result["execution_id"], "rolled_back", "rollback_failed")
            assert ended["status"] == "rolled_back", undo.out + undo.err + json.dumps(ended)[-4000:]
            self.shell(case, case.undone)
        return result

    def shell(self, case: Case, script: str) -> str:
        """Runs a script on the host of a case and returns its output; it must succeed."""
        lab = self.hosts.get(case.target)
        remote = ["sh", "-euc", script]
        if lab is not None:
            remote = [
                *(
                    "ssh",
                    "-i",
                    str(lab.key),
                    "-o",
                    "StrictHostKeyChecking=no",
                    "-o",
                    "BatchMode=yes",
                ),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
                *(f"root@{lab.address}", "sh -eu"),
            ]
        done = subprocess.run(
            remote,
            input=script if lab is not None else None,
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
