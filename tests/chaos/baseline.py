"""``make chaos BASELINE=1``: the same ledger and the same kills against other engines.

Each trial runs one step that must not run twice and kills the process that works on it, at a moment
drawn from the seed, counted from the step's first line in the ledger. Then it is started again and
waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bench import peers
from chaos.command import say
from chaos.service import wait_until
from chaos.tools import PROGRAM, call
from chaos.world import World
from opsconductor.client.words import execution_word
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(".cache/chaos/baseline")
TAKES_MS = 300
KILLED_WITHIN = 0.45
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """What one engine made of the kills."""

    name: str
    trials: int
    twice: int
    """Steps that ran more than once."""
    asked: int = 0
    """Steps about which a person was asked."""


def main() -> int:
    """Prints the table; fails only when something cannot be run, or ours runs a step twice."""
    parser = argparse.ArgumentParser(prog="make chaos BASELINE=1", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    say(f"SEED={options.seed}")
    results = []
    for engine in (_ours, _dbos, _celery):
        folder = FOLDER.absolute() / engine.__name__.strip("_")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        moments = Random(options.seed)
        kills = [moments.uniform(0, KILLED_WITHIN) for _ in range(options.trials)]
        results.append(engine(folder, kills))
        say(_line(results[-1]))
    say(f"\n{'engine':34} {'kills':>6} {'ran twice':>10} {'asked a person':>15}")
    for result in results:
        say(_line(result))
    return 1 if results[0].twice else 0


def _line(result: Result) -> str:
    return f"{result.name:34} {result.trials:6} {result.twice:10} {result.asked:15}"


def _ours(folder: Path, kills: list[float]) -> Result:
    world = World(folder, Random(0))
    asked = 0
    try:
        world.up(("local",))
        for number, after in enumerate(kills):
            asked += _our_trial(world, f"k{number}", after)
    finally:
        world.end_hard()
    return Result("OpsConductor (SQLite)", len(kills), _twice(world.ledger), asked)


def _our_trial(world: World, key: str, after: float) -> bool:
    """Kills the agent; tells whether a person has to look."""
    step = {"id": "act", **call("chaos_change", key, milliseconds=TAKES_MS), "undo": "none"}
    plan = {"name": key, "context": {"environment": "staging"}, "steps": [step]}
    with world.client() as client:
        run = client.submit(plan).execution
        for approval_id in run.pending_approval_ids:
            client.approve(approval_id, world.context.signer())
        _wait_for_start(world.ledger, key)
        time.sleep(after)
        world.places["local"].service.kill9()
        world.heal()
        state = ""

        def rests() -> bool:
            nonlocal state
            try:
                state = execution_word(client.get(run.execution_id).state)
            except OpsConductorError:
                return False
            return state in ("completed", "failed", "attention_required")

        assert wait_until(rests, 60), f"{key} is {state}"
    return state == "attention_required"


def _dbos(folder: Path, kills: list[float]) -> Result:
    python = str(peers._environment())
    for number, after in enumerate(kills):
        key = f"k{number}"
        command = [python, str(HERE / "peer_dbos.py"), str(folder), key, *_step(folder, key)]
        first = subprocess.Popen(command)
        _wait_for_start(folder / "ledger", key)
        time.sleep(after)
        first.send_signal(signal.SIGKILL)
        first.wait()
        subprocess.run(command, check=True, timeout=120)
    return Result("DBOS (SQLite)", len(kills), _twice(folder / "ledger"))


def _celery(folder: Path, kills: list[float]) -> Result:
    name = "Celery (Redis, acks_late)"
    with peers._redis(folder) as url:
        if not url:
            return Result(f"{name}: no redis-server", 0, 0)
        program = [str(peers._environment()), str(HERE / "peer_celery.py"), url]
        for number, after in enumerate(kills):
            _celery_trial(folder, program, f"k{number}", after)
    return Result(name, len(kills), _twice(folder / "ledger"))


def _celery_trial(folder: Path, program: list[str], key: str, after: float) -> None:
    with _worker(folder, program) as kill:
        sender = subprocess.Popen([*program, "send", *_step(folder, key)])
        _wait_for_start(folder / "ledger", key)
        time.sleep(after)
        kill()
    with _worker(folder, program):
        sender.wait(120)


@contextlib.contextmanager
def _worker(folder: Path, program: list[str]) -> Iterator[Callable[[], None]]:
    with (folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen([*program, "worker"], stdout=log, stderr=log)
    try:
        yield worker.kill
    finally:
        worker.kill()
        worker.wait()


def _step(folder: Path, key: str) -> list[str]:
    inputs = ["change", "--", key, "0", str(TAKES_MS), "0", "0", "0"]
    return [sys.executable, "-I", "-S", str(PROGRAM), str(folder / "ledger"), *inputs]


def _wait_for_start(ledger: Path, key: str) -> None:
    assert wait_until(lambda: key in _starts(ledger), 60), f"{key} never started"


def _starts(ledger: Path) -> Counter[str]:
    if not ledger.exists():
        return Counter()
    entries = map(json.loads, ledger.read_text().splitlines())
    return Counter(entry["key"] for entry in entries if entry["t"] == "start")


def _twice(ledger: Path) -> int:
    return sum(count > 1 for count in _starts(ledger).values())
