"""Three orchestrators over one PostgreSQL: whichever is lost, no step is lost or runs twice."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from helpers import ledger
from helpers.replicas import Replicas, restart_one_after_the_other, several
from helpers.stack import status_word, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.replicas import Orchestrator

FORWARD = ["one", "two", "three"]

OWNER_DIES = [
    *("submit.before_commit", "submit.after_commit_before_reply", "place.mid:2"),
    *("grant.before_commit:4", "grant.after_commit_before_send:3", "event.recv_before_commit:2"),
    *("event.after_commit_before_ack:2", "store.before_commit:9", "store.after_commit:9"),
]
"""Where the orchestrator that takes a submission dies, counted from when agents are connected."""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with several(tmp_path_factory.mktemp("replicas")) as running:
        yield running


@pytest.fixture(autouse=True)
def _all_up(replicas: Replicas) -> Iterator[None]:
    yield
    for orchestrator in replicas.orchestrators:
        if orchestrator.runs:
            orchestrator.signal(signal.SIGCONT)
    replicas.up()
    replicas.restart_agents()  # what waits long before it dials again would hold up the next test
    replicas.await_sessions()


def _owner(replicas: Replicas, execution_id: str) -> Orchestrator:
    found: list[Orchestrator | None] = []

    def known() -> bool:
        found[:] = [replicas.owner(execution_id)]
        return found[0] is not None

    wait_until(known, f"somebody moves {execution_id}")
    assert found[0] is not None
    return found[0]


def _slow(file: Path, *names: str) -> dict[str, object]:
    """Returns a plan whose every step takes a moment after it has written its line."""
    plan = ledger.plan(file, *names)
    for step in plan["steps"]:
        step["inputs"]["argv"][4] += "; import time; time.sleep(0.7)"
    return plan


def test_the_owner_is_killed_in_the_middle_and_another_finishes(
    replicas: Replicas, tmp_path: Path
) -> None:
    file = tmp_path / "ledger"
    with replicas.client() as client:
        execution_id = replicas.run(client, _slow(file, *FORWARD))
        wait_until(lambda: ledger.lines(file), "the first step has run")
        owner = _owner(replicas, execution_id)
        owner.kill()
        assert status_word(replicas.wait_for(execution_id)) == "completed"
    assert ledger.lines(file) == FORWARD


def test_a_frozen_owner_is_replaced_and_takes_part_again_when_it_wakes(
    replicas: Replicas, tmp_path: Path
) -> None:
    file = tmp_path / "ledger"
    with replicas.client() as client:
        execution_id = replicas.run(client, _slow(file, *FORWARD))
    wait_until(lambda: ledger.lines(file), "the first step has run")
    owner = _owner(replicas, execution_id)
    number = replicas.orchestrators.index(owner)
    others = [n for n in range(3) if n != number]
    owner.signal(signal.SIGSTOP)
    assert status_word(replicas.wait_for(execution_id, *others)) == "completed"
    owner.signal(signal.SIGCONT)
    assert ledger.lines(file) == FORWARD
    assert status_word(replicas.wait_for(execution_id, number)) == "completed"
    replicas.await_sessions()
    with replicas.client(number) as client:
        again = replicas.run(client, ledger.plan(file, "after"))
    assert status_word(replicas.wait_for(again, number)) == "completed"
    assert ledger.lines(file) == [*FORWARD, "after"]


@pytest.mark.parametrize("setting", OWNER_DIES)
def test_the_owner_dies_at_a_crash_point_and_each_line_is_written_once(
    replicas: Replicas, tmp_path: Path, setting: str
) -> None:
    file = tmp_path / "ledger"
    armed = replicas.orchestrators[0]
    name, _, nth = setting.partition(":")
    armed.stop()
    armed.up(f"{name}:kill9:{nth or 1}")
    if armed.runs:
        replicas.await_sessions()
    with replicas.client() as client, ThreadPoolExecutor(1) as caller:
        first = caller.submit(replicas.run, client, ledger.plan(file, *FORWARD), "the " + setting)
        execution_id = first.result()
        assert status_word(replicas.wait_for(execution_id, 1, 2)) == "completed"
    assert ledger.lines(file) == FORWARD


@pytest.mark.parametrize("point", ["lease.take", "session.after_epoch_bump"])
def test_who_takes_over_dies_as_well(replicas: Replicas, tmp_path: Path, point: str) -> None:
    file = tmp_path / "ledger"
    armed = replicas.orchestrators[1]
    armed.stop()
    armed.start(f"{point}:kill9")
    with replicas.client(0) as client:
        execution_id = replicas.run(client, _slow(file, *FORWARD))
    replicas.orchestrators[0].kill()
    replicas.orchestrators[2].stop()
    wait_until(lambda: not armed.runs, "it has died at its crash point")
    replicas.orchestrators[2].up()
    assert status_word(replicas.wait_for(execution_id, 2)) == "completed"
    assert ledger.lines(file) == FORWARD


def test_decisions_and_questions_through_another_than_the_owner(
    replicas: Replicas, tmp_path: Path
) -> None:
    file = tmp_path / "ledger"
    plan = ledger.plan(file, *FORWARD)
    with replicas.client(0) as one, replicas.client(1) as two, replicas.client(2) as three:
        import json

        submitted = one.submit(json.dumps(plan).encode()).execution
        (approval_id,) = submitted.pending_approval_ids
        two.approve(approval_id, replicas.context(1).signer(), reason="looked")
        seqs = [item.seq for item in three.watch(submitted.execution_id)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert status_word(replicas.wait_for(submitted.execution_id, 2)) == "completed"
    assert ledger.lines(file) == FORWARD


def test_changes_of_one_target_never_overlap_whoever_grants_them(
    replicas: Replicas, tmp_path: Path
) -> None:
    file = tmp_path / "ledger"

    def plan(number: int) -> dict[str, object]:
        script = (
            f"import os, time; f = os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND); "
            f"os.write(f, b'begin {number}\\n'); time.sleep(0.1); os.write(f, b'end {number}\\n')"
        )
        import sys

        argv = [sys.executable, "-I", "-S", "-c", script]
        step = {
            **{"id": "only", "tool": "run_command", "inputs": {"argv": argv}, "undo": "none"},
            "concurrency": {"key": "the one", "max_runs": 1},
        }
        return {"name": "lock", "context": {"environment": "staging"}, "steps": [step]}

    def run(number: int) -> str:
        with replicas.client(number % 3) as client:
            return replicas.run(client, plan(number))

    with ThreadPoolExecutor(3) as callers:
        runs = list(callers.map(run, range(9)))
    for execution_id in runs:
        assert status_word(replicas.wait_for(execution_id)) == "completed"
    lines = [line.split() for line in ledger.lines(file)]
    assert len(lines) == 18
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert (begin[0], end[0], begin[1]) == ("begin", "end", end[1])


def test_a_rolling_restart_under_load_loses_and_repeats_nothing(
    replicas: Replicas, tmp_path: Path
) -> None:
    count = 50
    files = [tmp_path / f"ledger-{number}" for number in range(count)]

    def run(number: int) -> str:
        with replicas.client() as client:
            return replicas.run(client, _slow(files[number], "one", "two"), f"rolling {number}")

    with ThreadPoolExecutor(4) as callers:
        submitting = [callers.submit(run, number) for number in range(count)]
        restart_one_after_the_other(replicas)
        runs = [each.result() for each in submitting]
    for execution_id in runs:
        assert status_word(replicas.wait_for(execution_id)) == "completed"
    assert [ledger.lines(file) for file in files] == [["one", "two"]] * count


def test_a_restarted_agent_connects_to_all_and_nothing_ran_twice(
    replicas: Replicas, tmp_path: Path
) -> None:
    file = tmp_path / "ledger"
    with replicas.client() as client:
        execution_id = replicas.run(client, ledger.plan(file, *FORWARD))
    replicas.restart_agents()
    replicas.await_sessions()
    assert status_word(replicas.wait_for(execution_id)) in ("completed", "attention_required")
    assert max(Counter(ledger.lines(file)).values(), default=0) <= 1
