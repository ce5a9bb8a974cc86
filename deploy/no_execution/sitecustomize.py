"""Proves that a running orchestrator executes nothing: it writes down whatever tries.

Python loads this file in every process that has its folder on PYTHONPATH; it arms itself only in
an orchestrator, and only when OPSCONDUCTOR_EXECUTION_LOG names a file. The demo and the end-to-end
tests run with it. An audit hook cannot be removed, and it also sees what libraries do.
"""

from __future__ import annotations

import os
import sys

ORCHESTRATORS = ("opsconductor.orchestrator.main", "opsconductor-orchestrator")
EXECUTION = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"}
)


def _arm(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write_down(event: str, arguments: tuple[object, ...]) -> None:
        if event in EXECUTION:
            os.write(descriptor, f"{event} {arguments!r}\n".encode())

    os.write(descriptor, b"armed\n")
    sys.addaudithook(write_down)


if os.environ.get("OPSCONDUCTOR_EXECUTION_LOG") and any(
    name in argument for argument in sys.orig_argv for name in ORCHESTRATORS
):
    _arm(os.environ["OPSCONDUCTOR_EXECUTION_LOG"])
