"""Method "http": makes one HTTP request from the agent's host."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.credential import no_credentials
from opsconductor.agent.executors.exchange import Progress
from opsconductor.agent.executors.http.login import HttpLogins
from opsconductor.agent.executors.waiting import boottime, wait_end
from opsconductor.tool_registry.rendering.rendered import HttpRequest

if TYPE_CHECKING:
    import httpx

    from opsconductor.agent.executors.base import Call, Effects, Sink
    from opsconductor.agent.executors.credential import Credentials

_EXCERPT = 4096
_UNAUTHORIZED = 401
_CONNECT_TIMEOUT = 10.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT = _SAFE | {"PUT", "DELETE"}


class HttpExecutor:
    """Sends requests with certificates verified, no proxy, and no redirect unless the tool asks.

    The body goes to standard output as it comes; the outcome's output is ``{status, elapsed_ms,
    headers, body_excerpt, body_truncated, matched}``.
    """

    method = "http"

    def __init__(self, credentials: Credentials = no_credentials, *, ca_bundle: str = "") -> None:
        """Takes a file of CA certificates to trust instead of the system's."""
        self._logins = HttpLogins(credentials)
        self._ca_bundle = ca_bundle
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Makes the request. See Executor."""
        request = call.rendered
        if not isinstance(request, HttpRequest):
            kind = type(request).__name__
            return Outcome.refused("METHOD_MISMATCH", f"the http executor cannot send a {kind}")
        if (fault := _fault(request.url)) is not None:
            return Outcome.refused("REQUEST_INVALID", f"cannot send {request.method}: {fault}")
        try:
            login = self._logins.login_of(request)
        except Refused as refused:
            return refused.outcome
        if cancel.is_set():
            return Outcome.not_begun(call, "cancelled")
        progress = Progress()
        exchange = asyncio.create_task(self._exchange(call, request, login, sink, progress))
        try:
            deadline = boottime() + call.timeout.total_seconds()
            what = await wait_end(exchange, cancel, deadline)
            if what == "ended":
                return exchange.result()
        finally:
            exchange.cancel()
        await asyncio.wait({exchange})
        if not progress.sent:
            return Outcome.not_begun(call, what)
        if call.read_only or request.method in _SAFE:
            return Outcome.stopped(call, what, exit_code=None)
        message = f"{what.replace('_', ' ')} after {_name(request)} was sent, before its answer"
        return Outcome.lost(call, "OUTCOME_UNKNOWN", message)

    async def close(self) -> None:
        """Closes kept connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    async def _exchange(
        self,
        call: Call,
        request: HttpRequest,
        login: httpx.Auth | None,
        sink: Sink,
        progress: Progress,
    ) -> Outcome:
        import httpx

        client = await self._client(verify=request.verify_tls)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with client.stream(
                request.method,
                request.url,
                headers=list(request.headers),
                content=request.body,
                auth=login,
                follow_redirects=request.follow_redirects,
                timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
                extensions={"trace": progress.trace},
            ) as response:
                if login is not None and response.status_code == _UNAUTHORIZED:
                    return Outcome.refused("AUTH_FAILED", f"{_name(request)}: login refused")
                limit = min(request.max_body_bytes, call.max_output_bytes)
                body, whole = await _read_body(response, sink, limit)
                elapsed = round((loop.time() - began) * 1000)
                output = _output(request, response, body, elapsed, truncated=not whole)
                return Outcome.ended(call, None, output)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            return _failure(call, request, error, sent=progress.sent)

    async def _client(self, *, verify: bool) -> httpx.AsyncClient:
        if verify not in self._clients:
            import httpx

            # Reading the system's certificates takes tens of milliseconds.
            context = await asyncio.to_thread(_tls, self._ca_bundle, verify=verify)
            client = httpx.AsyncClient(verify=context, trust_env=False)
            self._clients.setdefault(verify, client)
        return self._clients[verify]


def _fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        return f"not a URL: {error}"
    return None if usable else "the URL must be http:// or https:// with a host"


def _tls(ca_bundle: str, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _read_body(response: httpx.Response, sink: Sink, limit: int) -> tuple[bytes, bool]:
    """Returns the body up to a limit, and whether that was all of it."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        data = chunk[: limit - len(body)]
        body += data
        await sink.write("stdout", data)
        if len(chunk) > len(data):
            return bytes(body), False
    return bytes(body), True


def _output(
    request: HttpRequest, response: httpx.Response, body: bytes, elapsed: int, *, truncated: bool
) -> dict[str, Any]:
    text = body.decode(response.charset_encoding or "utf-8", "replace")
    return {
        "status": response.status_code,
        "elapsed_ms": elapsed,
        "headers": dict(response.headers.items()),
        "body_excerpt": text[:_EXCERPT],
        "body_truncated": truncated or len(text) > _EXCERPT,
        "matched": not request.contains or request.contains in text,
    }


def _failure(call: Call, request: HttpRequest, error: Exception, *, sent: bool) -> Outcome:
    import httpx

    name, cause = _name(request), str(error) or type(error).__name__
    if isinstance(error, (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError)):
        return Outcome.refused("REQUEST_INVALID", f"cannot send {name}: {cause}")
    if isinstance(error, httpx.TooManyRedirects):
        effects: Effects = "none" if call.read_only else "possible"
        failure = StepFailure("TOO_MANY_REDIRECTS", f"{name}: {cause}", "non_retryable")
        return Outcome("failed", effects=effects, error=failure)
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return Outcome.refused("TLS_UNTRUSTED", f"the server of {name} is not trusted: {cause}")
    if not sent:
        return Outcome.unreachable("UNREACHABLE", f"cannot reach {name}: {cause}")
    message = f"the answer to {name} was lost: {cause}"
    if request.method in _SAFE:
        return Outcome.unreachable("CONNECTION_LOST", message)
    if request.method in _IDEMPOTENT and not call.read_only:
        failure = StepFailure("CONNECTION_LOST", message, "retryable")
        return Outcome("failed", effects="possible", error=failure)
    return Outcome.lost(call, "CONNECTION_LOST", message)


def _name(request: HttpRequest) -> str:
    # The query may hold what should not be repeated in messages.
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
