"""The real grpcurl lists, describes and calls everything without any proto file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.source_tree import ROOT
from helpers.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = {
    "opsconductor.v1.PlanService": {"Validate", "Preview"},
    "opsconductor.v1.ExecutionService": {
        *("Submit", "Get", "List", "Watch", "ReadOutput", "Cancel", "Pause", "Resume"),
        *("Rollback", "ResolveUnknown"),
    },
    "opsconductor.v1.ApprovalService": {"List", "Get", "Decide"},
    "opsconductor.v1.ToolService": {"List", "Get", "Search", "Render"},
    "opsconductor.v1.InventoryService": {"List", "Query", "Import", "Delete"},
    "opsconductor.v1.AgentAdminService": {"List", "Get", "Drain", "CreateJoinToken"},
    "opsconductor.v1.AgentService": {"Enroll", "RenewCertificate", "Control", "Output"},
}


@pytest.fixture(scope="module")
def grpcurl() -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "opsconductor/bin"
    found = shutil.which("grpcurl", path=f"{os.environ['PATH']}:{cache}:{Path.home()}/go/bin")
    if not found:
        pytest.skip("grpcurl is not installed: deploy/setup/go_tools grpcurl builds it (needs Go)")
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("grpcurl"))
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def call(grpcurl: str, stack: Stack) -> Any:
    def run(*words: str, data: Any = None, code: int = 0) -> str:
        tls = [
            *("-cacert", stack.data / "ca.crt", "-cert", stack.data / "operator.crt"),
            *("-key", stack.data / "operator.key"),
        ]
        body = [] if data is None else ["-d", json.dumps(data)]
        done = subprocess.run(
            [grpcurl, *tls, *body, stack.endpoint, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == code or (code and done.returncode), done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_every_service_is_listed_with_its_methods(call: Any) -> None:
    listed = set(call("list").split())
    assert set(SERVICES) | {"grpc.health.v1.Health"} <= listed
    for service, methods in SERVICES.items():
        names = {line.rpartition(".")[2] for line in call("list", service).split()}
        assert names == methods


def test_every_method_is_described(call: Any) -> None:
    for service, methods in SERVICES.items():
        text = call("describe", service)
        assert all(f"rpc {method} (" in text for method in methods)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_says_that_it_is_healthy(call: Any, service: str) -> None:
    answer = json.loads(call("grpc.health.v1.Health/Check", data={"service": service}))
    assert answer == {"status": "SERVING"}


def test_a_plan_is_submitted_and_read_back(call: Any) -> None:
    plan = {"steps": [{"id": "hello", "tool": "run_command", "inputs": {"argv": ["echo", "hi"]}}]}
    judged = json.loads(call("opsconductor.v1.PlanService/Preview", data={"plan": {"plan": plan}}))
    assert judged["steps"][0]["command"] == "echo hi"
    submit = {"plan": {"plan": {**plan, "run": "immediate"}}, "wait": True, "request_id": "g-1"}
    first = json.loads(call("opsconductor.v1.ExecutionService/Submit", data=submit))["execution"]
    assert first["state"] == "EXECUTION_STATE_COMPLETED"
    again = json.loads(call("opsconductor.v1.ExecutionService/Submit", data=submit))
    assert again["already_submitted"]
    name = {"execution_id": first["execution_id"]}
    events = call("opsconductor.v1.ExecutionService/Watch", data=name)
    assert '"type": "execution_finished"' in events
    assert "aGkK" in call("opsconductor.v1.ExecutionService/ReadOutput", data=name)


def test_everything_that_only_reads_answers(call: Any) -> None:
    for method in (
        *("ApprovalService/List", "ToolService/List", "InventoryService/List"),
        *("InventoryService/Query", "AgentAdminService/List", "ExecutionService/List"),
    ):
        json.loads(call(f"opsconductor.v1.{method}", data={}))


def test_errors_carry_their_reason(call: Any) -> None:
    answer = call("opsconductor.v1.ExecutionService/Get", data={"execution_id": "no"}, code=1)
    assert "NotFound" in answer
    assert "NOT_FOUND" in answer


def test_without_a_certificate_nobody_gets_in(grpcurl: str, stack: Stack) -> None:
    for words in (["-plaintext"], ["-cacert", str(stack.data / "ca.crt")]):
        done = subprocess.run(
            [grpcurl, "-max-time", "5", *words, stack.endpoint, "list"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode != 0
        assert "opsconductor" not in done.stdout
