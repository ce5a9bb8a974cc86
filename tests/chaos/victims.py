"""What faults are done to: processes of this run, found by what they do, and touched by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from chaos.plans import KINDS
from chaos.service import step_processes

if TYPE_CHECKING:
    from random import Random

    from chaos.launching import Place
    from chaos.service import Service
    from chaos.world import World


def place_of(world: World, random: Random) -> Place:
    return random.choice([world.places[name] for name in sorted(world.places)])


def run_now(world: World, random: Random, *kinds: str) -> list[str]:
    """Submits and approves plans in the middle of a fault; returns their executions."""
    found = []
    with world.client() as client:
        for kind in kinds:
            plan = KINDS[kind](f"now{random.getrandbits(32):x}", random)
            run = client.submit(plan).execution
            for approval_id in run.pending_approval_ids:
                client.approve(approval_id, world.context.signer())
            found.append(run.execution_id)
    return found


def freeze(service: Service, seconds: float) -> bool:
    service.signal(signal.SIGSTOP)
    time.sleep(seconds)
    service.signal(signal.SIGCONT)
    return True


def programs_of(world: World) -> set[int]:
    return set(step_processes(world.ledger))


def processes_of(world: World, place: Place) -> set[int]:
    """Returns step processes of an agent, also those an earlier process of it left behind."""
    with contextlib.suppress(OSError):
        journal = (place.folder / "journal").read_bytes()
        found = step_processes(world.ledger)
        return {pid for pid, attempt in found.items() if attempt.encode() in journal}
    return set()


def with_supervisors(pids: set[int]) -> set[int]:
    found = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(pid).parent()
            if parent and any(word.endswith("supervisor.py") for word in parent.cmdline()):
                found.add(parent.pid)
    return found


def kill(pid: int) -> bool:
    return send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
