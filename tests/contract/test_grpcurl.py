"""The real grpcurl, with certificates and without any proto file, sees and calls everything."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from helpers.go_tools import built
from helpers.stack import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers.stack import Stack

SERVICES = ["Agent", "AgentAdmin", "Approval", "Execution", "Inventory", "Plan", "Tool"]
CALLS = {
    "PlanService/Validate": {"plan": {"plan": {"name": "empty"}}},
    "ExecutionService/List": {},
    "ApprovalService/List": {},
    "ToolService/List": {},
    "ToolService/Export": {"format": "EXPORT_FORMAT_MCP", "names": ["ping"]},
    "InventoryService/List": {},
    "AgentAdminService/List": {},
}


@pytest.fixture(scope="module")
def program() -> str:
    return built("grpcurl")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, program: str) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("grpcurl")) as made:
        yield made


def grpcurl(program: str, stack: Stack, *words: str, data: object = None) -> str:
    keys = [("-cacert", "ca.crt"), ("-cert", "operator.crt"), ("-key", "operator.key")]
    tls = [part for flag, file in keys for part in (flag, str(stack.data / file))]
    body = [] if data is None else ["-d", json.dumps(data)]
    done = subprocess.run(
        [program, *tls, *body, stack.endpoint, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_lists_every_service(program: str, stack: Stack) -> None:
    listed = grpcurl(program, stack, "list").split()
    assert {f"opsconductor.v1.{name}Service" for name in SERVICES} <= set(listed)
    assert "grpc.health.v1.Health" in listed


@pytest.mark.parametrize("name", SERVICES)
def test_it_describes_every_method_and_its_messages(program: str, stack: Stack, name: str) -> None:
    service = f"opsconductor.v1.{name}Service"
    methods = grpcurl(program, stack, "list", service).split()
    assert methods
    described = grpcurl(program, stack, "describe", service)
    for method in methods:
        assert f"rpc {method.rpartition('.')[2]} (" in described


@pytest.mark.parametrize("name", SERVICES)
def test_health_of_every_service_is_serving(program: str, stack: Stack, name: str) -> None:
    asked = {"service": f"opsconductor.v1.{name}Service"}
    answer = json.loads(grpcurl(program, stack, "grpc.health.v1.Health/Check", data=asked))
    assert answer == {"status": "SERVING"}


@pytest.mark.parametrize("call", CALLS)
def test_it_calls_every_service(program: str, stack: Stack, call: str) -> None:
    answer = grpcurl(program, stack, f"opsconductor.v1.{call}", data=CALLS[call])
    assert isinstance(json.loads(answer), dict)


def test_what_only_agents_may_call_refuses_an_operator(program: str, stack: Stack) -> None:
    with pytest.raises(AssertionError, match="PermissionDenied"):
        grpcurl(program, stack, "opsconductor.v1.AgentService/RenewCertificate", data={})
