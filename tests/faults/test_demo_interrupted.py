"""Ctrl-C in any scene of the demo leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.source_tree import ROOT
from helpers.stack import wait_until

NAMESPACES = Path("/run/netns")


def of_the_demo(folder: Path) -> list[str]:
    """Returns the command lines of processes that belong to a demo in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scene", [3, 4, 5, 6])
def test_ctrl_c_in_a_scene_takes_everything_down(tmp_path: Path, scene: int) -> None:
    process = subprocess.Popen(
        # Who runs the tests in the background has SIGINT ignored, and children inherit that.
        ["env", "--default-signal=INT", sys.executable, str(ROOT / "deploy" / "demo" / "main.py")],
        env={**os.environ, "YES": "1", "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)
            if re.match(rf"{scene}\. ", line):
                break
        # As a terminal does: everything in the foreground hears of it.
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    assert process.returncode == 130, "".join(seen) + rest
    assert "interrupted: cleaning up" in rest
    assert "Traceback" not in rest
    wait_until(lambda: not of_the_demo(tmp_path), f"nothing runs: {of_the_demo(tmp_path)}")
    assert list(tmp_path.glob("opsconductor-demo-*")) == []
    names = [name.name for name in NAMESPACES.glob(f"opsc-{process.pid}-*")]
    assert names == []


START = """
import os, signal, subprocess
from interrupts import HeldBack
with HeldBack() as interrupts:
    os.kill(os.getpid(), signal.SIGINT)
    process = subprocess.Popen(["sleep", "600"])
    try:
        interrupts.let_through()
    except KeyboardInterrupt:
        process.kill()
        print("ended", process.wait())
try:
    with HeldBack():
        os.kill(os.getpid(), signal.SIGTERM)
        print("to its end")
except KeyboardInterrupt:
    print("then heard")
"""


def test_an_interrupt_while_a_program_is_started_is_heard_when_it_can_be_ended() -> None:
    done = subprocess.run(
        ["env", "--default-signal=INT", sys.executable, "-c", START],
        env={**os.environ, "PYTHONPATH": str(ROOT / "deploy" / "demo")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["ended -9", "to its end", "then heard"]
