"""Which processes of a host belong to a step: a wrong one would be ended with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opsconductor.agent.executors import processes
from opsconductor.agent.executors.processes import ProcessId, ProcessInfo, Traces, step_processes

if TYPE_CHECKING:
    import pytest

INIT = ProcessInfo(1, "init", "S", parent=0, group=1, session=1, started=1)
COMMAND = ProcessInfo(10, "sleep", "S", parent=9, group=10, session=10, started=50)
CHILD = ProcessInfo(11, "sleep", "S", parent=10, group=11, session=11, started=51)
# What the kernel says of a process that is being collected, and one that was its child.
COLLECTED = ProcessInfo(20, "sh", "X", parent=0, group=-1, session=-1, started=40)
ITS_CHILD = ProcessInfo(21, "database", "S", parent=20, group=21, session=21, started=41)


def found(
    monkeypatch: pytest.MonkeyPatch, traces: Traces, *others: ProcessInfo
) -> list[ProcessInfo]:
    table = [INIT, COLLECTED, ITS_CHILD, *others]
    monkeypatch.setattr(processes, "process_table", lambda: table)
    monkeypatch.setattr(processes, "_is_marked", lambda *_: False)
    return step_processes(traces)


def test_the_command_and_what_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(b"", ProcessId(10, 50), ProcessId(9, 49))
    assert found(monkeypatch, traces, COMMAND, CHILD) == [COMMAND, CHILD]


def test_nobody_when_no_process_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, Traces(b""), COMMAND, CHILD) == []


def test_nobody_when_the_numbers_belong_to_others_now(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [replace(COMMAND, started=90), CHILD, replace(COMMAND, pid=9, started=91)]
    traces = Traces(b"", ProcessId(10, 50), ProcessId(9, 49))
    assert found(monkeypatch, traces, *others) == []
