"""An orchestrator that is in an attacker's hands, against a real worker with real processes.

Whatever starts writes a line to a ledger outside the agent; no forgery may get one there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.evil_world import ALICE, BOB, EVE, LOOK, World
from helpers.forgeries import FORGERIES, STATE_UNDO, WRITE, Forgery, undoable
from helpers.orders import Orchestrator, body_of, call_of
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsconductor.agent.report import Report


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.worker.wait_idle()
    await made.executors.close()
    made.journal.close()
    made.spools.close()


def code(report: Report) -> str:
    return report.error.code if report.error else ""


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.what)
async def test_no_forgery_starts_anything(world: World, forgery: Forgery) -> None:
    report = await world.offer(forgery.make(world))
    assert (report.state, report.effects, code(report)) == ("not_started", "none", forgery.code)
    assert world.starts == []
    assert not world.worker.broken.is_set()


async def test_the_honest_order_does_start(world: World) -> None:
    assert (await world.offer(world.honest())).state == "completed"
    assert world.starts == ["evil"]


@pytest.mark.parametrize(
    ("policy", "target"),
    [
        ({"deny_tools": ("run_*",)}, None),
        ({"methods": ("http",)}, None),
        ({"targets": ("web-*", "10.1.0.0/16")}, {"name": "web-01", "address": "10.9.9.9"}),
        ({"deny_targets": ("10.9.0.0/16",)}, {"name": "web-01", "address": "::ffff:10.9.9.9"}),
        ({"deny_targets": ("10.9.0.0/16",)}, {"name": "web-01", "address": "0x0a090909"}),
    ],
)
async def test_the_agents_own_policy_cannot_be_talked_round(
    world: World, policy: dict[str, Any], target: dict[str, Any] | None
) -> None:
    world.obey(**policy)
    report = await world.offer(world.honest(world.change(target=target)))
    assert code(report) == "POLICY_DENIED"
    assert world.starts == []


async def test_one_person_with_two_signatures_is_no_quorum(world: World) -> None:
    world.obey(quorum=2)
    report = await world.offer(Orchestrator(people=(ALICE, ALICE)).order(world.change()))
    assert code(report) == "APPROVAL_MISSING"
    assert world.starts == []


async def test_a_key_taken_from_the_file_counts_no_more(world: World) -> None:
    order = world.honest()
    world.trust_in(BOB)
    assert code(await world.offer(order)) == "SIGNATURE_INVALID"
    assert world.starts == []


async def test_signers_that_others_can_write_count_for_nothing(world: World) -> None:
    world.signers.chmod(0o666)
    assert code(await world.offer(world.honest())) == "POLICY_LOAD_FAILED"
    assert world.starts == []


async def test_every_frame_sent_again_starts_nothing_more(world: World) -> None:
    order = world.honest()
    await world.offer(order)
    for again in (order, replace(order, session_epoch=2), replace(order, body=b"")):
        assert (await world.offer(again)).state == "completed"
    world.worker.acknowledge(order.attempt_id)
    assert (await world.offer(order)).state == "completed"
    assert world.starts == ["evil"]


async def test_another_number_is_no_second_start(world: World) -> None:
    await world.offer(world.honest())
    for number in (2, 3, 1000):
        report = await world.offer(world.honest(number=number))
        assert code(report) == "RETRY_NOT_AUTHORISED"
    assert world.starts == ["evil"]


async def test_numbers_offered_at_once_start_once(world: World) -> None:
    # Each waits in its precheck; when they come out, only one may go on.
    body = world.change(precheck=call_of(LOOK, inputs={"path": "/etc/hostname"}))
    orders = [world.honest(body, number=number) for number in range(1, 6)]
    for order in orders:
        world.worker.assign(order)
    states = sorted([(await world.end_of(order.attempt_id)).state for order in orders])
    assert states == ["completed", *["not_started"] * 4]
    assert world.starts == ["evil"]


async def test_an_allowed_retry_does_not_overlap_what_runs(world: World, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    inputs = world.command(before=f"until test -e {go_on}; do sleep 0.02; done; ")
    retry = {**world.change()["retry"], "max_attempts": 2}
    body = undoable(world, inputs=inputs, retry=retry)
    first = world.honest(body)
    world.worker.assign(first)
    async with asyncio.timeout(10):
        while world.seen.get(first.attempt_id) is None:  # told when it has run for a moment
            world.news.clear()
            await world.news.wait()
    for kind, number in (("forward", 2), ("undo", 1)):
        assert code(await world.offer(world.honest(body, kind=kind, number=number))) == (
            "ALREADY_RUNNING"
        )
    go_on.touch()
    assert (await world.end_of(first.attempt_id)).state == "completed"
    assert world.starts == ["evil"]


async def test_after_an_unknown_outcome_only_a_persons_word_counts(world: World) -> None:
    body = world.change(retry={**world.change()["retry"], "max_attempts": 3})
    first = await world.offer(world.honest(body))
    world.journal.amend(replace(first, state="unknown", effects="possible"))
    second = world.honest(body, number=2)
    assert code(await world.offer(second)) == "RETRY_NOT_AUTHORISED"
    third = world.honest(body, number=3)
    wrong = ALICE.sign(Orchestrator().resolution("one", 2, approver="alice"))
    forged = EVE.sign(Orchestrator().resolution("one", 1, approver="alice"))
    bad = replace(third, approvals=(*third.approvals, wrong, forged))
    assert code(await world.offer(bad)) == "RETRY_NOT_AUTHORISED"
    assert world.starts == ["evil"]
    fourth = world.honest(body, number=4)
    word = ALICE.sign(Orchestrator().resolution("one", 1, approver="alice"))
    good = replace(fourth, approvals=(*fourth.approvals, word))
    assert (await world.offer(good)).state == "completed"
    assert world.starts == ["evil", "evil"]


async def test_what_was_taken_back_never_starts(world: World) -> None:
    order = world.honest()
    world.worker.cancel(order.attempt_id, "changed my mind")
    world.worker.assign(order)
    assert (await world.end_of(order.attempt_id)).state in ("not_started", "cancelled")
    assert (await world.offer(order)).effects == "none"
    assert world.starts == []


async def test_an_undo_that_is_done_is_not_done_again(world: World) -> None:
    body = undoable(world)
    await world.offer(world.honest(body))
    assert (await world.offer(world.honest(body, kind="undo"))).state == "completed"
    for number in (2, 3):
        report = await world.offer(world.honest(body, kind="undo", number=number))
        assert code(report) == "ALREADY_UNDONE"
    assert world.starts == ["evil", "undone"]


async def test_a_restore_goes_only_where_the_change_was(world: World, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_text("before")
    other.write_text("precious")
    text = "${{ steps.a.output.path }}"
    inputs = {"path": text, "content": "after"}
    body = body_of(WRITE, inputs=inputs, late=["path"], undo=STATE_UNDO)
    forward = await world.offer(world.honest(body, late={"path": str(mine)}))
    assert forward.state == "completed", forward.error
    same = {"captured": forward.captured.encode(), "undoes_attempt_id": forward.attempt_id}
    for number, late in enumerate(({"path": str(other)}, {}, None), start=1):
        order = world.honest(body, kind="undo", number=number, late=late, **same)
        assert code(await world.offer(order)) == "LATE_INPUT_INVALID"
    captured = json.loads(forward.captured)
    forged = {**captured, next(iter(captured)): "forged"}
    order = world.honest(body, kind="undo", number=8, late={"path": str(mine)}, **same)
    bad = replace(order, captured=canonical.dumps(forged))
    assert code(await world.offer(bad)) == "CAPTURE_UNVERIFIED"
    assert (mine.read_text(), other.read_text()) == ("after", "precious")
    good = world.honest(body, kind="undo", number=9, late={"path": str(mine)}, **same)
    assert (await world.offer(good)).state == "completed"
    assert (mine.read_text(), other.read_text()) == ("before", "precious")


async def test_a_draining_agent_takes_nothing(world: World) -> None:
    world.worker.drain("stop")
    assert code(await world.offer(world.honest())) == "AGENT_DRAINING"
    assert world.starts == []
