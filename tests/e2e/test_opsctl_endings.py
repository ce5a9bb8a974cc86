"""Exit codes and refusals that scripts and people rely on, kept by real processes."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers import ledger
from helpers.embedded_context import OPSCTL
from helpers.stack import Answer, Stack, failpoint, running, wait_until
from opsconductor.orchestrator.pki import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("endings")) as made:
        yield made


def submitted(stack: Stack, document: dict[str, Any]) -> tuple[str, list[str]]:
    """Submits a plan that waits for people; returns the execution and its open requests."""
    answer = stack.opsctl("run", "-f", stack.plan(document), "-o", "json")
    assert answer.code == 8, answer.err
    return answer.json["execution_id"], answer.json["pending_approval_ids"]


def started(stack: Stack, document: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts `opsctl run` and does not wait for its end."""
    return subprocess.Popen(
        [OPSCTL, "run", "-f", stack.plan(document), "--yes", "-o", "json"],
        env=stack.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes]) -> Answer:
    out, err = process.communicate(timeout=90)
    return Answer(process.returncode, out, err)


def sleeping(file: Path) -> dict[str, Any]:
    argv = ["sh", "-c", f"echo x >> {file}; sleep 600"]
    step = {"id": "long", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"}
    return {"name": "long", "steps": [step]}


def latest(stack: Stack) -> str:
    return str(stack.json("runs", "list", "--limit", "1")[0]["execution_id"])


# Exit codes


def test_3_says_that_a_person_said_no(stack: Stack, tmp_path: Path) -> None:
    document = ledger.plan(tmp_path / "ledger", "one")
    words = ("run", "-f", stack.plan(document), "--request-id", "no", "-o", "json")
    waiting = stack.opsctl(*words)
    assert waiting.code == 8
    (approval_id,) = waiting.json["pending_approval_ids"]
    assert stack.opsctl("approvals", "reject", approval_id, "--reason", "no").code == 0
    again = stack.opsctl(*words)
    assert (again.code, again.json["status"]) == (3, "rejected")
    late = stack.opsctl("approvals", "approve", approval_id, "--yes")
    assert late.code in (1, 3)
    assert "Traceback" not in late.err


def test_9_says_that_it_was_cancelled(stack: Stack, tmp_path: Path) -> None:
    process = started(stack, sleeping(tmp_path / "ledger"))
    wait_until(lambda: ledger.lines(tmp_path / "ledger"), "the step runs")
    assert stack.opsctl("runs", "cancel", latest(stack), "--reason", "enough").code == 0
    answer = ended(process)
    assert (answer.code, answer.json["status"]) == (9, "cancelled")


def test_7_says_that_a_person_has_to_find_out(tmp_path: Path) -> None:
    variables = failpoint("executing.after_fsync_before_spawn:1:kill9")
    file = tmp_path / "ledger"
    with running(tmp_path) as stack:
        stack.kill_agent()
        setting = variables["OPSCONDUCTOR_FAILPOINT"].replace(":1:kill9", ":kill9")
        stack.start_agent(setting)
        wait_until(lambda: stack.agent_state("local") == "online", "the agent is connected")
        process = started(stack, ledger.plan(file, "one"))
        wait_until(stack.agent_is_gone, "the agent has died with a change in flight")
        stack.up()
        answer = ended(process)
        assert (answer.code, answer.json["status"]) == (7, "attention_required")
        execution_id = answer.json["execution_id"]
        words = ("runs", "resolve", execution_id, "one", "--reason", "the ledger is empty")
        shown = stack.opsctl(*words, "--as", "retry")
        assert shown.code == 0, shown.err
        assert "its outcome is unknown" in shown.out
        assert stack.wait_for(execution_id)["status"] == "completed"
        assert ledger.lines(file) == ["one"]
        assert stack.opsctl(*words, "--as", "failed").code == 1, "nothing is unknown any more"


# Gates


def gated(file: Path, *points: str) -> dict[str, Any]:
    """Returns a plan of steps one, two and three, some with an approval of their own."""
    plan = ledger.plan(file, "one", "two", "three")
    for step in plan["steps"]:
        if step["id"] in points:
            step["approval"] = {"all_of": [{"group": "operators", "approve": 1}]}
    return plan


def test_a_step_with_its_own_approval_waits_for_it(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    execution_id, asked = submitted(stack, gated(file, "two"))
    while asked:
        assert "two" not in ledger.lines(file)
        for approval_id in asked:
            (covered,) = [
                each["step_ids"]
                for each in stack.json("approvals", "list", "--execution", execution_id)
                if each["approval_id"] == approval_id
            ]
            answer = stack.opsctl("approvals", "approve", approval_id, "--yes")
            assert answer.code == 0, answer.err
        result = stack.wait_for(execution_id, "approval_required", "completed", "failed")
        asked = result.get("pending_approval_ids", [])
    assert "two" in covered, "the last thing asked for is the step's own approval"
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(file) == ["one", "two", "three"]


def test_at_level_3_nothing_runs_before_its_own_approval(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    plan = gated(file, "one", "three")
    preview = stack.opsctl("plan", "-f", stack.plan(plan, "preview"), "-o", "json")
    assert (preview.code, preview.json["approval_level"]) == (8, 3)
    execution_id, _ = submitted(stack, plan)
    for count in range(1, 4):
        shown = stack.json("runs", "get", execution_id)
        assert len(ledger.lines(file)) == count - 1
        approvals = [
            each
            for each in stack.json("approvals", "list", "--execution", execution_id)
            if each["state"] == "pending"
        ]
        assert approvals, shown
        for each in approvals:
            if f"{['one', 'two', 'three'][count - 1]}" in each["step_ids"]:
                answer = stack.opsctl("approvals", "approve", each["approval_id"], "--yes")
                assert answer.code == 0, answer.err

        def so_far(wanted: int = count) -> bool:
            return len(ledger.lines(file)) >= wanted

        wait_until(so_far, f"{count} steps have run")
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(file) == ["one", "two", "three"]


# Who may


def context_of(stack: Stack, folder: Path, ca: CertificateAuthority, role: str) -> str:
    """Writes a context with a fresh certificate; returns its path."""
    certificate, key = ca.issue_client(
        role, "pipeline", "default", timedelta(hours=1), now=datetime.now(UTC)
    )
    (folder / "own.crt").write_bytes(certificate)
    (folder / "own.key").touch(mode=0o600)
    (folder / "own.key").write_bytes(key)
    fields = json.loads((stack.data / "context.yaml").read_text())
    names = ("ca_file", "signing_key")
    absolute = {name: str(stack.data / fields[name]) for name in names}
    own = {"cert_file": str(folder / "own.crt"), "key_file": str(folder / "own.key")}
    file = folder / "context.yaml"
    file.write_text(json.dumps(fields | absolute | own))
    return str(file)


def test_a_certificate_of_another_ca_is_refused_and_named(stack: Stack, tmp_path: Path) -> None:
    other = CertificateAuthority.load_or_create(tmp_path / "other", now=datetime.now(UTC))
    context = context_of(stack, tmp_path, other, "operator")
    for words in (("runs", "list"), ("approvals", "list"), ("agents", "drain", "local")):
        answer = stack.opsctl("--context", context, *words)
        assert answer.code == 4
        assert answer.out == ""
        assert "was not issued by the CA in" in answer.err
    assert stack.agent_state("local") == "online"


def test_a_service_may_submit_and_never_decide(stack: Stack, tmp_path: Path) -> None:
    ours = CertificateAuthority.load_or_create(stack.data / "pki", now=datetime.now(UTC))
    context = context_of(stack, tmp_path, ours, "service")
    file = tmp_path / "ledger"
    plan = stack.plan(ledger.plan(file, "one"))
    waiting = stack.opsctl("--context", context, "run", "-f", plan, "-o", "json")
    assert waiting.code == 8, waiting.err
    (approval_id,) = waiting.json["pending_approval_ids"]
    for words in (("approve", approval_id, "--yes"), ("reject", approval_id, "--reason", "x")):
        answer = stack.opsctl("--context", context, "approvals", *words)
        assert answer.code == 1
        assert "PERMISSION_DENIED" in answer.err
    assert stack.status(waiting.json["execution_id"]) == "approval_required"
    assert not file.exists()
