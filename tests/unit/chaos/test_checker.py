"""The checker of the chaos suite finds what is wrong, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chaos.checker import check
from helpers.fabricated_run import Fabricated
from opsconductor.orchestrator.domain.executions import events as ev
from opsconductor.rpc import canonical, ids

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000.0


@pytest.fixture(scope="module")
def key() -> tuple[bytes, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
        private.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode(),
    )


@pytest.fixture
def run(tmp_path: Path, key: tuple[bytes, str]) -> Fabricated:
    return Fabricated(tmp_path, key)


@pytest.fixture
def good(run: Fabricated) -> Fabricated:
    run.approve()
    run.run("one")
    run.run("two")
    return run


def test_a_run_that_went_well_breaks_nothing(good: Fabricated) -> None:
    assert good.story.outcome == "completed"
    assert check(good.evidence()) == []


def test_an_attempt_that_started_twice_is_found(good: Fabricated) -> None:
    good.started(good.ledger[0]["attempt"], "one")
    assert "I2" in good.broken()


def test_one_start_too_many_of_a_change_is_found(good: Fabricated) -> None:
    good.started("att_other", "one")
    assert {"I2", "I4"} <= good.broken()


def test_two_at_a_time_are_found(good: Fabricated) -> None:
    good.ledger[0]["overlap"] = True
    assert good.broken() == {"I3"}


def test_a_start_before_its_grant_is_found(good: Fabricated) -> None:
    good.ledger[0]["wall"] -= 5
    assert good.broken() == {"I4"}


def test_success_without_an_end_is_found(good: Fabricated) -> None:
    del good.ledger[1]
    assert good.broken() == {"I5"}


def test_success_of_what_failed_is_found(good: Fabricated) -> None:
    good.ledger[1]["exit"] = 3
    assert good.broken() == {"I5"}


def test_a_start_that_is_said_not_to_be_one_is_found(run: Fabricated) -> None:
    run.approve()
    run.run("one", state="failed", effects="none")
    assert "I6" in run.broken()


def test_an_unknown_that_its_agent_knows_is_found(run: Fabricated) -> None:
    run.approve()
    attempt_id = run.run("one", state="unknown")
    assert run.broken() == set()
    run.remembered(attempt_id, "completed")
    assert run.broken() == {"I7"}


@pytest.mark.parametrize("stored", [b"something else", b""])
def test_output_that_is_not_what_was_printed_is_found(good: Fabricated, stored: bytes) -> None:
    good.output[good.ledger[0]["attempt"], 1] = [(0, stored)]
    assert good.broken() == {"I8"}


GAP = {"stream": "stdout", "offset": 20, "bytes": 100}


@pytest.mark.parametrize("line", [b"", "\n[… 100 bytes left out …]\n".encode()])
def test_a_gap_on_record_is_no_violation(run: Fabricated, line: bytes) -> None:
    run.approve().run("one", keep=lambda data: data[:20] + line + data[120:], gaps=[GAP])
    run.run("two")
    assert run.broken() == set()


@pytest.mark.parametrize("lost", [(20, 119), (20, 121), (19, 119), (0, 0)])
def test_another_gap_than_the_one_on_record_is_found(
    run: Fabricated, lost: tuple[int, int]
) -> None:
    begin, end = lost
    run.approve().run("one", keep=lambda data: data[:begin] + data[end:], gaps=[GAP])
    run.run("two")
    assert run.broken() == {"I8"}


def test_output_that_came_twice_is_found(good: Fabricated) -> None:
    chunks = good.output[good.ledger[0]["attempt"], 1]
    chunks.append((len(chunks[0][1]) - 10, chunks[0][1][-10:]))
    assert good.broken() == {"I8"}


def test_a_lower_session_that_was_accepted_is_found(good: Fabricated) -> None:
    good.journal += [{"t": "epoch", "epoch": 7}, {"t": "epoch", "epoch": 6}]
    assert good.broken() == {"I9"}


def test_a_start_long_after_its_grant_is_found(good: Fabricated) -> None:
    good.ledger[0]["wall"] += 60
    assert good.broken() == {"I9"}


def test_an_altered_event_is_found(good: Fabricated) -> None:
    evidence = good.evidence()
    events = evidence.stories["exec_1"].events
    body = canonical.loads(events[-2].data)
    events[-2] = replace(events[-2], data=canonical.dumps({**body, "step_id": "one"}))
    assert "I15" in good.broken(evidence)


def test_a_missing_event_is_found(good: Fabricated) -> None:
    evidence = good.evidence()
    del evidence.stories["exec_1"].events[3]
    assert {"I10", "I15"} <= good.broken(evidence)


def test_a_list_that_says_something_else_than_the_events_is_found(good: Fabricated) -> None:
    evidence = good.evidence()
    evidence.stories["exec_1"].row["state"] = "failed"
    assert good.broken(evidence) == {"I10"}


def test_a_signature_for_another_execution_does_not_count(run: Fabricated) -> None:
    run.approve("exec_2")
    run.run("one")
    assert "I11" in run.broken()


def test_a_signature_of_somebody_else_does_not_count(good: Fabricated) -> None:
    (good.folder / "allowed_signers").write_text("rita ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\n")
    assert good.broken() == {"I11"}


def test_a_step_before_what_it_needs_is_found(good: Fabricated) -> None:
    evidence = good.evidence()
    story = evidence.stories["exec_1"]
    needing = replace(story.plan.steps[0], body_bytes=b'{"needs":["two"]}')
    story.__dict__["plan"] = replace(story.plan, steps=(needing, story.plan.steps[1]))
    assert "I12" in good.broken(evidence)


def test_an_undo_of_what_had_no_effects_is_found(run: Fabricated) -> None:
    run.approve()
    run.run("one")
    evidence = run.evidence()
    story = evidence.stories["exec_1"]
    granted = next(event for event in story.events if event.type == "attempt_granted")
    undo = {**granted.body, "kind": "undo", "step_id": "two", "attempt_id": "att_undo"}
    story.events.append(replace(granted, seq=len(story.events) + 1, data=canonical.dumps(undo)))
    assert "I18" in run.broken(evidence)


def test_a_process_that_outlives_its_cancel_is_found(run: Fabricated) -> None:
    run.approve()
    attempt_id = run.story.live("one").attempt_id
    run.started(attempt_id, "one")
    run.story.cancel()
    run.story.end("one", "cancelled", effects="possible")
    run.remembered(attempt_id, "cancelled")
    assert run.broken() == set()
    run.survivors["42"] = attempt_id
    assert run.broken() == {"I13"}


def test_a_start_after_the_cancel_is_found(run: Fabricated) -> None:
    run.approve()
    attempt_id = run.story.live("one").attempt_id
    run.story.cancel()
    run.story.end("one", "cancelled", effects="possible")
    run.remembered(attempt_id, "cancelled")
    run.started(attempt_id, "one", wall=run.wall + 2)
    assert run.broken() == {"I13"}


def test_a_grant_by_a_store_that_went_back_is_found(good: Fabricated) -> None:
    good.world.append({"what": "store restored", "wall": good.wall - 1})
    good.world.append({"what": "restore confirmed", "wall": good.wall + 1})
    assert good.broken() == {"I14"}


def test_a_start_that_a_restored_store_never_learned_of_is_found(good: Fabricated) -> None:
    good.world.append({"what": "store restored", "wall": good.wall + 5})
    good.started("att_forgotten", "two", role="read")
    assert "I4" in good.broken()


def test_a_start_that_a_journal_brought_back_needs_no_grant_of_before(run: Fabricated) -> None:
    run.approve()
    attempt_id = ids.attempt_id("exec_1", "two", "forward", 1)
    report = {"attempt_id": attempt_id, "state": "completed", "effects": "done"}
    told = ev.AttemptRecovered(
        *(attempt_id, "two", "forward", 1, "a1"), session_epoch=1, started=True, report=report
    )
    run.story.happen(told)
    run.started(attempt_id, "two")
    assert "I4" in run.broken()
    run.world.append({"what": "store restored", "wall": run.wall + 5})
    assert "I4" not in run.broken()


def test_an_unknown_while_an_agent_was_copied_is_honest(run: Fabricated) -> None:
    run.approve()
    run.run("one", state="unknown")
    run.journal.pop()
    run.remembered(run.ledger[0]["attempt"], "completed")
    assert "I7" in run.broken()
    run.world.append({"what": "submitted", "execution": "exec_1", "key": "k", "round": 1})
    run.world.append({"what": "injected", "fault": "copied_agent", "round": 1})
    assert "I7" not in run.broken()


def test_what_still_runs_after_the_cancel_is_found(run: Fabricated) -> None:
    run.approve()
    attempt_id = run.story.live("one").attempt_id
    run.started(attempt_id, "one")
    run.story.cancel()
    run.story.end("one", "cancelled", effects="possible")
    run.remembered(attempt_id, "cancelled")
    assert run.broken() == set()
    run.ended(attempt_id, "one")
    run.ledger[-1]["wall"] = run.wall + 60
    assert run.broken() == {"I13"}


def test_memory_without_bound_is_found(good: Fabricated) -> None:
    good.world.append({"what": "rss", "orchestrator": 1 << 31, "agents": {}, "wall": NOW})
    assert good.broken() == {"I17"}


def test_a_world_that_does_not_heal_is_found(good: Fabricated) -> None:
    good.world.append({"what": "healed", "fault": "partition", "whole": False, "wall": NOW})
    assert good.broken() == {"I20"}


def test_an_execution_that_never_ends_is_found(run: Fabricated) -> None:
    run.approve()
    run.run("one")
    assert run.broken() == {"I1"}


def test_a_submission_that_was_accepted_and_is_gone_is_found(good: Fabricated) -> None:
    good.world.append({"what": "submitted", "execution": "exec_9", "key": "k", "round": 1})
    assert good.broken() == {"I22"}


def test_an_acknowledgement_before_the_commit_is_found(good: Fabricated) -> None:
    attempt_id = good.ledger[0]["attempt"]
    good.journal.append({"t": "ack", "attempt_id": attempt_id, "at": good.wall - 3})
    assert good.broken() == {"I22"}
