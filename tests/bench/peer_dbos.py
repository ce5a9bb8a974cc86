"""DBOS with SQLite on the jobs J1 to J3; runs in the peers' environment and prints JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS

SIZE = json.loads(sys.argv[1])
FOLDER = sys.argv[2]
CONCURRENCY = 10


@DBOS.step()  # type: ignore[untyped-decorator]
def run() -> int:
    """Runs the command of the jobs."""
    return subprocess.run(["true"], check=True).returncode


@DBOS.workflow()  # type: ignore[untyped-decorator]
def workflow(steps: int) -> int:
    """Runs some steps in order, each recorded."""
    return sum(run() for _ in range(steps))


def measure() -> dict[str, Any]:
    """Returns the results of J1 to J3."""
    for _ in range(5):
        workflow(1)
    single = []
    for _ in range(SIZE["single"]):
        start = time.perf_counter()
        workflow(1)
        single.append(time.perf_counter() - start)
    start = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(workflow, [1] * SIZE["burst"]))
    burst = SIZE["burst"] / (time.perf_counter() - start)
    steps = []
    for _ in range(3):
        start = time.perf_counter()
        workflow(SIZE["steps"])
        steps.append((time.perf_counter() - start) / SIZE["steps"])
    return {
        "name": "DBOS (SQLite)",
        "j1_p50_ms": statistics.median(single) * 1000,
        "j1_p99_ms": sorted(single)[int(0.99 * len(single))] * 1000,
        "j2_per_s": burst,
        "j3_ms_per_step": statistics.median(steps) * 1000,
    }


def main() -> None:
    """Starts DBOS, measures, ends it."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{FOLDER}/dbos.sqlite",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        print(json.dumps(measure()))  # noqa: T201 - this is the answer
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
