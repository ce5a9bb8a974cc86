from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.agent.journal import CHANGE_KEPT, READ_KEPT, READS_KEPT, Entry, Journal
from opsconductor.agent.record_log import JournalCorrupt, encode
from opsconductor.agent.report import Failure, Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path, clock: Clock) -> Iterator[Journal]:
    opened = Journal.open(path, clock)
    yield opened
    opened.close()


def running(attempt_id: str = "att_1", *, read_only: bool = False, group: str = "g") -> Entry:
    report = Report(attempt_id, "running", start_time=5.0, command="true")
    return Entry(report, read_only=read_only, group=group, boot_id="boot-1", started=True)


def ended(entry: Entry, output: str = '{"text":"x"}', captured: str = "") -> Entry:
    report = replace(
        entry.report, state="completed", effects="done", output=output, captured=captured
    )
    return replace(entry, report=report)


def reopened(journal: Journal, path: Path, clock: Clock) -> Journal:
    journal.close()
    return Journal.open(path, clock)


REPORTS = st.builds(
    Report,
    attempt_id=st.text(min_size=1, max_size=10),
    state=st.sampled_from(["running", "completed", "not_started", "unknown"]),
    effects=st.sampled_from(["", "none", "possible", "done"]),
    error=st.none() | st.builds(Failure, st.text(max_size=5), st.text(max_size=9)),
    exit_code=st.none() | st.integers(0, 255),
    output=st.text(max_size=20),
    captured=st.text(max_size=20),
    stdout_bytes=st.integers(0, 9),
    survivors=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    start_time=st.floats(0, 1e9),
    session_epoch=st.integers(0, 9),
)


