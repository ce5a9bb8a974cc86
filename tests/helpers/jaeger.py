"""A real Jaeger for tests, which deploy/setup/go_tools builds."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from helpers.go_tools import built
from helpers.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}}}
extensions:
  jaeger_storage: {{backends: {{kept: {{memory: {{max_traces: 1000}}}}}}}}
  jaeger_query:
    storage: {{traces: kept}}
    grpc: {{endpoint: "127.0.0.1:{grpc}"}}
    http: {{endpoint: "127.0.0.1:{http}"}}
receivers:
  otlp:
    protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}, http: {{endpoint: "127.0.0.1:{posts}"}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: kept}}
"""


class Jaeger:
    """A running Jaeger."""

    def __init__(self, program: str, folder: Path) -> None:
        self.http, self.grpc, self.otlp, self.posts = _free_ports(4)
        config = folder / "jaeger.yaml"
        ports = {"http": self.http, "grpc": self.grpc, "otlp": self.otlp, "posts": self.posts}
        config.write_text(_CONFIG.format(**ports))
        self.log = folder / "jaeger.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def variables(self) -> dict[str, str]:
        """What a program that sends its traces needs in its environment."""
        endpoint = f"http://127.0.0.1:{self.otlp}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def answers(self) -> bool:
        """Tells whether it answers queries."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self.get("services") is not None

    def spans(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """Returns a trace's spans by id, each with its service's name and its parent's id."""
        answer = self.get(f"traces/{trace_id}") or {}
        found = {}
        for trace in answer.get("data") or []:
            for span in trace["spans"]:
                parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
                service = trace["processes"][span["processID"]]["serviceName"]
                found[span["spanID"]] = {**span, "service": service, "parent": "".join(parents)}
        return found

    def stop(self) -> None:
        """Ends it; what it keeps is in memory only."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> Any:
        """Returns what the query API answers; None for an error."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.http}/api/{path}", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            return None
        except OSError:
            return None


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A Jaeger that keeps traces in memory."""
    server = Jaeger(built("jaeger"), tmp_path_factory.mktemp("jaeger"))
    try:
        wait_until(server.answers, "Jaeger answers queries")
        yield server
    finally:
        server.stop()


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
