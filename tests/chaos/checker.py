"""The checker: reads what a run left behind and names every invariant that does not hold.

``python tests/chaos/main.py check FOLDER`` runs it alone over a folder that was kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.checks import approvals, endings, history, journals, output, starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.checks.violation import Violation
    from chaos.evidence import Evidence

    Check = Callable[[Evidence], Iterator[Violation]]

CHECKS: tuple[Check, ...] = (
    endings.nothing_lost,
    starts.at_most_once,
    starts.no_overlap,
    starts.granted,
    starts.no_false_success,
    starts.no_false_clean,
    journals.honest_unknown,
    output.exact,
    journals.fenced,
    journals.fresh,
    history.legal,
    approvals.authorised,
    starts.in_order,
    journals.regression_seen,
    endings.cancelled_is_quiet,
    history.chained,
    endings.bounded,
    history.rolled_back_in_order,
    endings.alive_again,
    journals.acknowledged_is_durable,
    journals.submitted_is_durable,
)


def check(evidence: Evidence) -> list[Violation]:
    """Returns everything that is wrong."""
    return [violation for each in CHECKS for violation in each(evidence)]
