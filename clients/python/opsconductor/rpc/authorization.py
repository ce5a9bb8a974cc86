"""Which role may call which method; whatever is not written here is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.rpc.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.rpc.identity import Identity

_OPERATOR = frozenset({"operator"})
_PEOPLE_AND_SERVICES = frozenset({"operator", "service"})
_AGENT = frozenset({"agent"})
_ANY_MEMBER = frozenset({"operator", "service", "agent"})

_BY_SERVICE: Mapping[str, Mapping[frozenset[str], str]] = {
    "opsconductor.v1.PlanService": {_PEOPLE_AND_SERVICES: "Validate Preview"},
    "opsconductor.v1.ExecutionService": {
        _PEOPLE_AND_SERVICES: "Submit Get List Watch ReadOutput Cancel Pause Resume Rollback Probe",
        _OPERATOR: "ResolveUnknown",
    },
    # A service speaks for programs and models; deciding is for people.
    "opsconductor.v1.ApprovalService": {_PEOPLE_AND_SERVICES: "List Get", _OPERATOR: "Decide"},
    "opsconductor.v1.ToolService": {_PEOPLE_AND_SERVICES: "List Get Search Render Export"},
    "opsconductor.v1.InventoryService": {
        _PEOPLE_AND_SERVICES: "List",
        _ANY_MEMBER: "Query",
        _OPERATOR: "Import Delete",
        # Only what an approved attempt of the agent's own is about; see engine/asset_changes.py.
        _AGENT: "Change",
    },
    "opsconductor.v1.AgentAdminService": {
        _PEOPLE_AND_SERVICES: "List Get",
        _OPERATOR: "Drain Release Retire ConfirmRestore CreateJoinToken",
    },
    "opsconductor.v1.AgentService": {
        _AGENT: "RenewCertificate Control Output",
        frozenset({"enroll"}): "Enroll",
    },
    "grpc.health.v1.Health": {_ANY_MEMBER: "Check List Watch"},
    "grpc.reflection.v1alpha.ServerReflection": {_ANY_MEMBER: "ServerReflectionInfo"},
    "grpc.reflection.v1.ServerReflection": {_ANY_MEMBER: "ServerReflectionInfo"},
}

ALLOWED: Mapping[str, frozenset[str]] = {
    f"/{service}/{method}": roles
    for service, methods in _BY_SERVICE.items()
    for roles, names in methods.items()
    for method in names.split()
}
"""Roles by full method name, such as ``/opsconductor.v1.PlanService/Preview``."""


def authorize(
    identity: Identity, method: str, allowed: Mapping[str, frozenset[str]] = ALLOWED
) -> None:
    """Returns when the identity's role may call the method; raises PermissionDenied otherwise."""
    if identity.role in allowed.get(method, frozenset()):
        return
    raise PermissionDenied(
        f"{identity.role} {identity.name} may not call {method.lstrip('/')}",
        metadata={"role": identity.role, "method": method.lstrip("/")},
    )
