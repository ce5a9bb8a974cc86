"""Ending tasks never swallows the end of the one who ends them."""

from __future__ import annotations

import asyncio

import pytest

from opsconductor.agent.session import tasks


async def test_tasks_are_gone_whatever_they_end_with() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("not now")

    one, two = asyncio.create_task(stubborn()), asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    await tasks.end(one, two)
    assert one.done()
    assert two.cancelled()


async def test_who_is_cancelled_while_it_ends_others_ends_too() -> None:
    release = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    other = asyncio.create_task(slow())
    await asyncio.sleep(0)

    async def ender() -> None:
        while True:
            await tasks.end(other)

    ending = asyncio.create_task(ender())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ending.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(ending, 5)
