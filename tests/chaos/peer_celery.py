"""Celery with late acknowledgement over Redis; runs in the peers' environment.

``peer_celery.py REDIS worker`` works; ``peer_celery.py REDIS send COMMAND…`` asks for a command and
ends when it has been run.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from celery import Celery

REDIS, WHAT, *COMMAND = sys.argv[1:]
VISIBILITY_SECONDS = 2

app = Celery("chaos", broker=REDIS, backend=REDIS)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
    visibility_timeout=VISIBILITY_SECONDS,
)


@app.task(name="chaos.act")  # type: ignore[untyped-decorator]
def act(command: list[str]) -> Any:
    """Runs the command, which must not run twice."""
    return subprocess.run(command, check=True).returncode


if __name__ == "__main__":
    if WHAT == "worker":
        app.worker_main(["worker", "--pool=solo", "--without-gossip", "--loglevel=ERROR"])
    else:
        act.delay(COMMAND).get(timeout=120, interval=0.05)
