"""The http executor against small real servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helpers.accepting import accepting
from helpers.places import MemorySink
from helpers.sshd import free_port
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.http.executor import HttpExecutor
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, HttpRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Served-By: test\r\n\r\nhello"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each request with the same bytes; empty bytes close, None never answers."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if self._answer is None:
                    await reader.read()
                    break
                writer.write(self._answer)
                await writer.drain()
                if not self._answer:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def serving(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    handler = Server(answer)
    scheme = "https" if tls else "http"
    async with accepting(handler.serve, tls) as port:
        handler.url = f"{scheme}://127.0.0.1:{port}/health?token=s3cret"
        yield handler


async def send(
    url: str,
    method: str = "GET",
    *,
    seconds: float = 10,
    read_only: bool = True,
    cancel: asyncio.Event | None = None,
    sink: MemorySink | None = None,
    **options: Any,
) -> Outcome:
    executor = HttpExecutor()
    call = Call(
        "att_1",
        HttpRequest(method, url, **options),
        None,
        timedelta(seconds=seconds),
        read_only=read_only,
    )
    try:
        return await executor.run(call, sink or MemorySink(), cancel or asyncio.Event())
    finally:
        await executor.close()


def told(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None
    return outcome.state, outcome.effects, outcome.error.code


async def test_an_answer_is_structured_and_its_body_streamed() -> None:
    sink = MemorySink()
    async with serving(OK) as server:
        outcome = await send(server.url, headers=(("X-Ask", "1"),), contains="ell", sink=sink)
    assert (outcome.state, outcome.exit_code, outcome.effects) == ("completed", None, "none")
    assert outcome.output["status"] == 200
    assert outcome.output["headers"]["x-served-by"] == "test"
    assert outcome.output["body_excerpt"] == "hello"
    assert outcome.output["matched"] is True
    assert outcome.output["elapsed_ms"] >= 0
    assert sink.stdout == b"hello"
    assert b"X-Ask: 1" in server.requests[0]


async def test_a_body_is_sent() -> None:
    async with serving(OK) as server:
        outcome = await send(server.url, "POST", body=b"x=1", read_only=False)
    assert (outcome.state, outcome.effects) == ("completed", "done")
    assert b"content-length: 3" in server.requests[0].lower()


async def test_a_missing_text_is_not_matched() -> None:
    async with serving(OK) as server:
        assert (await send(server.url, contains="nope")).output["matched"] is False


async def test_an_error_status_is_still_an_answer() -> None:
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer) as server:
        outcome = await send(server.url)
    assert (outcome.state, outcome.output["status"]) == ("completed", 503)


async def test_redirects_are_followed_only_when_asked() -> None:
    async with serving(REDIRECT) as server:
        assert (await send(server.url)).output["status"] == 302
        assert len(server.requests) == 1
        assert told(await send(server.url, follow_redirects=True))[2] == "TOO_MANY_REDIRECTS"


async def test_a_long_body_is_cut_and_says_so() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000
    sink = MemorySink()
    async with serving(answer) as server:
        outcome = await send(server.url, max_body_bytes=1000, sink=sink)
    assert outcome.output["body_truncated"] is True
    assert len(sink.stdout) == 1000


async def test_a_closed_port_is_unreachable_also_for_changes() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}/"
    for method, read_only in (("GET", True), ("POST", False)):
        outcome = await send(url, method, read_only=read_only)
        assert told(outcome) == ("unreachable", "none", "UNREACHABLE")


@pytest.mark.parametrize(
    ("method", "read_only", "expected"),
    [
        ("GET", True, ("unreachable", "none", "CONNECTION_LOST")),
        ("PUT", False, ("failed", "possible", "CONNECTION_LOST")),
        ("POST", False, ("unknown", "possible", "CONNECTION_LOST")),
    ],
)
async def test_an_answer_lost_after_sending_is_unknown_unless_it_can_be_repeated(
    method: str, read_only: bool, expected: tuple[str, str, str]
) -> None:
    async with serving(b"") as server:
        outcome = await send(server.url, method, read_only=read_only)
    assert told(outcome) == expected
    assert outcome.error is not None
    assert "s3cret" not in outcome.error.message


@pytest.mark.parametrize(
    ("method", "read_only", "expected"),
    [
        ("GET", True, ("timed_out", "none", "TIMEOUT")),
        ("POST", False, ("unknown", "possible", "OUTCOME_UNKNOWN")),
    ],
)
async def test_a_timeout_after_sending_is_unknown_for_changes(
    method: str, read_only: bool, expected: tuple[str, str, str]
) -> None:
    async with serving(None) as server:
        outcome = await send(server.url, method, read_only=read_only, seconds=0.5)
    assert told(outcome) == expected


async def test_a_timeout_before_anything_was_sent_has_no_effects() -> None:
    # A full backlog: the kernel does not answer more connections.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/"
        outcome = await send(url, "POST", read_only=False, seconds=0.5)
        for filler in fillers:
            filler.close()
    assert told(outcome) == ("timed_out", "none", "TIMEOUT")


async def test_a_cancel_ends_the_call() -> None:
    cancel = asyncio.Event()
    async with serving(None) as server:
        running = asyncio.create_task(send(server.url, cancel=cancel))
        while not server.requests:  # noqa: ASYNC110 - the server is a fake
            await asyncio.sleep(0.01)
        cancel.set()
        assert told(await running) == ("cancelled", "none", "CANCELLED")


async def test_a_proxy_of_the_agents_environment_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(OK) as server:
        assert (await send(server.url)).output["status"] == 200


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://[::1/", "nonsense"])
async def test_what_is_no_http_url_is_refused(url: str) -> None:
    outcome = await send(url)
    assert told(outcome) == ("failed", "none", "REQUEST_INVALID")


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_a_header_that_cannot_be_sent_is_refused() -> None:
    async with serving(OK) as server:
        for value in ("a\r\nX-Injected: 1", "日本"):
            assert told(await send(server.url, headers=(("X-A", value),)))[2] == "REQUEST_INVALID"
        assert server.requests == []


async def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    async with serving(OK, self_signed(tmp_path)) as server:
        assert told(await send(server.url)) == ("failed", "none", "TLS_UNTRUSTED")
        assert server.requests == []
        assert (await send(server.url, verify_tls=False)).output["status"] == 200


async def test_another_kind_of_call_is_refused() -> None:
    call = Call("att_1", ArgvCommand(("true",)), None, timedelta(seconds=1))
    outcome = await HttpExecutor().run(call, MemorySink(), asyncio.Event())
    assert told(outcome)[2] == "METHOD_MISMATCH"
