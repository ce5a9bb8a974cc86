"""``make simulate``: runs seeds until an amount of events, and replays or shrinks what fails."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from simulation.faults import ALL_KINDS, EVERYDAY
from simulation.running import run
from simulation.scenario import Scenario, Verdict
from simulation.shrink import shrink

SHORT_EVENTS = 10_000
TRACE_SHOWN = 40


def main() -> int:
    """Returns 1 when an invariant was violated."""
    arguments = _arguments()
    logging.disable(logging.CRITICAL)
    begin, events, plans = time.monotonic(), 0, 0
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    seed = arguments.seed
    seeds = 0
    while True:
        verdict = run(Scenario(seed, kinds=ALL_KINDS if arguments.all else EVERYDAY))
        seeds += 1
        events += verdict.events
        plans += verdict.plans
        totals.update(verdict.counts)
        faults.update(fault.kind for fault in verdict.faults)
        if verdict.violation is not None:
            show(verdict, shrink_it=not arguments.no_shrink)
            return 1
        if arguments.only or events >= arguments.events:
            break
        seed += 1
        if arguments.verbose:
            say(f"seed {verdict.scenario.seed}: {verdict.events} events, {verdict.hash[:16]}")
    seconds = time.monotonic() - begin
    say(
        f"{events} events of {plans} plans under {seeds} seeds ({arguments.seed} to {seed}) in "
        f"{seconds:.0f} s ({plans / seconds * 60:.0f} plans a minute): 0 violations"
    )
    if arguments.only:
        say(f"hash {verdict.hash}")
    say("what happened: " + ", ".join(f"{v} {k}" for k, v in sorted(totals.items())))
    say("faults: " + (", ".join(f"{v} {k}" for k, v in sorted(faults.items())) or "none"))
    return 0


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(text + "\n")


def show(verdict: Verdict, *, shrink_it: bool) -> None:
    """Prints a violation so that it can be understood and repeated."""
    seed = verdict.scenario.seed
    say(f"VIOLATION {verdict.violation}")
    say(f"repeat it with: make simulate SEED={seed} EVENTS=1")
    if shrink_it:
        smaller = shrink(verdict)
        left = len(smaller.faults)
        say(f"{len(verdict.faults)} faults struck; with these {left} it still fails:")
        verdict = smaller
    for fault in verdict.faults:
        say(f"  {fault}")
    say("the last of what happened:")
    for at, line in verdict.trace[-TRACE_SHOWN:]:
        say(f"  {at:10.4f} {line}")
    for line in verdict.complaints[:5]:
        say(f"  besides: {line[:300]}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=SHORT_EVENTS)
    parser.add_argument("--only", action="store_true", help="this seed and no other")
    parser.add_argument("--all", action="store_true", help="with lost journals and restores, too")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
