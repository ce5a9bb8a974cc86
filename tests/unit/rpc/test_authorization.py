"""The matrix of who may call what is complete, and closed by default."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pool import Default

import opsconductor.v1.agent_admin_service_pb2
import opsconductor.v1.agent_service_pb2
import opsconductor.v1.approval_service_pb2
import opsconductor.v1.execution_service_pb2
import opsconductor.v1.inventory_service_pb2
import opsconductor.v1.tool_service_pb2  # noqa: F401 - all registered in the pool
from opsconductor.rpc.authorization import ALLOWED, authorize
from opsconductor.rpc.errors import PermissionDenied
from opsconductor.rpc.identity import ROLES, Identity

SERVICES = [
    "AgentAdminService",
    "AgentService",
    "ApprovalService",
    "ExecutionService",
    "InventoryService",
    "PlanService",
    "ToolService",
]


def methods_of_the_contract() -> set[str]:
    return {
        f"/opsconductor.v1.{service}/{method.name}"
        for service in SERVICES
        for method in Default().FindServiceByName(f"opsconductor.v1.{service}").methods
    }


def may(role: str, method: str) -> bool:
    try:
        authorize(Identity("default", role, "x"), method)
    except PermissionDenied:
        return False
    return True


def test_every_method_of_the_contract_is_decided_and_no_other() -> None:
    ours = {method for method in ALLOWED if method.startswith("/opsconductor.")}
    assert ours == methods_of_the_contract()


def test_every_role_of_the_matrix_exists() -> None:
    assert frozenset().union(*ALLOWED.values()) == ROLES


def test_a_one_use_certificate_may_enroll_and_nothing_else() -> None:
    assert {method for method in ALLOWED if may("enroll", method)} == {
        "/opsconductor.v1.AgentService/Enroll"
    }


def test_an_agent_may_run_its_session_ask_the_inventory_and_look_at_health() -> None:
    assert {method for method in ALLOWED if may("agent", method)} == {
        "/opsconductor.v1.AgentService/Control",
        "/opsconductor.v1.AgentService/Output",
        "/opsconductor.v1.AgentService/RenewCertificate",
        "/opsconductor.v1.InventoryService/Change",
        "/opsconductor.v1.InventoryService/Query",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }


@pytest.mark.parametrize(
    "method",
    [
        "ApprovalService/Decide",
        "ExecutionService/ResolveUnknown",
        "InventoryService/Import",
        "InventoryService/Delete",
        "AgentAdminService/CreateJoinToken",
        "AgentAdminService/Drain",
        "AgentAdminService/Retire",
    ],
)
def test_a_service_never_decides_for_people(method: str) -> None:
    assert not may("service", f"/opsconductor.v1.{method}")
    assert may("operator", f"/opsconductor.v1.{method}")


def test_people_and_services_never_act_as_agents() -> None:
    for method in ALLOWED:
        if method.startswith("/opsconductor.v1.AgentService/"):
            assert not may("operator", method)
            assert not may("service", method)


@pytest.mark.parametrize("role", sorted(ROLES))
@pytest.mark.parametrize("method", ["/opsconductor.v1.PlanService/Invented", "", "/x/y"])
def test_an_unknown_method_is_denied_to_everybody(role: str, method: str) -> None:
    assert not may(role, method)


def test_the_refusal_names_role_person_and_method() -> None:
    with pytest.raises(PermissionDenied) as refused:
        authorize(Identity("default", "service", "bot"), "/opsconductor.v1.ApprovalService/Decide")
    assert refused.value.message == (
        "service bot may not call opsconductor.v1.ApprovalService/Decide"
    )
