"""A plan's trace arrives in a real Jaeger and is read back through its query API."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from helpers import ledger
from helpers.source_tree import ROOT
from helpers.stack import running, wait_until

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
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: kept}}
"""


class Jaeger:
    """A running Jaeger."""

    def __init__(self, program: str, folder: Path) -> None:
        self.http, self.grpc, self.otlp = _free_ports(3)
        config = folder / "jaeger.yaml"
        config.write_text(_CONFIG.format(http=self.http, grpc=self.grpc, otlp=self.otlp))
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
        endpoint = f"http://127.0.0.1:{self.otlp}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self._get("services") is not None

    def spans(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """Returns a trace's spans by id, each with its service's name and its parent's id."""
        answer = self._get(f"traces/{trace_id}") or {}
        found = {}
        for trace in answer.get("data") or []:
            for span in trace["spans"]:
                parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
                service = trace["processes"][span["processID"]]["serviceName"]
                found[span["spanID"]] = {**span, "service": service, "parent": "".join(parents)}
        return found

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.http}/api/{path}", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            return None
        except OSError:
            return None


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    where = subprocess.run(
        ["sh", ROOT / "deploy/setup/go_tools", "--where"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    program = shutil.which("jaeger", path=where) or shutil.which("jaeger")
    if program is None:
        pytest.skip("there is no jaeger; 'make live' builds it with Go")
    server = Jaeger(program, tmp_path)
    try:
        wait_until(server.answers, "Jaeger answers queries")
        yield server
    finally:
        server.stop()


def test_a_plan_that_was_undone_is_one_tree_in_jaeger(jaeger: Jaeger, tmp_path: Path) -> None:
    plan = ledger.plan(tmp_path / "ledger", "one", "two", fails="three", on_failure="rollback")
    with running(tmp_path, variables=jaeger.variables) as stack:
        done = stack.opsctl("run", "-f", stack.plan(plan), "--yes", "-o", "json")
        assert done.code == 5, done.err
        trace_id = done.json["trace_id"]
        wait_until(lambda: _is_whole(jaeger.spans(trace_id)), "both sides' spans are in Jaeger")
        spans = jaeger.spans(trace_id)
    (root,) = [span for span in spans.values() if span["parent"] not in spans]
    assert root["operationName"] == "plan ledger"
    assert {span["operationName"] for span in spans.values()} >= {
        *("submit", "risk", "approval", "step one", "step two", "step three", "rollback"),
        *("undo one", "undo two", "attempt 1", "attempt one", "attempt three", "run"),
    }
    for span in spans.values():
        if span["service"] == "opsconductor-agent" and span["operationName"] != "run":
            parent = spans[span["parent"]]
            assert parent["startTime"] <= span["startTime"] + 5000
    services = jaeger._get("services")["data"]
    assert {"opsconductor-orchestrator", "opsconductor-agent"} <= set(services)


def _is_whole(spans: dict[str, dict[str, Any]]) -> bool:
    names = [span["operationName"] for span in spans.values()]
    agents = [s for s in spans.values() if s["service"] == "opsconductor-agent"]
    attempts = [span for span in agents if span["operationName"].startswith("attempt ")]
    return "rollback" in names and len(attempts) == 5


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
