from __future__ import annotations

import asyncio
from typing import Any

from helpers.places import until
from opsconductor.agent.report import Report
from opsconductor.agent.session.frames import report_frame
from opsconductor.agent.session.outbox import Outbox


class Line:
    """A stream that takes one frame at a time, when it is let."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(0)
        self.sent: list[str] = []

    async def write(self, frame: Any) -> None:
        await self.free.acquire()
        self.sent.append(frame.report.attempt_id)


async def test_what_another_orchestrator_has_on_disk_is_not_sent_any_more() -> None:
    line = Line()
    outbox = Outbox(line)
    for name in ("a", "b", "c", "b"):
        outbox.put(report_frame(Report(name, "completed")))
    writer = asyncio.create_task(outbox.run())
    await asyncio.sleep(0)  # "a" is being written
    outbox.forget("b")
    outbox.forget("a")
    for _ in range(2):
        line.free.release()
    await until(lambda: len(line.sent) == 2)
    assert line.sent == ["a", "c"]
    writer.cancel()
