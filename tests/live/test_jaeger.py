"""A real Jaeger takes the trace of a plan and gives it back through its query API."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.stack import Stack, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], processors: [], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
extensions:
  jaeger_storage:
    backends: {{memory: {{memory: {{max_traces: 1000}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{http}"}}
    grpc: {{endpoint: "127.0.0.1:{grpc}"}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


class Jaeger:
    """A running Jaeger."""

    def __init__(self, http: int, otlp: int) -> None:
        self._http = http
        self.variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def get(self, path: str) -> Any:
        """Returns what the query API answers; None while it does not."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._http}{path}", timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            return None


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "opsconductor/bin"
    program = shutil.which("jaeger", path=f"{os.environ['PATH']}:{cache}")
    if not program:
        pytest.skip("jaeger is not installed: deploy/setup/go_tools jaeger builds it (needs Go)")
    folder = tmp_path_factory.mktemp("jaeger")
    http, grpc, otlp = free_ports(3)
    config = folder / "jaeger.yaml"
    config.write_text(CONFIG.format(http=http, grpc=grpc, otlp=otlp))
    with (folder / "jaeger.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    running = Jaeger(http, otlp)
    try:
        wait_until(
            lambda: process.poll() is not None or running.get("/api/services") is not None,
            "Jaeger answers",
        )
        assert process.poll() is None, (folder / "jaeger.log").read_text()[-3000:]
        yield running
    finally:
        process.terminate()
        process.wait(20)


def test_jaeger_shows_the_plan_from_submission_to_rollback(jaeger: Jaeger, tmp_path: Path) -> None:
    stack = Stack(tmp_path, dict(jaeger.variables))
    try:
        stack.up()
        path = str(tmp_path / "file")
        steps = [
            {"id": "write", "tool": "write_file", "inputs": {"path": path, "content": "x"}},
            {"id": "fail", "tool": "run_command", "inputs": {"argv": ["sh", "-c", "exit 3"]}},
        ]
        plan = stack.plan({"name": "seen in Jaeger", "on_failure": "rollback", "steps": steps})
        result = stack.opsctl("run", "-f", plan, "--yes", "-o", "json").json
        assert result["status"] == "rolled_back"
    finally:
        stack.down()  # sends what is left
    spans: list[dict[str, Any]] = []

    def arrived() -> bool:
        answer = jaeger.get(f"/api/traces/{result['trace_id']}") or {}
        spans[:] = answer["data"][0]["spans"] if answer.get("data") else []
        return {"rollback", "undo write", "attempt write"} <= {s["operationName"] for s in spans}

    wait_until(arrived, "Jaeger has the whole trace", 30)
    names = {span["spanID"]: span["operationName"] for span in spans}
    parents = {
        span["operationName"]: names.get(span["references"][0]["spanID"], "")
        for span in spans
        if span["references"]
    }
    assert parents["step write"] == "plan seen in Jaeger"
    assert parents["rollback"] == "plan seen in Jaeger"
    assert parents["undo write"] == "rollback"
    assert {"opsconductor-orchestrator", "opsconductor-agent"} <= set(
        jaeger.get("/api/services")["data"]
    )
