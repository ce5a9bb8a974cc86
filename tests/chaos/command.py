"""``make chaos``: draws schedules from a seed, carries them out, checks, and prints the table."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from chaos import diagnosis
from chaos.checker import check
from chaos.evidence import Evidence
from chaos.report import Tally
from chaos.run import carry_out, collect
from chaos.scenarios import PLAIN, REPLICAS, SCENARIOS, Absence, Scenario, absence, world_of
from chaos.schedule import ACTIONS, Round, cells, random_rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaos.checks.violation import Violation
    from chaos.world import World

FOLDER = Path(".cache/chaos")
COUNT = 100
"""Random injections of the short form, which every change has to pass."""
WORLD_ROUNDS = 25
"""Random injections into one world before a new one is made."""


@dataclass(frozen=True)
class Part:
    """One schedule in one world."""

    name: str
    scenario: Scenario
    rounds: list[Round]


def main() -> int:
    """Returns 1 when anything was violated; what shows it is kept then."""
    options = _parser().parse_args()
    if options.what == "check":
        return _check(Path(options.folder))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    say(f"SEED={seed}")
    tally = Tally()
    kept = []
    parts, absent = schedules(Random(seed), options)
    runner = Runner(seed)
    with interruptible(options.jobs, runner.end_hard) as pool:
        for outcome in pool.map(runner.run, parts):
            tally.add(outcome.evidence, outcome.violations)
            if outcome.violations or options.keep:
                kept.append(outcome.evidence.folder)
            else:
                shutil.rmtree(outcome.evidence.folder)
    say(tally.table())
    for found in tally.violations.values():
        for violation in found[:20]:
            say(f"  {violation}")
    for folder in kept:
        if (told := folder / diagnosis.FILE).exists():
            say(told.read_text(errors="replace"))
        say(f"kept: {folder} (again: {sys.executable} {sys.argv[0]} check {folder})")
    return _verdict(tally, parts, absent)


@contextlib.contextmanager
def interruptible(jobs: int, end: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """Yields a pool; where it is interrupted or fails, everything its work started is ended."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Also where a shell started this in the background, with SIGINT ignored.
        signal.signal(number, signal.default_int_handler)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            end()
            if isinstance(error, KeyboardInterrupt):
                say("interrupted: everything that was started has been ended")
                raise SystemExit(130) from None
            raise


def _verdict(tally: Tally, parts: Sequence[Part], absent: Sequence[Absence]) -> int:
    """Says what else is wrong than violations; returns 1 when anything is."""
    wanted = {item.fault for part in parts for item in part.rounds if item.cell}
    unreached = sorted(wanted - set(+tally.injections))
    for name in unreached:
        say(f"never reached: {name}")
    if wanted and not unreached:
        say(f"all {len(wanted)} named points were reached")
    # What a package would bring may be missing on a desk, and not where every change is judged.
    lacking = [each for each in absent if each.installable and os.environ.get("CI") == "true"]
    for each in lacking:
        say(f"missing in CI: {each.why}")
    return 1 if tally.violations or unreached or lacking else 0


@dataclass(frozen=True)
class Outcome:
    """What is known after a part."""

    evidence: Evidence
    violations: list[Violation]


class Runner:
    """Runs parts, each in a world of its own, several at a time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._worlds: list[World] = []

    def run(self, part: Part) -> Outcome:
        """Runs a part to its end and checks it."""
        folder = FOLDER.absolute() / f"{self._seed}-{part.name}"
        shutil.rmtree(folder, ignore_errors=True)
        random = Random(f"{self._seed}/{part.name}")
        began = time.monotonic()
        with world_of(part.scenario, folder, random) as world:
            self._worlds.append(world)
            try:
                world.up()
                carry_out(world, part.rounds, random, lambda text: progress(part.name, text))
                evidence = collect(world)
            except BaseException:
                world.end_hard()
                say(f"the evidence so far is in {folder}")
                raise
            finally:
                self._worlds.remove(world)
        violations = check(evidence)
        say(f"{part.name}: {len(part.rounds)} rounds in {time.monotonic() - began:.0f} s")
        return Outcome(evidence, violations)

    def end_hard(self) -> None:
        """Ends every process of every world."""
        for world in list(self._worlds):
            world.end_hard()


def schedules(random: Random, options: argparse.Namespace) -> tuple[list[Part], list[Absence]]:
    """Returns what to run, and what cannot be run here."""
    if options.only:
        names = tuple(options.only.split(","))
        scenario = SCENARIOS[options.scenario]
        return [Part("only", scenario, random_rounds(random, options.count, names))], []
    if options.rolling:
        rounds = [Round("rolling_restart", ("small",) * options.rolling)]
        return [Part("rolling", SCENARIOS["rolling"], rounds)], []
    found: list[Part] = []
    absent: list[Absence] = []
    actions = tuple(filter(None, options.failpoints.split(",")))
    for where, scenario in (("agent", PLAIN), ("orchestrator", PLAIN), ("replica", REPLICAS)):
        if actions and not absence(scenario):
            found += _parts(f"failpoints-{where}", scenario, cells(random, where, actions))
    plain = options.count
    for scenario in SCENARIOS.values() if options.count else ():
        if not scenario.faults:
            continue
        if missing := absence(scenario):
            say(f"left out: {scenario.name}: {missing.why}")
            absent.append(missing)
            continue
        rounds = scenario.rounds(random, options.count)
        plain -= len(rounds)
        found += _parts(scenario.name, scenario, rounds)
    if plain > 0:
        found += _parts("random", PLAIN, random_rounds(random, plain))
    # What takes longest begins first: a round takes longer where more has to come back.
    return sorted(found, key=lambda part: -len(part.rounds) * part.scenario.replicas), absent


def _parts(name: str, scenario: Scenario, rounds: list[Round]) -> list[Part]:
    """Returns a schedule in worlds that do not grow too old."""
    pieces = [rounds[at : at + WORLD_ROUNDS] for at in range(0, len(rounds), WORLD_ROUNDS)]
    return [Part(f"{name}-{number}", scenario, piece) for number, piece in enumerate(pieces)]


def _check(folder: Path) -> int:
    evidence = Evidence.load(folder)
    violations = check(evidence)
    tally = Tally()
    tally.add(evidence, violations)
    say(tally.table())
    for violation in violations:
        say(f"  {violation}")
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "check"), default="run")
    parser.add_argument("folder", nargs="?", help="of a run that was kept, for check")
    parser.add_argument("--seed", type=int, help="makes the schedule; default: a new one")
    parser.add_argument("--count", type=int, default=COUNT, help="random injections")
    parser.add_argument(
        "--failpoints",
        default="kill9",
        metavar="ACTIONS",
        help=f"every failpoint once with each of these: {','.join(ACTIONS)}; empty: none",
    )
    parser.add_argument("--only", default="", metavar="FAULTS", help="draw only from these")
    parser.add_argument(
        "--rolling", type=int, metavar="PLANS", help="only these, through a restart of replicas"
    )
    parser.add_argument("--scenario", choices=SCENARIOS, default="plain", help="world of --only")
    parser.add_argument("--jobs", type=int, default=2, help="worlds at a time")
    parser.add_argument("--keep", action="store_true", help="keep the evidence in any case")
    return parser


def say(text: str) -> None:
    """Prints a line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(name: str, text: str) -> None:
    """Tells how far it is, on a terminal or when asked for."""
    if sys.stdout.isatty() or os.environ.get("CHAOS_PROGRESS"):
        say(f"{name}: {text}")
