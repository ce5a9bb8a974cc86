"""The table of medians and ratios."""

from __future__ import annotations

from typing import Any

COLUMNS = ("j1_p50_ms", "j1_p99_ms", "j2_per_s", "j3_ms_per_step", "j4_cold_s", "j4_warm_s")
TITLES = ("J1 p50 ms", "J1 p99 ms", "J2 plans/s", "J3 ms/step", "J4 cold s", "J4 warm s")
_NAME = 46


def table(results: dict[str, Any]) -> str:
    """Returns everything measured, as people read it; absent values are dashes."""
    lines = ["", "floors (medians of this run)"]
    lines += [f"  {name:<{_NAME}} {value:10.3f}" for name, value in results["floors"].items()]
    lines += ["", _row("", TITLES)]
    lines += [_values(row) for row in results["rows"]]
    lines += ["", "ratios (times and seconds: smaller is better; plans/s: larger is better)"]
    lines += [_values(row) for row in results["ratios"]]
    lines += [f"{row['name']}: {row['error']}" for row in results["rows"] if "error" in row]
    lines += [f"note: {note}" for note in results["notes"]]
    return "\n".join(lines)


def floor_rows(floors: dict[str, float]) -> list[dict[str, Any]]:
    """Returns what each job costs at least: the sum of its parts.

    A read is two round trips, two commits and one process; a change has one more record, on the
    agent's disk, before it starts.
    """
    trip, commit = floors["gRPC round trip ms"], floors["SQLite durable commit ms"]
    spawn, append = floors["process ms"], floors["synced append ms"]
    step = trip + commit + spawn
    read: dict[str, Any] = {
        "name": "floor of a read",
        "j1_p50_ms": step + trip + commit,
        "j2_per_s": 1000 / spawn,
        "j3_ms_per_step": step,
    }
    if "asyncssh 1st run s" in floors:
        read["j4_cold_s"] = floors["asyncssh 1st run s"]
        read["j4_warm_s"] = floors["asyncssh next run s"]
    change = {
        "name": "floor of a change",
        "j1_p50_ms": step + trip + commit + append,
        "j2_per_s": 1000 / spawn,
        "j3_ms_per_step": step + append,
    }
    return [read, change]


def ratio(name: str, ours: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Returns our values divided by another's, where both have one."""
    pairs = {key: (ours.get(key), other.get(key)) for key in COLUMNS}
    return {"name": name} | {key: a / b for key, (a, b) in pairs.items() if a and b}


def _values(row: dict[str, Any]) -> str:
    return _row(row["name"], [f"{row[key]:.2f}" if key in row else "-" for key in COLUMNS])


def _row(name: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"  {name:<{_NAME}}" + "".join(f"{cell:>12}" for cell in cells)
