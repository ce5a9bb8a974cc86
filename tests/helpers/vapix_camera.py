"""A network camera for tests: VAPIX parameters behind digest authentication (RFC 7616)."""

from __future__ import annotations

import hashlib
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

if TYPE_CHECKING:
    from collections.abc import Iterator

PARAMETERS = {
    "root.Brand.Brand": "AXIS",
    "root.Brand.ProdNbr": "P1455-LE",
    "root.Brand.ProdType": "Network Camera",
    "root.Properties.Firmware.Version": "11.8.64",
    "root.Properties.System.SerialNumber": "B8A44F000001",
    "root.Image.I0.Appearance.Compression": "30",
}
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Camera(ThreadingHTTPServer):
    """Answers ``param.cgi`` to one user."""

    daemon_threads = True

    def __init__(self, user: str, password: str, *, algorithm: str = "SHA-256") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.user, self.password, self.algorithm = user, password, algorithm
        self.parameters = dict(PARAMETERS)
        self.nonce = secrets.token_hex(16)
        self.refused = 0
        self.connections: set[tuple[str, int]] = set()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def knows(self, method: str, header: str) -> bool:
        """Tells whether a request shows that its sender knows the password."""
        kind, _, rest = header.partition(" ")
        if kind.lower() != "digest":
            return False
        given = parse_keqv_list(parse_http_list(rest))
        if given["nonce"] != self.nonce or given["username"] != self.user:
            return False
        first = self._hash(f"{self.user}:camera:{self.password}")
        second = self._hash(f"{method}:{given['uri']}")
        middle = f"{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}"
        return secrets.compare_digest(given["response"], self._hash(f"{first}:{middle}:{second}"))

    def stop(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()

    def _hash(self, text: str) -> str:
        return _HASHES[self.algorithm](text.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Camera

    def do_GET(self) -> None:
        camera = self.server
        camera.connections.add(self.client_address)
        if not camera.knows("GET", self.headers.get("Authorization", "")):
            camera.refused += 1
            challenge = f'Digest realm="camera", nonce="{camera.nonce}", qop="auth"'
            self._answer(401, "", f"{challenge}, algorithm={camera.algorithm}")
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/axis-cgi/param.cgi":
            self._answer(404, "")
        elif query.get("action") == "update":
            self._update({key: value for key, value in query.items() if key != "action"})
        else:
            self._answer(200, "".join(self._listed(query.get("group", "root").split(","))))

    def _listed(self, groups: list[str]) -> Iterator[str]:
        for group in groups:
            name = group if group.startswith("root") else f"root.{group}"
            found = [key for key in self.server.parameters if f"{key}.".startswith(f"{name}.")]
            if not found:
                yield f"# Error: Error -1 getting param in group '{group}'\n"
            for key in found:
                yield f"{key}={self.server.parameters[key]}\n"

    def _update(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            key = name if name.startswith("root") else f"root.{name}"
            if key not in self.server.parameters:
                self._answer(200, f"# Error: Error setting '{key}' to '{value}'!\n")
                return
            self.server.parameters[key] = value
        self._answer(200, "OK")

    def _answer(self, status: int, text: str, challenge: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""
