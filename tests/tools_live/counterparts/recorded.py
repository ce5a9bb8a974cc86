"""Answers of monitoring systems that are not here, as their interfaces document them.

A tool that is tried on these is not run for real: its request and the reading of answers are.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/api/search"): [
        {"id": 163, "uid": "cIBgcSjkk", "title": "Web servers", "type": "dash-db", "tags": ["web"]}
    ],
    ("POST", "/api/annotations"): {"message": "Annotation added", "id": 1},
    ("GET", "/loki/api/v1/query_range"): {
        "status": "success",
        "data": {
            "resultType": "streams",
            "result": [{"stream": {"app": "web"}, "values": [["1767225600000000000", "error"]]}],
        },
    },
    ("GET", "/_cluster/health"): {
        "cluster_name": "logs",
        "status": "green",
        "timed_out": False,
        "number_of_nodes": 3,
        "unassigned_shards": 0,
    },
    ("GET", "/api/v2/traces"): [[{"traceId": "c1e5a1f0", "id": "1", "name": "get /"}]],
    ("GET", "/api/plugins.json"): {
        "plugins": [{"plugin_id": "out_es", "type": "elasticsearch", "retry_count": 0}]
    },
}
TOKEN = "glsa_not_a_real_token"


class RecordedApis(ThreadingHTTPServer):
    """Answers what is asked with the token, and 401 without."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = ANSWERS.get((self.command, urlsplit(self.path).path))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"message": "Unauthorized"})
        elif known is None:
            self._answer(404, {"message": "Not found"})
        else:
            self._answer(200, known)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""