@given(REPORTS)
def test_a_report_survives_being_written(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


async def test_everything_is_remembered_over_a_restart(
    journal: Journal, path: Path, clock: Clock
) -> None:
    journal.pin_incarnation("inc-1")
    await journal.accept_epoch(7)
    await journal.executing(running("att_1"))
    await journal.final(ended(running("att_2")))
    again = reopened(journal, path, clock)
    first, second = again.find("att_1"), again.find("att_2")
    assert first is not None
    assert second is not None
    assert (again.journal_id, again.epoch, again.incarnation) == (journal.journal_id, 7, "inc-1")
    assert (first.report.state, second.report.state) == ("running", "completed")
    again.close()


async def test_a_change_without_an_end_is_unknown_after_a_crash(
    journal: Journal, path: Path, clock: Clock
) -> None:
    await journal.executing(running("att_1"))
    await journal.executing(running("att_2", read_only=True))
    again = reopened(journal, path, clock)
    change, read = again.unknown_after_crash("boot-1")
    assert (change.state, change.effects) == ("unknown", "possible")
    assert (read.state, read.effects) == ("unknown", "none")
    assert change.error is not None
    assert "agent was killed" in change.error.message
    assert again.unknown_after_crash("boot-1") == []
    again.close()


async def test_a_supervised_command_may_be_adopted_on_the_same_boot_only(
    journal: Journal, path: Path, clock: Clock
) -> None:
    await journal.executing(replace(running("att_1"), supervised=True))
    await journal.executing(running("att_2"))
    journal.compact()
    again = reopened(journal, path, clock)
    assert [entry.report.attempt_id for entry in again.adoptable("boot-1")] == ["att_1"]
    assert again.adoptable("boot-2") == []
    (left,) = again.unknown_after_crash("boot-1", {"att_1"})
    assert left.attempt_id == "att_2"
    assert [entry.report.attempt_id for entry in again.adoptable("boot-1")] == ["att_1"]
    again.close()


async def test_an_ended_command_is_not_adopted(journal: Journal) -> None:
    entry = replace(running(), supervised=True)
    await journal.executing(entry)
    await journal.final(ended(entry))
    assert journal.adoptable("boot-1") == []


async def test_a_reboot_is_told_from_a_crash(journal: Journal) -> None:
    await journal.executing(running())
    (report,) = journal.unknown_after_crash("boot-2")
    assert report.error is not None
    assert "machine was restarted" in report.error.message


async def test_an_end_is_reported_again_exactly_until_acknowledged(
    journal: Journal, path: Path, clock: Clock
) -> None:
    entry = ended(running())
    await journal.executing(running())
    await journal.final(entry)
    again = reopened(journal, path, clock)
    assert [each.report for each in again.unacknowledged()] == [entry.report]
    again.acknowledge("att_1")
    assert list(again.unacknowledged()) == []
    again.close()


async def test_a_running_attempt_cannot_be_acknowledged(journal: Journal) -> None:
    await journal.executing(running())
    journal.acknowledge("att_1")
    assert [each.report.state for each in journal.unacknowledged()] == ["running"]


async def test_a_tombstone_keeps_what_an_undo_needs_and_forgets_output(journal: Journal) -> None:
    await journal.executing(running())
    await journal.final(ended(running(), captured='{"mode":"0644"}'))
    journal.acknowledge("att_1")
    entry = journal.find("att_1")
    assert entry is not None
    assert (entry.report.output, entry.report.captured) == ("", '{"mode":"0644"}')


async def test_starts_are_counted_per_step_over_restarts_and_compaction(
    journal: Journal, path: Path, clock: Clock
) -> None:
    for number in range(3):
        entry = running(f"att_{number}", group="exec/step/forward")
        await journal.executing(entry)
        await journal.final(ended(entry))
        journal.acknowledge(f"att_{number}")
    await journal.final(Entry(Report("att_9", "not_started"), False, group="exec/step/forward"))
    journal.compact()
    again = reopened(journal, path, clock)
    assert again.starts("exec/step/forward") == 3
    again.close()


async def test_compaction_keeps_changes_as_long_as_an_approval_may_live(
    journal: Journal, path: Path, clock: Clock
) -> None:
    for attempt_id, read_only in (("change", False), ("read", True)):
        entry = running(attempt_id, read_only=read_only)
        await journal.executing(entry)
        await journal.final(ended(entry))
        journal.acknowledge(attempt_id)
    clock.now += READ_KEPT.total_seconds() + 1
    journal.compact()
    assert journal.find("read") is None
    assert journal.find("change") is not None
    again = reopened(journal, path, clock)
    assert again.find("change") is not None
    clock.now += CHANGE_KEPT.total_seconds()
    again.compact()
    assert again.find("change") is None
    again.close()


async def test_only_so_many_acknowledged_reads_are_kept(journal: Journal) -> None:
    for number in range(READS_KEPT + 5):
        entry = running(f"att_{number}", read_only=True)
        await journal.final(ended(entry))
        journal.acknowledge(f"att_{number}")
    assert journal.find("att_0") is None
    assert journal.find(f"att_{READS_KEPT + 4}") is not None


async def test_a_new_store_starts_its_epochs_anew(journal: Journal) -> None:
    journal.pin_incarnation("one")
    await journal.accept_epoch(40)
    journal.pin_incarnation("two")
    assert journal.epoch == 0


def test_a_lost_journal_gets_a_new_id(path: Path, clock: Clock) -> None:
    first = Journal.open(path, clock)
    first.close()
    path.unlink()
    second = Journal.open(path, clock)
    second.close()
    assert first.journal_id != second.journal_id


@pytest.mark.parametrize(
    "payload", [b'{"t":"ack","attempt_id":"?","at":1,"keep_until":1}', b"{}", b"x"]
)
def test_a_whole_record_that_makes_no_sense_refuses_to_start(
    path: Path, clock: Clock, payload: bytes
) -> None:
    path.write_bytes(encode(payload))
    with pytest.raises(JournalCorrupt):
        Journal.open(path, clock)


async def test_a_crash_while_rewriting_leaves_the_old_file(
    journal: Journal, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.executing(running())

    def crash(_: object, __: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.rename", crash)
        with pytest.raises(KeyboardInterrupt):
            journal.compact()
    again = reopened(journal, path, clock)
    assert again.find("att_1") is not None
    again.close()


async def test_leaving_a_store_reports_nothing_to_the_next_but_still_knows_it(
    journal: Journal,
) -> None:
    journal.pin_incarnation("one")
    await journal.accept_epoch(9)
    await journal.final(ended(running()))
    assert journal.leave_store() == ["att_1"]
    assert list(journal.unacknowledged()) == []
    assert journal.find("att_1") is not None
    assert (journal.incarnation, journal.epoch) == ("", 0)
