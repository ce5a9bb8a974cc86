"""Rules taken out of the product, one at a time: the simulation has to notice each.

``python -m simulation.mutants`` prints the table mutant, invariant that caught it, injections
needed.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation import broken_keeping as keeping
from simulation import broken_rules as rules
from simulation.running import run
from simulation.scenario import Scenario, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

SEEDS = 40
"""A mutant that so many seeds do not catch has escaped."""


@dataclass(frozen=True)
class Mutant:
    """One rule that does not hold any more."""

    name: str
    apply: Callable[[], AbstractContextManager[None]]
    kinds: tuple[str, ...] = ()
    """Faults under which the rule matters."""
    orchestrators: int = 1
    seed: int = 1

    def scenario(self, offset: int) -> Scenario:
        """Returns one of the runs in which it is looked for."""
        return Scenario(
            self.seed + offset,
            span=40.0,
            kinds=self.kinds,
            swarm=False,
            orchestrators=self.orchestrators,
        )


@dataclass
class Caught:
    """How a mutant was caught."""

    mutant: Mutant
    verdict: Verdict | None
    seeds: int
    events: int
    injections: int


MUTANTS = (
    Mutant("release before record", rules.release_before_record, ("kill_agent",)),
    Mutant("record not synced", rules.record_not_synced, ("power_agent",)),
    Mutant("dedup by in-memory set only", rules.known_in_memory_only, ("kill_agent", "reset")),
    Mutant("ack before commit", rules.acknowledged_before_commit),
    Mutant("ignore epoch", rules.epoch_ignored, ("replay", "partition", "reset"), seed=17),
    Mutant(
        "reassign change on lease lapse",
        rules.change_given_up_with_the_session,
        ("partition", "freeze_agent"),
        seed=14,
    ),
    Mutant("random attempt id", rules.random_attempt_ids, ("restore", "answers_lost")),
    Mutant("timeout treated as clean", rules.timeout_is_clean),
    Mutant(
        "wall clock for start_ttl",
        rules.wall_clock_for_start_ttl,
        ("clock_jump", "freeze_agent"),
        seed=8,
    ),
    Mutant("clock steps not counted", rules.clock_steps_not_counted, ("clock_jump",)),
    Mutant("no start_ttl", rules.start_ttl_ignored, ("freeze_agent",)),
    Mutant("skip needs check", rules.needs_ignored),
    Mutant("undo order forward", rules.undo_in_order),
    Mutant("retry non-idempotent", rules.everything_retried),
    Mutant("unknown retried as failed", rules.unknown_is_retried, ("kill_agent",)),
    Mutant("no fence on take-over", rules.grants_not_fenced, ("freeze_orchestrator",), 2, seed=184),
    Mutant("locks not shared", rules.locks_not_shared, orchestrators=3),
    Mutant("cancelled at once", rules.cancelled_at_once, seed=10),
    Mutant("restore unnoticed", rules.restore_unnoticed, ("restore",), seed=9),
    Mutant("output not masked", keeping.output_not_masked),
    Mutant("tenants mixed", keeping.tenants_mixed),
    Mutant("replays obeyed", keeping.replays_obeyed),
    Mutant("overlap appended", keeping.overlap_appended, ("reset",), seed=16),
    Mutant("history rewritten", keeping.history_rewritten),
    Mutant("signature for something else", keeping.signature_for_something_else),
    Mutant("lost journal unnoticed", keeping.lost_journal_unnoticed, ("journal_lost",)),
    Mutant("retired called failed", keeping.given_up_as_failed, ("destroy_agent",)),
    Mutant("given up and forgotten", keeping.given_up_and_forgotten, ("restore", "journal_lost")),
)


def hunt(mutant: Mutant, seeds: int = SEEDS) -> Caught:
    """Runs seeds with a mutant until an invariant catches it."""
    caught = Caught(mutant, None, 0, 0, 0)
    for offset in range(seeds):
        with mutant.apply():
            verdict = run(mutant.scenario(offset))
        caught.seeds += 1
        caught.events += verdict.events
        caught.injections += verdict.faults_met
        if verdict.violation is not None and verdict.violation.invariant != "DEFECT":
            caught.verdict = verdict
            break
    return caught


def main() -> int:
    """Prints the table; returns 1 when a mutant escaped."""
    logging.disable(logging.CRITICAL)
    chosen = sys.argv[1:]
    escaped = 0
    sys.stdout.write(
        "| mutant | caught by | injections | events | seeds |\n|---|---|---|---|---|" + "\n"
    )
    for mutant in MUTANTS:
        if chosen and not any(word in mutant.name for word in chosen):
            continue
        caught = hunt(mutant)
        violation = caught.verdict.violation if caught.verdict else None
        escaped += violation is None
        by = violation.invariant if violation else "nothing"
        row = (mutant.name, by, caught.injections, caught.events, caught.seeds)
        sys.stdout.write("| " + " | ".join(map(str, row)) + " |" + "\n")
    return min(escaped, 1)


if __name__ == "__main__":
    sys.exit(main())
