"""Measures OpsConductor beside its floors and other engines, in one run on one machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from bench import floors, peers, product, report, stack
from bench.measure import median
from bench.size import FULL, SHORT, Size
from bench.ssh_targets import SshTargets, available, ssh_targets
from opsconductor.client.client import Client

RESULTS = Path(".cache/bench-results.json")


def main() -> int:
    """Runs everything; it asserts nothing, so it fails only when something cannot be run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="seconds, no peers: only that it runs")
    parser.add_argument("--no-peers", action="store_true", help="leave the other engines out")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args()
    size = SHORT if options.short else FULL
    with tempfile.TemporaryDirectory(prefix="opsconductor-bench-") as name:
        results = _measure(size, Path(name), with_peers=not (options.short or options.no_peers))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _say(report.table(results))
    _say(f"written: {options.output}")
    return 0


def _measure(size: Size, folder: Path, *, with_peers: bool) -> dict[str, Any]:
    notes = [available()] if available() else []
    with contextlib.ExitStack() as running:
        targets = None
        if not notes:
            targets = running.enter_context(ssh_targets(folder / "ssh", size.hosts))
        _say("measuring the floors …")
        measured = asyncio.run(_floors(size, folder, targets))
        _say("measuring OpsConductor …")
        ours = asyncio.run(_product(size, folder / "stack", targets))
    others = []
    if with_peers:
        _say("measuring other engines (the first time they are installed) …")
        others = peers.measure(size, folder)
    least = report.floor_rows(measured)
    ratios = [report.ratio("read / floor", ours[0], least[0])]
    ratios.append(report.ratio("change / floor", ours[1], least[1]))
    ratios += [
        report.ratio(f"read / {other['name']}", ours[0], other)
        for other in others
        if "error" not in other
    ]
    rows = [*ours, *others, *least]
    return {"floors": measured, "rows": rows, "ratios": ratios, "notes": notes}


async def _floors(size: Size, folder: Path, targets: SshTargets | None) -> dict[str, float]:
    measured = {
        "gRPC round trip ms": await floors.grpc_round_trip(size.floor) * 1000,
        "SQLite durable commit ms": floors.sqlite_commit(folder, size.floor) * 1000,
        "synced append ms": floors.synced_append(folder, size.floor) * 1000,
        "process ms": floors.process(size.floor) * 1000,
    }
    if targets:
        runs = [await floors.bare_asyncssh(targets) for _ in range(size.hosts_repeats)]
        measured["asyncssh 1st run s"] = median([cold for cold, _ in runs])
        measured["asyncssh next run s"] = median([warm for _, warm in runs])
    return measured


async def _product(size: Size, folder: Path, targets: SshTargets | None) -> list[dict[str, Any]]:
    with stack.running(folder, targets) as context:
        async with Client(context) as client:
            jobs = product.Jobs(client, context.signer(), size)
            read = {"name": "OpsConductor, a read", **await jobs.all(product.READ)}
            change = {"name": "OpsConductor, an approved change", **await jobs.all(product.CHANGE)}
            if targets:
                read |= await jobs.hosts(targets)
    return [read, change]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for a terminal
