"""AWS for tests: moto behind a proxy that can be slow, turn calls away or drop them."""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

import pytest

from helpers.servers import Server, accepts, private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault = Literal["", "throttle", "expired", "drop", "hang", "broken", "denied"]
_ANSWERS = {
    "throttle": (503, "RequestLimitExceeded", "Request limit exceeded."),
    "expired": (400, "ExpiredToken", "The security token included in the request is expired"),
    "broken": (500, "InternalError", "An internal error has occurred"),
    "denied": (403, "UnauthorizedOperation", "You are not authorized to perform this operation."),
}


class AwsProxy(ThreadingHTTPServer):
    """Hands requests on to moto, unless it is told to do otherwise."""

    daemon_threads = True

    def __init__(self, moto: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moto = moto
        self.fault: Fault = ""
        self.requests: list[bytes] = []
        self.arrived = threading.Event()
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        """Ends it."""
        self.go_on.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AwsProxy

    def do_POST(self) -> None:
        proxy = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append(body)
        proxy.arrived.set()
        fault = proxy.fault
        if fault == "hang":
            proxy.go_on.wait(60)
        if fault in _ANSWERS:
            status, code, text = _ANSWERS[fault]
            error = f"<Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
            self._answer(status, f"<Response>{error}</Response>".encode(), "text/xml")
            return
        status, answer, kind = self._forward(body)
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, answer, kind)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST  # noqa: N815 - http.server's names

    def _forward(self, body: bytes) -> tuple[int, bytes, str]:
        request = urllib.request.Request(
            self.server.moto + self.path, data=body or None, method=self.command
        )
        for name, value in self.headers.items():
            if name.lower() not in ("host", "content-length", "connection", "expect"):
                request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers.get("Content-Type", "")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


def _moto_command(server: Server) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)]


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """A moto server for the whole session."""
    pytest.importorskip("flask", reason="moto[server] is not installed")
    with private_folder("opsc-moto-") as folder:
        server = Server(_moto_command, accepts, folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def aws(moto: Server) -> Iterator[AwsProxy]:
    """A proxy before it, of this test alone."""
    proxy = AwsProxy(f"http://127.0.0.1:{moto.port}")
    yield proxy
    proxy.stop()
