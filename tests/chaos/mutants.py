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
from chaos.command import progress, say
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
    Mutant("m7", "epochs ignored", _of("restore", "chain", "graph", times=4)),
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
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    results = []
    for mutant in MUTANTS:
        if not wanted or mutant.name in wanted:
            results.append((mutant, *_hunt(mutant, options.seed, keep=options.keep)))
            say(_line(*results[-1]))
    say(f"\n{'mutant':5} {'mistake':34} {'noticed by':24} {'injections':>10}")
    for result in results:
        say(_line(*result))
    missed = [mutant.name for mutant, noticed, _ in results if not noticed]
    say(f"not noticed: {', '.join(missed)}" if missed else f"all {len(results)} were noticed")
    return 1 if missed else 0


def _hunt(mutant: Mutant, seed: int, *, keep: bool) -> tuple[str, int]:
    """Returns which invariants a mutant broke, and after how many injections; none if unseen."""
    injections = 0
    for attempt in range(mutant.tries):
        folder = FOLDER.absolute() / f"{mutant.name}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        random = Random(f"{seed}/{mutant.name}/{attempt}")
        broken, done = _run(mutant, folder, random)
        injections += done
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        if broken:
            return ", ".join(sorted(broken)), injections
    return "", injections


def _run(mutant: Mutant, folder: Path, random: Random) -> tuple[set[str], int]:
    world = World(folder, random, patches=(mutant.name,), lease=mutant.lease)
    began = time.monotonic()
    try:
        world.up()
        carry_out(world, mutant.rounds, random, lambda text: progress(mutant.name, text), 15.0)
        evidence = collect(world)
    except BaseException:
        world.end_hard()
        raise
    violations = check(evidence)
    for violation in violations[:5]:
        progress(mutant.name, str(violation))
    progress(mutant.name, f"{time.monotonic() - began:.0f} s")
    return {each.invariant for each in violations}, len(mutant.rounds)


def _line(mutant: Mutant, noticed: str, injections: int) -> str:
    return f"{mutant.name:5} {mutant.mistake:34} {noticed or 'NOT NOTICED':24} {injections:10}"


if __name__ == "__main__":
    sys.exit(main())
