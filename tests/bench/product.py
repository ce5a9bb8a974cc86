"""The jobs on OpsConductor itself, through its client library, as a pipeline would call it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bench.measure import median, percentile, seconds_of, times
from bench.size import CONCURRENCY
from opsconductor.v1 import execution_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.size import Size
    from bench.ssh_targets import SshTargets
    from opsconductor.client.client import Client
    from opsconductor.client.signer import Signer

READ = ("true",)
CHANGE = ("sh", "-c", ":")
"""A shell may do anything: this is judged a change, approved, and recorded before it starts."""


def plan(argv: tuple[str, ...], steps: int) -> dict[str, Any]:
    """Returns a plan of equal sequential steps."""
    return {
        "name": "benchmark",
        "run": "immediate" if argv == READ else "auto",
        "steps": [
            {"id": f"step-{number}", "tool": "run_command", "inputs": {"argv": list(argv)}}
            for number in range(steps)
        ],
    }


def host_plan(targets: SshTargets) -> dict[str, Any]:
    """Returns one plan that runs ``echo ok`` on every host at once."""
    return {
        "name": "benchmark hosts",
        "mode": "parallel",
        "run": "immediate",
        "steps": [
            {
                "id": f"step-{number}",
                "tool": "run_command",
                "target": f"host-{number}",
                "inputs": {"argv": ["echo", "ok"]},
            }
            for number in range(len(targets.addresses))
        ],
    }


class Jobs:
    """Runs plans to their durable end and measures."""

    def __init__(self, client: Client, signer: Signer, size: Size) -> None:
        self._client = client
        self._signer = signer
        self._size = size

    async def finish(self, document: dict[str, Any]) -> None:
        """Submits a plan, approves it where asked, and returns when its end is on disk."""
        answer = await self._client.submit(document, wait=document["run"] == "immediate")
        execution = answer.execution
        if execution.state == pb.EXECUTION_STATE_APPROVAL_REQUIRED:
            page = await self._client.list_approvals(execution_id=execution.execution_id)
            for request in page.approvals:
                await self._client.approve(request.approval_id, self._signer)
        if execution.state != pb.EXECUTION_STATE_COMPLETED:
            execution = await self._client.wait(execution.execution_id)
        if execution.state != pb.EXECUTION_STATE_COMPLETED:
            name = pb.ExecutionState.Name(execution.state)
            raise RuntimeError(f"a benchmark plan ended {name}: {execution.execution_id}")

    async def all(self, argv: tuple[str, ...]) -> dict[str, float]:
        """Returns the results of J1 to J3 with one kind of step."""
        return {
            **await self.single(argv),
            **await self.burst(argv),
            **await self.sequence(argv),
        }

    async def single(self, argv: tuple[str, ...]) -> dict[str, float]:
        """J1: one plan of one step after the other."""
        work = self._job(argv, 1)
        await times(work, 5)
        taken = await times(work, self._size.single)
        return {
            "j1_p50_ms": percentile(taken, 0.5) * 1000,
            "j1_p99_ms": percentile(taken, 0.99) * 1000,
        }

    async def burst(self, argv: tuple[str, ...]) -> dict[str, float]:
        """J2: many such plans, ten at a time."""
        count = self._size.burst
        work = self._job(argv, 1)

        async def caller() -> None:
            for _ in range(count // CONCURRENCY):
                await work()

        async def everything() -> None:
            await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))

        taken = await times(everything, self._size.burst_repeats)
        return {"j2_per_s": count / median(taken)}

    async def sequence(self, argv: tuple[str, ...]) -> dict[str, float]:
        """J3: one plan of many steps."""
        taken = await times(self._job(argv, self._size.steps), self._size.steps_repeats)
        return {"j3_ms_per_step": median(taken) * 1000 / self._size.steps}

    async def hosts(self, targets: SshTargets) -> dict[str, float]:
        """J4: one plan on many SSH hosts; only the first time nothing is connected yet."""
        document = host_plan(targets)
        cold = await seconds_of(self.finish(document))
        warm = await times(lambda: self.finish(document), self._size.hosts_repeats)
        return {"j4_cold_s": cold, "j4_warm_s": median(warm)}

    def _job(self, argv: tuple[str, ...], steps: int) -> Callable[[], Any]:
        document = plan(argv, steps)
        return lambda: self.finish(document)
