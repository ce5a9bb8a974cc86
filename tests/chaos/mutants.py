"""``make mutants``: each planted mistake has to be noticed; says by which invariant and when."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.cells import Cell
from chaos.checker import check
from chaos.command import interruptible, progress, say
from chaos.report import round_of
from chaos.run import carry_out, collect
from chaos.schedule import Round
from chaos.world import LEASE, PATIENT, World

FOLDER = Path(".cache/chaos/mutants")


@dataclass(frozen=True)
class Mutant:
    """A mistake, and the rounds that are tried until it shows."""

    name: str
    mistake: str
    rounds: tuple[Round, ...]
    tries: int = 3
    lease: float = LEASE


def _of(fault: str, *kinds: str, times: int = 3) -> tuple[Round, ...]:
    return tuple(Round(fault, kinds) for _ in range(times))


def _cell(point: str, *kinds: str, times: int = 2) -> tuple[Round, ...]:
    cell = Cell(point, "kill9")
    return tuple(Round(cell.name, kinds, cell) for _ in range(times))


MUTANTS = (
    Mutant("m1", "start before the record", _of("kill_agent", "talk", "talk", "chain")),
    Mutant("m2", "no fsync of EXECUTING", _of("power_loss", "talk", "talk", "chain", times=4)),
    Mutant(
        "m3",
        "file synced, folder not",
        (
            *_of("network_reset", "graph", "chain", "graph", "chain", "graph", times=2),
            *_of("power_loss", "talk", "talk", "chain", times=4),
        ),
    ),
    Mutant("m4", "no lock, copies not looked for", _of("second_agent", "talk", "talk", "chain")),
    Mutant("m5", "known attempts only in memory", _of("kill_agent", "talk", "talk", "chain")),
    Mutant("m6", "acknowledged before the commit", _cell("event.recv_before_commit", "chain")),
    Mutant("m7", "epochs ignored", _of("restore", "chain", "graph", times=2)),
    Mutant(
        "m8", "given to another at lease lapse", _of("freeze_agent_long", "talk", "cancel", "chain")
    ),
    Mutant("m9", "a timeout counts as clean", _of("network_reset", "timeout", times=1)),
    Mutant("m10", "output appended unchecked", _cell("output.after_write_before_ack", "talk")),
    Mutant("m11", "random attempt ids", _of("network_reset", "chain", times=1)),
    Mutant("m12", "approval bound to no execution", _of("replayed_approval", times=1)),
    Mutant("m13", "wall clock for freshness", _of("late_start", times=2), lease=PATIENT),
    Mutant("m14", "only the process group is killed", _of("network_reset", "cancel", times=2)),
)


def main() -> int:
    """Returns 1 when a mutant was not noticed."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="such as m1,m7")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    hunt = Hunt(options.seed, keep=options.keep)
    say(f"SEED={options.seed}")
    began = time.monotonic()
    with interruptible(options.jobs, hunt.end_hard) as pool:
        results = []
        for found in pool.map(hunt.hunt, chosen):
            results.append(found)
            say(_line(found))
    say(f"\n{_HEAD}")
    for result in results:
        say(_line(result))
    missed = [result.mutant.name for result in results if not result.noticed]
    took = f"in {time.monotonic() - began:.0f} s"
    words = f"not noticed: {', '.join(missed)}" if missed else f"all {len(results)} were noticed"
    say(f"{words}, {took}")
    return 1 if missed else 0


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    mutant: Mutant
    noticed: frozenset[str]
    """Invariants it broke."""
    injections: int
    """Up to the one that showed it."""


class Hunt:
    """Tries one schedule after the other until a mutant shows."""

    def __init__(self, seed: int, *, keep: bool) -> None:
        self._seed = seed
        self._keep = keep
        self._worlds: set[World] = set()

    def hunt(self, mutant: Mutant) -> Result:
        """Returns which invariants a mutant broke, and after how many injections."""
        before = 0
        for attempt in range(mutant.tries):
            folder = FOLDER.absolute() / f"{mutant.name}-{attempt}"
            shutil.rmtree(folder, ignore_errors=True)
            random = Random(f"{self._seed}/{mutant.name}/{attempt}")
            try:
                result = self._run(mutant, folder, random)
            except AssertionError as error:
                say(f"{mutant.name} could not be tried: {error}; the evidence is in {folder}")
                break
            if not self._keep:
                shutil.rmtree(folder, ignore_errors=True)
            if result.noticed:
                return Result(mutant, result.noticed, before + result.injections)
            before += result.injections
        return Result(mutant, frozenset(), before)

    def _run(self, mutant: Mutant, folder: Path, random: Random) -> Result:
        world = World(folder, random, patches=(mutant.name,), lease=mutant.lease)
        self._worlds.add(world)
        try:
            world.up()
            carry_out(world, mutant.rounds, random, lambda text: progress(mutant.name, text), 15.0)
            evidence = collect(world)
        except BaseException:
            world.end_hard()
            raise
        finally:
            self._worlds.discard(world)
        violations = check(evidence)
        for violation in violations[:5]:
            progress(mutant.name, str(violation))
        rounds = len(evidence.happened("injected"))
        first = min((round_of(each, evidence) or rounds for each in violations), default=rounds)
        return Result(mutant, frozenset(each.invariant for each in violations), first)

    def end_hard(self) -> None:
        """Ends every process of every world."""
        for world in list(self._worlds):
            world.end_hard()


_HEAD = f"{'mutant':6} {'mistake':34} {'noticed by':24} {'injections':>10}"


def _line(result: Result) -> str:
    noticed = ", ".join(sorted(result.noticed)) or "NOT NOTICED"
    mutant = result.mutant
    return f"{mutant.name:6} {mutant.mistake:34} {noticed:24} {result.injections:10}"


if __name__ == "__main__":
    sys.exit(main())
