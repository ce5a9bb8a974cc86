"""What every command executor does alike, on this host and over SSH."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shlex
from typing import TYPE_CHECKING

import pytest

from helpers.places import MemorySink, marked_processes, new_attempt, until
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, HttpRequest, ScriptCommand

if TYPE_CHECKING:
    from helpers.places import Place

NASTY = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "a'b\"c",
    "$HOME",
    "`id`",
    "$(id)",
    "\\",
    "a\\",
    " ; echo PWNED; echo \\",
    "!",
    "*",
    "~",
    "-n",
    "--",
    "line\nline",
    "\ttab",
    "ümläut 日本 🎉",
    "\x1b[31m",
    "&& exit 9",
    "%s%n",
    "#x",
    "{a,b}",
    "\r",
]

TREE = """
trap '' TERM
sleep 3001 &
(setsid sleep 3002 &)
setsid sh -c "trap '' TERM; sleep 3003 & sleep 3004; sleep 3005" &
(sh -c 'setsid sleep 3006 >/dev/null 2>&1 </dev/null &')
echo ready
wait; wait; sleep 3007
"""


async def test_output_and_exit_code_arrive(place: Place) -> None:
    outcome = await place.sh("echo out; echo err >&2; exit 7")
    assert (outcome.state, outcome.exit_code, outcome.effects) == ("completed", 7, "done")
    assert (place.sink.stdout, place.sink.stderr) == (b"out\n", b"err\n")


async def test_a_read_has_no_effects(place: Place) -> None:
    assert (await place.argv("true", read_only=True)).effects == "none"


async def test_nasty_arguments_arrive_unchanged(place: Place) -> None:
    await place.argv("printf", "%s\\0", *NASTY)
    assert place.sink.stdout.split(b"\0")[:-1] == [text.encode() for text in NASTY]


async def test_script_arguments_are_data(place: Place) -> None:
    await place.sh('printf "%s\\0" "$0" "$@"', *NASTY)
    expected = ["opsconductor", *NASTY]
    assert place.sink.stdout.split(b"\0")[:-1] == [text.encode() for text in expected]


async def test_python_scripts_get_their_arguments(place: Place) -> None:
    script = ScriptCommand("python3", "import sys; print(sys.argv[1:])", ("a b", "'"))
    await place.run(script)
    assert place.sink.stdout == b"""['a b', "'"]\n"""


async def test_binary_output_is_exact(place: Place) -> None:
    body = "import sys,random; r=random.Random(7); sys.stdout.buffer.write(r.randbytes(3000000))"
    outcome = await place.run(ScriptCommand("python3", body))
    assert outcome.exit_code == 0
    assert place.sink.stdout == random.Random(7).randbytes(3_000_000)


async def test_output_streams_while_the_command_runs(place: Place) -> None:
    running = asyncio.create_task(place.sh("echo first; sleep 3008"))
    await asyncio.wait_for(place.sink.arrived.wait(), 20)
    assert place.sink.stdout == b"first\n"
    assert not running.done()
    place.cancel.set()
    assert (await running).state == "cancelled"


async def test_a_slow_reader_slows_the_command_down_and_loses_nothing(place: Place) -> None:
    place.sink.gate = asyncio.Event()
    size = 24_000_000
    body = f"head -c {size} /dev/zero | tr '\\0' x; echo done >&2"
    running = asyncio.create_task(place.sh(body))
    await asyncio.sleep(1)
    assert not running.done()
    place.sink.gate.set()
    outcome = await running
    assert outcome.exit_code == 0
    assert hashlib.sha256(place.sink.stdout).digest() == hashlib.sha256(b"x" * size).digest()
    assert place.sink.stderr == b"done\n"


async def test_standard_input_is_empty(place: Place) -> None:
    outcome = await place.argv("cat", seconds=10)
    assert (outcome.state, outcome.exit_code) == ("completed", 0)


async def test_environment_is_ours_and_holds_no_loader_variables(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASH_ENV", "/nowhere")
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    await place.argv("env", attempt_id="att_env")
    variables = dict(line.split("=", 1) for line in place.sink.stdout.decode().splitlines())
    assert variables["TRACEPARENT"] == "00-1-2-01"
    assert variables["OPSCONDUCTOR_ATTEMPT"] == "att_env"
    assert (variables["LC_ALL"], variables["TZ"]) == ("C", "UTC")
    assert "/usr/sbin" in variables["PATH"]
    assert "LD_PRELOAD" not in variables
    if place.name in ("local", "supervised"):
        assert not {"BASH_ENV", "SECRET_OF_THE_AGENT"} & variables.keys()


async def test_a_signal_gives_128_and_its_number(place: Place) -> None:
    assert (await place.sh("kill -KILL $$")).exit_code == 137


async def test_a_missing_program_is_told_before_anything_started(place: Place) -> None:
    for name in ("opsconductor-no-such-program", "/opt/no such/program"):
        outcome = await place.argv(name)
        assert (outcome.state, outcome.effects) == ("failed", "none")
        assert outcome.error is not None
        assert outcome.error.code == "COMMAND_NOT_FOUND"
        assert name in outcome.error.message
        assert "install" in outcome.error.message or "does not exist" in outcome.error.message


@pytest.mark.parametrize(
    ("argv", "code"),
    [(("echo", "a\0b"), "NUL_BYTE"), (("echo", "\ud800"), "NOT_UTF8"), ((), "COMMAND_EMPTY")],
)
async def test_what_no_process_can_take_is_refused(
    place: Place, argv: tuple[str, ...], code: str
) -> None:
    outcome = await place.run(ArgvCommand(argv))
    assert (outcome.state, outcome.effects) == ("failed", "none")
    assert outcome.error is not None
    assert outcome.error.code == code


async def test_another_kind_of_call_is_refused(place: Place) -> None:
    outcome = await place.run(HttpRequest("GET", "http://127.0.0.1/"))
    assert outcome.error is not None
    assert outcome.error.code == "METHOD_MISMATCH"


async def test_background_children_do_not_hold_the_step(place: Place) -> None:
    attempt = new_attempt()
    # The stand-in's server itself waits until the pipes close, which is nothing of ours.
    seconds = 1 if place.name == "standin" else 300
    outcome = await place.sh(f"sleep {seconds} & echo started", attempt_id=attempt)
    assert (outcome.state, place.sink.stdout) == ("completed", b"started\n")
    left = marked_processes(attempt)
    assert left or place.name == "standin"
    for pid in left:
        await place.argv("kill", str(pid))


async def test_output_may_be_closed_long_before_the_end(place: Place) -> None:
    outcome = await place.sh("exec >&- 2>&-; sleep 1; exit 5")
    assert (outcome.state, outcome.exit_code) == ("completed", 5)


async def test_a_timeout_ends_the_whole_tree(place: Place) -> None:
    attempt = new_attempt()
    outcome = await place.sh(TREE, seconds=1.5, attempt_id=attempt)
    assert (outcome.state, outcome.effects, outcome.survivors) == ("timed_out", "possible", ())
    assert outcome.error is not None
    assert "timed out after 1.5 s" in outcome.error.message
    assert place.sink.stdout == b"ready\n"
    assert marked_processes(attempt) == []


async def test_a_cancel_ends_the_whole_tree(place: Place) -> None:
    attempt = new_attempt()
    running = asyncio.create_task(place.sh(TREE, attempt_id=attempt))
    await until(lambda: len(marked_processes(attempt)) >= 6)
    place.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.effects, outcome.survivors) == ("cancelled", "possible", ())
    assert marked_processes(attempt) == []


async def test_a_polite_command_may_clean_up_within_the_grace(place: Place) -> None:
    body = "trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    running = asyncio.create_task(place.sh(body))
    await asyncio.wait_for(place.sink.arrived.wait(), 20)
    place.cancel.set()
    outcome = await running
    assert (outcome.state, outcome.exit_code) == ("cancelled", 3)
    assert place.sink.stdout == b"ready\ncleaned\n"


async def test_a_cancel_before_the_start_starts_nothing(place: Place) -> None:
    place.cancel.set()
    outcome = await place.argv("touch", "/nonexistent/x", read_only=False)
    assert (outcome.state, outcome.effects) == ("cancelled", "none")


async def test_a_sink_that_fails_is_told_and_the_command_still_ends(place: Place) -> None:
    class BrokenSink:
        async def write(self, stream: str, data: bytes) -> None:
            raise OSError("disk full")

    outcome = await place.sh("head -c 3000000 /dev/zero; exit 4", sink=BrokenSink())
    assert (outcome.state, outcome.exit_code) == ("completed", 4)
    assert outcome.error is not None
    assert (outcome.error.code, "disk full" in outcome.error.message) == ("OUTPUT_LOST", True)


async def test_many_commands_run_at_once(place: Place) -> None:
    async def one(number: int) -> str:
        sink = MemorySink()
        await place.sh(f"sleep 0.2; echo {number}", sink=sink)
        return sink.stdout.decode().strip()

    numbers = await asyncio.gather(*(one(number) for number in range(20)))
    assert numbers == [str(number) for number in range(20)]


async def test_a_pasted_command_line_means_the_same(place: Place) -> None:
    await place.argv("sh", "-c", shlex.join(["printf", "%s\\0", *NASTY]))
    assert place.sink.stdout.split(b"\0")[:-1] == [text.encode() for text in NASTY]
