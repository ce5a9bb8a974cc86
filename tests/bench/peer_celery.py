"""Celery on the jobs J1 to J3; runs in the peers' environment and prints one JSON document.

With a Redis server it is Celery as most people run it. Without one, queue and results are held in
the memory of a single process, which flatters it and is said. Neither survives a power loss.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = json.loads(sys.argv[1])
FOLDER = Path(sys.argv[2])
REDIS = sys.argv[3] if len(sys.argv) > 3 else ""
CONCURRENCY = 10


def make_app() -> Any:
    """Returns the application, which the worker makes once more for itself."""
    if REDIS:
        return Celery("bench", broker=REDIS, backend=REDIS)
    memory = Celery("bench", broker="memory://", backend="cache+memory://")
    memory.conf.broker_transport_options = {"polling_interval": 0.001}  # a second by default
    return memory


app = make_app()


@app.task(name="bench.run")  # type: ignore[untyped-decorator]
def run(*_: Any) -> int:
    """Runs the command of the jobs."""
    return subprocess.run(["true"], check=True).returncode


def finish(_: int = 0) -> None:
    """One task, to its result."""
    run.delay().get(timeout=60, interval=0.001)


def sequence() -> float:
    """One chain of tasks; returns seconds a step."""
    from celery import chain

    start = time.perf_counter()
    chain(*(run.s() for _ in range(SIZE["steps"])))().get(timeout=120, interval=0.001)
    steps: int = SIZE["steps"]
    return (time.perf_counter() - start) / steps


def measure() -> dict[str, Any]:
    """Returns the results of J1 to J3."""
    for _ in range(5):
        finish()
    single = []
    for _ in range(SIZE["single"]):
        start = time.perf_counter()
        finish()
        single.append(time.perf_counter() - start)
    start = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(finish, range(SIZE["burst"])))
    burst = SIZE["burst"] / (time.perf_counter() - start)
    return {
        "name": f"Celery ({'Redis' if REDIS else 'in memory: no redis-server'})",
        "j1_p50_ms": statistics.median(single) * 1000,
        "j1_p99_ms": sorted(single)[int(0.99 * len(single))] * 1000,
        "j2_per_s": burst,
        "j3_ms_per_step": statistics.median([sequence() for _ in range(3)]) * 1000,
    }


def main() -> None:
    """Starts a worker, measures, and ends it."""
    with _worker() if REDIS else _worker_thread():
        print(json.dumps(measure()))  # noqa: T201 - this is the answer


@contextlib.contextmanager
def _worker() -> Iterator[None]:
    with (FOLDER / "celery.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "worker"], stdout=log, stderr=log
        )
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()


@contextlib.contextmanager
def _worker_thread() -> Iterator[None]:
    from celery.contrib.testing.worker import start_worker

    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
        yield


if __name__ == "__main__":
    if sys.argv[-1] == "worker":
        app.worker_main(["worker", "--concurrency=2", "--without-gossip", "--loglevel=WARNING"])
    else:
        main()
