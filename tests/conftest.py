"""Makes a skipped test a failure in CI: what CI skips is not tested."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from _pytest.terminal import TerminalReporter

IN_CI = os.environ.get("CI") == "true"
WHAT_TO_DO = (
    "skipped in CI. Install what it needs (deploy/setup/system_packages.py), or mark it with "
    "@pytest.mark.cannot_run_in_ci(reason)"
)


def _fail_instead(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns the report of a skip into one of a failure that repeats the reason."""
    reason = _reason(report)
    report.outcome = "failed"
    report.longrepr = f"{WHAT_TO_DO}\n{reason}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Returns what a skipped test says it misses."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(text).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    allowed = item.get_closest_marker("cannot_run_in_ci") is not None
    if IN_CI and report.skipped and not expected_failure and not allowed:
        _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        _fail_instead(report)
    return report


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Says once for each reason how many tests were skipped: pytest says it for each line."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}", yellow=True)
