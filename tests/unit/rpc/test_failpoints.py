"""Failpoints act at the chosen passage of the armed point and nowhere else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from opsconductor.rpc.failpoints import Failpoint, FailpointReached, from_environment, hit

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from opsconductor.rpc.failpoints import hit
for name in ("other", "grant.after_commit", "grant.after_commit"):
    hit(name)
    print(name, flush=True)
"""


def run(setting: str, enabled: str = "1") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "OPSCONDUCTOR_FAILPOINT": setting,
        "OPSCONDUCTOR_FAILPOINTS": enabled,
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kill9_ends_the_process_at_the_named_passage() -> None:
    done = run("grant.after_commit:kill9:2")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["other", "grant.after_commit"]


def test_nothing_happens_unless_failpoints_are_switched_on() -> None:
    assert run("grant.after_commit:kill9", enabled="").returncode == 0


def test_stop_freezes_the_process_until_it_is_continued() -> None:
    environment = os.environ | {
        "OPSCONDUCTOR_FAILPOINT": "grant.after_commit:stop",
        "OPSCONDUCTOR_FAILPOINTS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=30)
        assert output.split() == ["other", "grant.after_commit", "grant.after_commit"]
    finally:
        process.kill()
        process.wait()


def test_raise_happens_at_the_chosen_passage_only() -> None:
    point = Failpoint("report.before_send", "raise", 2)
    point.hit("report.before_send")
    with pytest.raises(FailpointReached, match=r"report\.before_send"):
        point.hit("report.before_send")
    point.hit("report.before_send")


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_a_disk_can_be_full_or_broken_at_a_point(action: str, number: int) -> None:
    with pytest.raises(OSError, match=r"failpoint journal\.append") as caught:
        Failpoint.read(f"journal.append:{action}").hit("journal.append")
    assert caught.value.errno == number


def test_a_point_can_be_slow() -> None:
    begin = time.monotonic()
    Failpoint.read("store.before_commit:sleep30").hit("store.before_commit")
    assert time.monotonic() - begin >= 0.03


def test_several_points_are_armed_at_once_and_what_acted_is_noted(tmp_path: Path) -> None:
    points = from_environment(
        {
            "OPSCONDUCTOR_FAILPOINTS": "1",
            "OPSCONDUCTOR_FAILPOINT": "one:sleep1,two:raise",
            "OPSCONDUCTOR_FAILPOINT_LOG": str(tmp_path / "log"),
        }
    )
    points[0].hit("one")
    with pytest.raises(FailpointReached):
        points[1].hit("two")
    assert (tmp_path / "log").read_text().split() == ["one:sleep1", "two:raise"]


@pytest.mark.parametrize(
    "setting", ["x", "x:explode", ":raise", "x:raise:0", "x:raise:two", "x:sleep", "x:raise,y"]
)
def test_a_setting_that_could_never_fire_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="expected name:action"):
        from_environment({"OPSCONDUCTOR_FAILPOINT": setting, "OPSCONDUCTOR_FAILPOINTS": "1"})


def test_an_unarmed_process_passes_every_point() -> None:
    hit("grant.after_commit")
