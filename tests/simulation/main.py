"""``make simulate``: runs seeds until an amount of events, and replays or shrinks what fails."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from simulation.evidence import CHECKED
from simulation.running import run
from simulation.scenario import Scenario, Verdict
from simulation.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_EVENTS = 20_000
TRACE_SHOWN = 40


@dataclass
class Total:
    """What came together over the seeds."""

    seeds: int = 0
    events: int = 0
    plans: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Adds a run."""
        self.seeds += 1
        self.events += verdict.events
        self.plans += verdict.plans
        self.counts.update(verdict.counts)
        self.faults.update(fault.kind for fault in verdict.faults[: verdict.faults_met])

    def show(self, first: int, last: int, seconds: float) -> None:
        """Prints it."""
        minutes = seconds / 60
        ended = {k.removeprefix("ended "): v for k, v in self.counts.items() if "ended " in k}
        rest = {k: v for k, v in self.counts.items() if "ended " not in k and k != "plans"}
        say(
            f"{self.plans:,} random plans, {self.events:,} events and {self.faults.total():,} "
            f"faults under {self.seeds:,} seeds ({first} to {last}): 0 violations"
        )
        say(
            f"  in {seconds:.0f} s: {self.plans / minutes:,.0f} plans and "
            f"{self.events / minutes:,.0f} events a minute"
        )
        say(f"  checked as it happens: {', '.join(CHECKED)}")
        say(f"  faults: {_listed(self.faults)}")
        say(f"  plans ended: {_listed(ended)}")
        say(f"  attempts and what became of them: {_listed(rest)}")


def main() -> int:
    """Returns 1 when an invariant was violated."""
    arguments = _arguments()
    logging.disable(logging.CRITICAL)
    begin, total = time.monotonic(), Total()
    for verdict in _verdicts(arguments):
        total.add(verdict)
        if verdict.violation is not None:
            show(verdict, shrink_it=not arguments.no_shrink)
            return 1
        if arguments.verbose or arguments.only:
            seed = verdict.scenario.seed
            say(f"seed {seed}: {verdict.plans} plans, {verdict.events} events, {verdict.hash}")
        if arguments.only or total.events >= arguments.events:
            break
    total.show(arguments.seed, verdict.scenario.seed, time.monotonic() - begin)
    return 0


def _verdicts(arguments: argparse.Namespace) -> Iterator[Verdict]:
    """Yields what becomes of one seed after the other; several run at a time."""
    scenarios = (
        Scenario(seed, swarm=not arguments.storm, orchestrators=arguments.orchestrators)
        for seed in count(arguments.seed)
    )
    if arguments.jobs == 1 or arguments.only:
        yield from map(run, scenarios)
        return
    with ProcessPoolExecutor(arguments.jobs, initializer=logging.disable) as pool:
        ahead = deque(pool.submit(_told, next(scenarios)) for _ in range(2 * arguments.jobs))
        try:
            while True:
                verdict = ahead.popleft().result()
                ahead.append(pool.submit(_told, next(scenarios)))
                yield verdict
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _told(scenario: Scenario) -> Verdict:
    """Runs a seed in a process of its own; only what failed is worth telling in full."""
    verdict = run(scenario)
    return verdict if verdict.violation is not None else replace(verdict, trace=[], complaints=[])


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(verdict: Verdict, *, shrink_it: bool) -> None:
    """Prints a violation so that it can be understood and repeated."""
    scenario = verdict.scenario
    flags = " --storm" * (not scenario.swarm)
    flags += f" --orchestrators {scenario.orchestrators}" * bool(scenario.orchestrators)
    more = f" ARGS='{flags.strip()}'" if flags else ""
    say(f"VIOLATION {verdict.violation}")
    say(f"repeat it with: make simulate SEED={scenario.seed} EVENTS=1{more}")
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


def _listed(counted: dict[str, int]) -> str:
    items = (f"{number:,} {name.replace('_', ' ')}" for name, number in sorted(counted.items()))
    return ", ".join(items) or "none"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=SHORT_EVENTS)
    parser.add_argument("--only", action="store_true", help="this seed and no other")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds at a time")
    parser.add_argument("--storm", action="store_true", help="every kind of fault, and often")
    parser.add_argument("--orchestrators", type=int, default=0, help="0 lets the seed say")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
