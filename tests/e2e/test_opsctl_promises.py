"""What opsctl promises, kept by real processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from helpers import ledger
from helpers.stack import Stack, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("promises")) as made:
        yield made


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack for tests that add agents, which would change where the plans of others may run."""
    with running(tmp_path / "own") as made:
        yield made


def command(step_id: str, *argv: str, **fields: Any) -> dict[str, Any]:
    step = {"id": step_id, "tool": "run_command", "inputs": {"argv": list(argv)}, "undo": "none"}
    return {**step, **fields}


def plan(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "p", "context": {"environment": "staging"}, "steps": list(steps), **fields}


def run(stack: Stack, document: dict[str, Any], *words: str) -> tuple[int, Any]:
    answer = stack.opsctl("run", "-f", stack.plan(document), *words, "-o", "json")
    return answer.code, json.loads(answer.stdout)


@pytest.mark.parametrize(
    ("document", "code", "status"),
    [
        (plan(command("a", "true")), 0, "completed"),
        (plan(command("a", "sh", "-c", "exit 3")), 1, "failed"),
        (plan(command("a", "sh", "-c", "sleep 600", timeout="1s")), 124, "timed_out"),
        (
            plan(
                command("a", "touch", "/dev/null", undo=command("x", "true") | {"undo": ""}),
                command("b", "sh", "-c", "exit 3"),
                on_failure="rollback",
            ),
            5,
            "rolled_back",
        ),
        (
            plan(
                command("a", "touch", "/dev/null", undo=command("x", "sh", "-c", "exit 4")),
                command("b", "sh", "-c", "exit 3"),
                on_failure="rollback",
            ),
            6,
            "rollback_failed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_exit_code_tells_how_a_plan_ended(
    stack: Stack, document: dict[str, Any], code: int, status: str
) -> None:
    for step in document["steps"]:
        if isinstance(step.get("undo"), dict):
            step["undo"] = {key: step["undo"][key] for key in ("tool", "inputs")}
    found, result = run(stack, document, "--yes")
    assert (found, result["status"]) == (code, status)


def test_four_faults_get_one_answer(stack: Stack) -> None:
    steps = [
        {"id": "a", "tool": "ping", "inputs": {"host": 5}, "needs": ["b"]},
        {"id": "b", "tool": "pinng", "needs": ["a"]},
        {"id": "c", "tool": "run_command", "inputs": {"argv": ["true"]}, "timeout": "-5s"},
    ]
    file = stack.plan({"name": "wrong", "mode": "graph", "steps": steps})
    for verb in ("plan", "run"):
        answer = stack.opsctl(verb, "-f", file)
        assert answer.code == 2
        said = answer.out + answer.err
        for word in ("cycle", "pinng", "inputs.host", "timeout"):
            assert word in said, said


def test_plan_tells_by_its_exit_code_what_would_be_needed(stack: Stack) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        (plan(command("a", "uname")), 0),
        (plan(command("a", "touch", "/dev/null")), 8),
        (plan(command("a", "uname", segment="nowhere")), 4),
    ]
    for document, code in cases:
        answer = stack.opsctl("plan", "-f", stack.plan(document), "-o", "json")
        assert answer.code == code, answer.err
        assert isinstance(answer.json, dict)


def test_a_plan_nobody_can_carry_out_is_refused_before_anyone_is_asked(stack: Stack) -> None:
    before = stack.json("approvals", "list")
    document = plan(command("a", "touch", "/dev/null", segment="nowhere"))
    assert stack.opsctl("run", "-f", stack.plan(document), "--yes").code == 4
    assert stack.json("approvals", "list") == before


def test_raw_tail_writes_the_exact_bytes_of_both_streams(stack: Stack, tmp_path: Path) -> None:
    data = os.urandom(150_000)
    (tmp_path / "out").write_bytes(data)
    (tmp_path / "err").write_bytes(data[::-1])
    script = f"cat {tmp_path}/out; cat {tmp_path}/err >&2"
    code, result = run(stack, plan(command("a", "sh", "-c", script)), "--yes")
    assert code == 0
    tail = stack.opsctl("runs", "tail", result["execution_id"], "--raw")
    assert (tail.stdout, tail.stderr) == (data, data[::-1])
    words = ("runs", "tail", result["execution_id"], "--step", "a", "--raw")
    assert stack.opsctl(*words, "--since-offset", "99999").stdout == data[99_999:]


def test_output_cannot_move_the_cursor_of_who_reads_it(stack: Stack) -> None:
    code, result = run(stack, plan(command("a", "printf", "\\033[2Jgone\\007")), "--yes")
    assert code == 0
    shown = stack.opsctl("runs", "tail", result["execution_id"])
    assert b"gone" in shown.stdout
    assert not {7, 27} & set(shown.stdout)


def test_a_request_id_never_runs_twice(stack: Stack, tmp_path: Path) -> None:
    document = plan(ledger.write_line(tmp_path / "l", "x") | {"id": "a", "undo": "none"})
    words = ("--yes", "--request-id", "once")
    (one, first), (two, second) = run(stack, document, *words), run(stack, document, *words)
    assert (one, two) == (0, 0)
    assert first["execution_id"] == second["execution_id"]
    assert ledger.lines(tmp_path / "l") == ["x"]
    assert stack.opsctl("run", "run_command", 'argv=["id"]', "--request-id", "once").code == 2


def test_cancel_ends_the_whole_process_tree(stack: Stack, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"(setsid sleep 600 & echo $! >> {pids}); sleep 600 & echo $! >> {pids}; wait"
    _, begun = run(stack, plan(command("a", "sh", "-c", script)), "--yes", "--detach")
    wait_until(lambda: len(ledger.lines(pids)) == 2, "both processes run")
    assert stack.opsctl("runs", "cancel", begun["execution_id"]).code in (0, 9)
    assert stack.wait_for(begun["execution_id"])["status"] == "cancelled"
    for pid in ledger.lines(pids):
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or " Z " in state.read_text()


def test_pause_starts_nothing_until_resumed(stack: Stack, tmp_path: Path) -> None:
    gate, file = tmp_path / "gate", tmp_path / "ledger"
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    last = ledger.write_line(file, "x") | {"id": "b", "undo": "none"}
    _, begun = run(stack, plan(command("a", "sh", "-c", wait), last), "--yes", "--detach")
    execution_id = begun["execution_id"]
    assert stack.opsctl("runs", "pause", execution_id).code == 0
    gate.touch()

    def first_has_ended() -> bool:
        first = stack.json("runs", "get", execution_id)["step_results"][0]
        return bool(first["status"] == "completed")

    wait_until(first_has_ended, "the first step has ended")
    assert stack.status(execution_id) == "paused"
    assert not file.exists()
    assert stack.opsctl("runs", "resume", execution_id).code == 0
    assert stack.wait_for(execution_id)["status"] == "completed"


def test_a_finished_plan_is_taken_back_from_history(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    code, result = run(stack, ledger.plan(file, "one", "two"), "--yes")
    assert code == 0
    assert stack.opsctl("runs", "rollback", result["execution_id"]).code in (0, 5)
    assert stack.wait_for(result["execution_id"], "rolled_back")
    assert ledger.lines(file) == ["one", "two", "undo two", "undo one"]


def waiting(stack: Stack, document: dict[str, Any]) -> tuple[str, str]:
    code, result = run(stack, document)
    assert code == 8
    (approval_id,) = result["pending_approval_ids"]
    return result["execution_id"], approval_id


def test_a_rejected_plan_runs_nothing(stack: Stack, tmp_path: Path) -> None:
    document = ledger.plan(tmp_path / "ledger", "one")
    execution_id, approval_id = waiting(stack, document)
    assert stack.opsctl("approvals", "reject", approval_id, "--reason", "no").code in (0, 3)
    assert stack.status(execution_id) == "rejected"
    assert not (tmp_path / "ledger").exists()


def test_an_edited_plan_is_asked_for_again_and_runs_as_edited(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    execution_id, approval_id = waiting(stack, ledger.plan(file, "one"))
    changes = ("approvals", "request-changes", approval_id, "--reason", "write two")
    assert stack.opsctl(*changes).code == 0
    edited = stack.plan(ledger.plan(file, "two"), "edited")
    answer = stack.opsctl("approvals", "edit", approval_id, "-f", edited, "--reason", "done")
    assert answer.code == 0, answer.err
    (renewed,) = stack.json("runs", "get", execution_id)["pending_approval_ids"]
    assert renewed != approval_id
    assert stack.opsctl("approvals", "approve", renewed, "--yes").code == 0
    assert stack.wait_for(execution_id)["status"] == "completed"
    assert ledger.lines(file) == ["two"]


def test_two_agents_in_two_segments_get_their_own_steps(own_stack: Stack) -> None:
    for name in ("east", "west"):
        own_stack.join(f"{name}-1", name)
    steps = [command(name, "uname", segment=name) for name in ("east", "west")]
    code, result = run(own_stack, plan(*steps))
    assert code == 0
    with own_stack.client() as client:
        done = client.get(result["execution_id"])
    reasons = [step.attempts[0].routing_reason for step in done.steps]
    assert ["east-1" in reasons[0], "west-1" in reasons[1]] == [True, True]


def test_a_drained_agent_gets_nothing_until_it_is_taken_back(stack: Stack) -> None:
    assert stack.opsctl("agents", "drain", "local").code == 0
    try:
        _, begun = run(stack, plan(command("a", "uname", segment="local")), "--detach")
        assert stack.agent_state("local") == "draining"
        assert stack.status(begun["execution_id"]) == "queued"
    finally:
        assert stack.opsctl("agents", "drain", "local", "--undo").code == 0
    assert stack.wait_for(begun["execution_id"])["status"] == "completed"


def test_a_join_token_works_once(own_stack: Stack, tmp_path: Path) -> None:
    token = tmp_path / "token"
    create = ("agents", "token", "create", "once-1", "--segment", "once", "--file", str(token))
    assert own_stack.opsctl(*create).code == 0
    own_stack.join("once-1", "once", token=token)
    second = own_stack.launch_agent("twice", "once", token=token)
    assert second.wait(30) != 0
    assert own_stack.agent_state("twice") == ""


def test_plaintext_and_callers_without_a_certificate_are_refused(stack: Stack) -> None:
    authority = (stack.data / "ca.crt").read_bytes()
    method = "/opsconductor.v1.ExecutionService/List"
    for channel in (
        grpc.insecure_channel(stack.endpoint),
        grpc.secure_channel(stack.endpoint, grpc.ssl_channel_credentials(authority)),
    ):
        with channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(method, bytes, bytes)(b"", timeout=10)
        assert refused.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNAUTHENTICATED,
        )
