"""A client with several endpoints goes on at another one; nothing is lost and nothing repeated."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.two_endpoints import Replicas
from opsconductor.client import Client, Context, SyncClient
from opsconductor.client.persistence import Persistence
from opsconductor.rpc.errors import AlreadyDecided, NotFound
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import approval_service_pb2 as approvals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

LIMIT = 60


class Caller:
    """Calls by either client; messages of streams go into a list as they come."""

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.endpoints: list[str] = []
        self.options: dict[str, Any] = {}

    async def calls(self, context: Context, *calls: Callable[[Any], Any]) -> list[Any]:
        """Makes calls one after another with one client; returns their answers."""
        if self.asynchronous:
            async with Client(context, **self.options) as client:
                answers = []
                for call in calls:
                    answers.append(await call(client))
                    self.endpoints.append(client.endpoint)
                return answers
        return await asyncio.to_thread(self._calls, context, calls)

    def _calls(self, context: Context, calls: tuple[Callable[[Any], Any], ...]) -> list[Any]:
        with SyncClient(context, **self.options) as client:
            answers = []
            for call in calls:
                answers.append(call(client))
                self.endpoints.append(client.endpoint)
            return answers

    async def stream(
        self, context: Context, ask: Callable[[Any], Any], received: list[Any]
    ) -> None:
        """Reads a stream to its end."""
        if self.asynchronous:
            async with Client(context) as client:
                async for message in ask(client):
                    received.append(message)
        else:
            await asyncio.to_thread(self._stream, context, ask, received)

    def _stream(self, context: Context, ask: Callable[[Any], Any], received: list[Any]) -> None:
        with SyncClient(context) as client:
            for message in ask(client):
                received.append(message)


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(asynchronous=request.param)


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    replicas = Replicas(tmp_path)
    yield replicas
    await replicas.close()


async def test_a_watch_goes_on_at_another_endpoint_with_the_next_event(
    replicas: Replicas, caller: Caller
) -> None:
    first, second = await replicas.start(1, stops_after=7), await replicas.start(2, stops_after=9)
    received: list[Any] = []
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        watch = caller.stream(replicas.context(), lambda c: c.watch("exec_1"), received)
        tasks.create_task(watch)
        await first.stopped.wait()
        await replicas.kill(1)
        await second.stopped.wait()
        third = await replicas.start(1, stops_after=3)
        await replicas.kill(2)
        await third.stopped.wait()
        await replicas.start(2)
        await replicas.kill(1)
    assert received == replicas.database.events


async def test_output_of_steps_side_by_side_is_whole_after_a_move(
    replicas: Replicas, caller: Caller
) -> None:
    first, second = await replicas.start(1, stops_after=9), await replicas.start(2, stops_after=27)
    received: list[Any] = []
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        read = caller.stream(replicas.context(), lambda c: c.read_output("exec_1"), received)
        tasks.create_task(read)
        await first.stopped.wait()
        await replicas.kill(1)
        await second.stopped.wait()
        await replicas.start(1)
        await replicas.kill(2)
    assert joined(received) == joined(replicas.database.pieces)


def joined(pieces: list[Any]) -> dict[str, bytes]:
    whole: dict[str, bytes] = defaultdict(bytes)
    for piece in pieces:
        assert piece.offset == len(whole[piece.attempt_id])
        whole[piece.attempt_id] += piece.data
    return whole


async def lost_in(
    replicas: Replicas, caller: Caller, call: Callable[[Any], Any]
) -> tuple[Any, list[str]]:
    """Kills the first orchestrator after it carried out a call, before it answers.

    Returns the answer and the endpoints that were asked to change something.
    """
    first = await replicas.start(1)
    await replicas.start(2)
    first.silent = True
    try:
        async with asyncio.timeout(LIMIT):
            task = asyncio.create_task(caller.calls(replicas.context(), call))
            await first.stopped.wait()
            await replicas.kill(1)
            (answer,) = await task
            return answer, [endpoint for endpoint, _ in replicas.database.calls]
    finally:
        assert replicas.database.calls[0][0] == first.endpoint


async def test_a_submission_whose_answer_is_lost_is_repeated_under_its_request_id(
    replicas: Replicas, caller: Caller
) -> None:
    answer, asked = await lost_in(replicas, caller, lambda c: c.submit("name: a"))
    assert answer.already_submitted
    assert asked == replicas.endpoints()
    assert len(replicas.database.submitted) == 1


async def test_a_cancellation_whose_answer_is_lost_is_repeated(
    replicas: Replicas, caller: Caller
) -> None:
    answer, asked = await lost_in(replicas, caller, lambda c: c.cancel("exec_1"))
    assert answer.execution_id == "exec_1"
    assert asked == replicas.endpoints()


@pytest.mark.parametrize(
    "call",
    [lambda c: c.resume("exec_1"), lambda c: c.create_join_token("a", "s")],
    ids=["resume", "join token"],
)
async def test_what_is_not_safe_to_repeat_is_sent_once_and_said_to_be_open(
    replicas: Replicas, caller: Caller, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(Unreachable, match="may have been carried out all the same"):
        await lost_in(replicas, caller, call)
    assert len(replicas.database.calls) == 1


async def test_what_is_not_safe_to_repeat_still_finds_the_endpoint_that_lives(
    replicas: Replicas, caller: Caller
) -> None:
    await replicas.start(1)
    second = await replicas.start(2)
    context = replicas.context()
    await replicas.kill(1)
    async with asyncio.timeout(LIMIT):
        await caller.calls(context, lambda c: c.create_join_token("a", "s"))
    assert replicas.database.calls == [(second.endpoint, "CreateJoinToken")]


async def test_a_decision_whose_answer_is_lost_counts_as_given(
    replicas: Replicas, caller: Caller
) -> None:
    answer, _ = await lost_in(
        replicas, caller, lambda c: c.decide("appr_1", "reject", reason="mine")
    )
    assert [decision.reason for decision in answer.decisions] == ["mine"]


async def test_anothers_decision_is_not_taken_for_ones_own(
    replicas: Replicas, caller: Caller
) -> None:
    await replicas.start(1)
    replicas.database.decisions.append(
        approvals.Decision(kind=approvals.DECISION_KIND_REJECT, reason="theirs")
    )
    with pytest.raises(AlreadyDecided):
        await caller.calls(
            replicas.context(), lambda c: c.decide("appr_1", "reject", reason="theirs")
        )


async def test_a_deletion_whose_answer_is_lost_counts_as_done(
    replicas: Replicas, caller: Caller
) -> None:
    answer, _ = await lost_in(replicas, caller, lambda c: c.delete_asset("web-01"))
    assert answer is None
    with pytest.raises(NotFound):
        await caller.calls(replicas.context(), lambda c: c.delete_asset("web-01"))


async def test_an_endpoint_that_takes_connections_and_says_nothing_costs_no_call_its_timeout(
    replicas: Replicas, caller: Caller
) -> None:
    second = await replicas.start(1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        context = replicas.context(f"127.0.0.1:{mute.getsockname()[1]}", second.endpoint)
        # Twenty times the patience with one handshake is far more than the limit.
        async with asyncio.timeout(LIMIT):
            await caller.calls(context, *[lambda c: c.get("exec_1")] * 20)
    assert set(caller.endpoints) == {second.endpoint}


async def test_the_last_good_endpoint_is_remembered(replicas: Replicas, caller: Caller) -> None:
    await replicas.start(1)
    second = await replicas.start(2)
    context = replicas.context()
    await replicas.kill(1)
    async with asyncio.timeout(LIMIT):
        await caller.calls(context, *[lambda c: c.get("exec_1")] * 2)
    assert caller.endpoints == [second.endpoint] * 2


async def test_nobody_anywhere_is_told_at_once_with_all_endpoints(
    replicas: Replicas, caller: Caller
) -> None:
    await replicas.start(1)
    await replicas.start(2)
    context = replicas.context()
    await replicas.close()
    with pytest.raises(Unreachable) as refused:
        await caller.calls(context, lambda c: c.get("exec_1"))
    for endpoint in replicas.endpoints():
        assert endpoint in refused.value.message


async def test_all_tries_of_a_submission_end_at_its_timeout(
    replicas: Replicas, caller: Caller
) -> None:
    first = await replicas.start(1)
    await replicas.start(2)
    first.silent = True
    caller.options = {"persistence": Persistence(limit=timedelta(hours=1))}
    timeout = timedelta(seconds=1)
    async with asyncio.timeout(LIMIT):
        call = caller.calls(replicas.context(), lambda c: c.submit("name: a", timeout=timeout))
        task = asyncio.create_task(call)
        await first.stopped.wait()
        await replicas.close()
        with pytest.raises(Unreachable):
            await task
