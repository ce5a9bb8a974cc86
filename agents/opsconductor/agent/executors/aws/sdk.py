"""Method "aws-sdk": one operation of an AWS service through boto3, sent once."""

from __future__ import annotations

import asyncio
import difflib
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors import needs
from opsconductor.agent.executors.aws.clients import Abandoned, AwsClients, Sending
from opsconductor.agent.executors.aws.errors import told
from opsconductor.agent.executors.aws.login import credential_of
from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.database.rows import plain
from opsconductor.agent.executors.exchange import Progress, follow
from opsconductor.tool_registry.rendering.rendered import AwsCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.executors.credential import Credential, Credentials
    from opsconductor.agent.executors.registry import Collaborators

LIBRARY = "boto3"
_THREADS = 8
_MOST_PAGES = 500


def make(offered: Collaborators) -> AwsSdkExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    needs.library(LIBRARY, LIBRARY)
    return AwsSdkExecutor(offered.credentials)


class AwsSdkExecutor:
    """Asks AWS as one profile or key; clients are kept for each, and nothing is sent twice.

    The answer goes to standard output, one JSON document for each page; the outcome's output is
    the answer, for pages ``{key: [items of all pages]}``.
    """

    method = "aws-sdk"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._clients = AwsClients()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Asks AWS. See Executor."""
        request = call.rendered
        if not isinstance(request, AwsCall):
            kind = type(request).__name__
            return Outcome.refused("METHOD_MISMATCH", f"the aws-sdk executor cannot send a {kind}")
        if find_spec(LIBRARY) is None:
            message = "AWS needs the Python library boto3 on the agent: pip install boto3"
            return Outcome.refused("LIBRARY_MISSING", message)
        try:
            credential = credential_of(call, request.credential, self._credentials)
        except Refused as refused:
            return refused.outcome
        progress = Progress()
        exchange = self._exchange(call, request, credential, sink, progress)
        name = f"{request.service} {request.operation}"
        return await follow(call, exchange, progress, cancel, name)

    async def close(self) -> None:
        """Closes kept connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._clients.close()

    async def _exchange(
        self, call: Call, request: AwsCall, credential: Credential, sink: Sink, progress: Progress
    ) -> Outcome:
        sending = Sending(progress)
        pages = _Pages(sending)
        asking = asyncio.get_running_loop().run_in_executor(
            self._threads, self._ask, call, request, credential, pages
        )
        try:
            answer = await _collected(pages, sink, call.max_output_bytes)
            failure = await asking
        finally:
            pages.abandon()
        if failure is not None:
            return failure
        if request.dry_run:
            message = f"{request.service} {request.operation} was carried out, not only tried"
            error = StepFailure("DRY_RUN_IGNORED", message, "rollback_required")
            return Outcome("failed", effects="done", error=error, output=answer)
        return Outcome.ended(call, None, answer)

    def _ask(
        self, call: Call, request: AwsCall, credential: Credential, pages: _Pages
    ) -> Outcome | None:
        """Asks in a thread; returns what went wrong."""
        sending = pages.sending
        try:
            with sending:
                for page in self._answers(request, credential, sending):
                    pages.put(page)
        except Refused as refused:
            return refused.outcome
        except Exception as error:  # noqa: BLE001 - botocore raises many types; each is told
            return told(call, request, credential, error, sent=sending.sent)
        finally:
            pages.finish()
        return None

    def _answers(
        self, request: AwsCall, credential: Credential, sending: Sending
    ) -> Iterator[dict[str, Any]]:
        client = self._clients.client(credential, request.service, request.region)
        arguments = _arguments(client, request)
        if not request.paginate or not client.can_paginate(request.operation):
            yield _shown(getattr(client, request.operation)(**arguments))
            return
        paginator = client.get_paginator(request.operation)
        for number, page in enumerate(paginator.paginate(**arguments)):
            if sending.abandoned or number >= _MOST_PAGES:
                return
            yield _shown(page)


class _Pages:
    """Brings pages from the thread that asks to the loop, at the speed of the sink."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=4)

    def put(self, page: dict[str, Any] | None) -> None:
        """Takes a page, in the thread; None is the end."""
        if self.sending.abandoned:
            raise Abandoned
        asyncio.run_coroutine_threadsafe(self._queue.put(page), self._loop).result()

    def finish(self) -> None:
        """Marks the end, in the thread."""
        if not self.sending.abandoned:
            self.put(None)

    async def next(self) -> dict[str, Any] | None:
        """Returns the next page, None at the end."""
        return await self._queue.get()

    def abandon(self) -> None:
        """Lets the thread go: nobody waits for its pages any more."""
        self.sending.abandoned = True
        while not self._queue.empty():
            self._queue.get_nowait()


async def _collected(pages: _Pages, sink: Sink, most: int) -> dict[str, Any]:
    """Returns the answer of all pages: lists of the same name are joined."""
    answer: dict[str, Any] = {}
    written = 0
    while (page := await pages.next()) is not None:
        line = json.dumps(page, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        written += len(line)
        if written > most:
            answer["truncated"] = True
            continue
        await sink.write("stdout", line)
        for key, value in page.items():
            if isinstance(value, list) and isinstance(answer.get(key), list):
                answer[key] += value
            else:
                answer[key] = value
    return answer


def _arguments(client: Any, request: AwsCall) -> dict[str, Any]:
    """Returns what the operation is called with; raises Refused for one that does not exist."""
    known = client.meta.method_to_api_mapping
    if request.operation not in known:
        near = difflib.get_close_matches(request.operation, list(known), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        message = f"{request.service} has no operation {request.operation}{hint}"
        raise Refused(Outcome.refused("OPERATION_UNKNOWN", message))
    arguments = dict(request.arguments)
    if not request.dry_run:
        return arguments
    shape = client.meta.service_model.operation_model(known[request.operation]).input_shape
    if shape is None or "DryRun" not in shape.members:
        message = f"{request.service} {request.operation} has no dry run"
        raise Refused(Outcome.refused("DRY_RUN_IMPOSSIBLE", message))
    return {**arguments, "DryRun": True}


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer as JSON; a stream in it is read up to a limit."""
    shown = {}
    for key, value in answer.items():
        if key == "ResponseMetadata":
            continue
        shown[key] = plain(value.read(1024 * 1024) if hasattr(value, "read") else value)
    return shown
