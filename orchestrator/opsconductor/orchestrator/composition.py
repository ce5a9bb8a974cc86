"""Composition root: makes every part and hands each what it needs."""

from __future__ import annotations

import asyncio
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from opsconductor.orchestrator import embedded
from opsconductor.orchestrator.domain.plans import policy_document
from opsconductor.orchestrator.domain.plans.policy import DEFAULT_POLICY, EMBEDDED_POLICY, Policy
from opsconductor.orchestrator.engine.agents import Agents
from opsconductor.orchestrator.engine.asset_changes import AssetChanges
from opsconductor.orchestrator.engine.clock_steps import boottime
from opsconductor.orchestrator.engine.cluster import Cluster
from opsconductor.orchestrator.engine.deciding import Deciding
from opsconductor.orchestrator.engine.engine import Engine
from opsconductor.orchestrator.engine.enrolment import Enrolment
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.history import History
from opsconductor.orchestrator.engine.inventory import Inventory
from opsconductor.orchestrator.engine.limits import Limits
from opsconductor.orchestrator.engine.listeners import Listeners
from opsconductor.orchestrator.engine.marking import Marking
from opsconductor.orchestrator.engine.neighbours import Neighbours
from opsconductor.orchestrator.engine.planning import Planner
from opsconductor.orchestrator.engine.probing import Probing
from opsconductor.orchestrator.engine.replica import Replica
from opsconductor.orchestrator.engine.submission import Submissions
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.orchestrator.servicers.agent_admin_servicer import AgentAdminServicer
from opsconductor.orchestrator.servicers.agent_servicer import AgentServicer
from opsconductor.orchestrator.servicers.approval_servicer import ApprovalServicer
from opsconductor.orchestrator.servicers.execution_servicer import ExecutionServicer
from opsconductor.orchestrator.servicers.inventory_servicer import InventoryServicer
from opsconductor.orchestrator.servicers.plan_servicer import PlanServicer
from opsconductor.orchestrator.servicers.tool_servicer import ToolServicer
from opsconductor.orchestrator.store.base import CreateJoinToken
from opsconductor.orchestrator.store.mark import Mark, MarkFile
from opsconductor.orchestrator.store.store import Store
from opsconductor.orchestrator.telemetry import Tracing
from opsconductor.rpc.allowed_signers import AllowedSigners
from opsconductor.rpc.channel import server_credentials, server_options
from opsconductor.rpc.errors import DocumentInvalid
from opsconductor.rpc.interceptors import server_interceptors
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.reloading import ToolFolders
from opsconductor.tool_registry.roots import tools_root
from opsconductor.v1 import (
    agent_admin_service_pb2_grpc,
    agent_service_pb2_grpc,
    approval_service_pb2_grpc,
    execution_service_pb2_grpc,
    inventory_service_pb2_grpc,
    plan_service_pb2_grpc,
    tool_service_pb2_grpc,
)

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from opsconductor.orchestrator.config import Config

SERVICES = (
    "opsconductor.v1.PlanService",
    "opsconductor.v1.ExecutionService",
    "opsconductor.v1.ApprovalService",
    "opsconductor.v1.ToolService",
    "opsconductor.v1.InventoryService",
    "opsconductor.v1.AgentAdminService",
    "opsconductor.v1.AgentService",
)


STOP_GRACE = 5.0  # seconds for calls that are under way
TOOLS_INTERVAL = timedelta(seconds=2)
"""How often tool files are looked at; a change is taken when it is seen twice."""


def now() -> datetime:
    """Returns the time, aware, in UTC: the clock that every part is given."""
    return datetime.now(UTC)


async def compose(config: Config, stack: AsyncExitStack) -> str:
    """Starts everything and returns the endpoint; the stack ends it all in reverse order."""
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = CertificateAuthority.load_or_create(
        config.authority_dir, now=now(), server=config.data_dir / "pki"
    )
    roots = (tools_root(), *config.tools)
    registry = Registry.load(roots)
    folders = ToolFolders(registry, roots, settle=True)
    policy = load_policy(config.policy)
    policy_document.require_known_tools(policy, registry.find, registry.suggest)
    tracing = Tracing.from_environment(os.environ)
    stack.callback(tracing.close)
    mark_file = MarkFile(config.data_dir / "store.mark")
    stack.callback(mark_file.close)
    store = await Store.open(config.database_url, clock=now)
    stack.push_async_callback(store.close)

    limits = Limits.from_environment(os.environ)
    fleet, listeners = Fleet(limits.tenant_attempts, limits.segment_attempts), Listeners()
    replica = Replica(store.shared, boottime, lease=config.lease)
    replica.rename(now())
    engine = Engine(store, fleet, listeners, now, tracing.finished, replica)
    agents = Agents(store, fleet, engine, now, boottime)
    await agents.load()
    marking = Marking(store, agents.restoring, engine, Mark(mark_file))
    stack.push_async_callback(marking.stop)
    await marking.start()
    planner = Planner(store, registry, policy, fleet, now)
    submissions = Submissions(store, planner, engine, now, limits)
    history = History(store, engine, listeners)
    probing = Probing(planner, submissions)
    deciding = Deciding(store, engine, planner, lambda: AllowedSigners.load(config.signers_file))
    enrolment = Enrolment(store, agents, embedded.Authority(ca, now), now)

    server = grpc.aio.server(interceptors=server_interceptors(), options=server_options())
    plan_service_pb2_grpc.add_PlanServiceServicer_to_server(PlanServicer(planner, fleet), server)
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(
        ExecutionServicer(store, engine, submissions, history, deciding, probing), server
    )
    approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(
        ApprovalServicer(store, engine, deciding, fleet), server
    )
    tool_service_pb2_grpc.add_ToolServiceServicer_to_server(
        ToolServicer(planner, lambda: folders.faults), server
    )
    inventory = Inventory(store, planner)
    inventory_service_pb2_grpc.add_InventoryServiceServicer_to_server(
        InventoryServicer(inventory, AssetChanges(store, engine, agents, inventory)), server
    )
    agent_admin_service_pb2_grpc.add_AgentAdminServiceServicer_to_server(
        AgentAdminServicer(fleet, agents, enrolment), server
    )
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(
        AgentServicer(store, fleet, agents, enrolment, engine, history, replica, now), server
    )
    healthy = await _add_health(server)
    advertised = config.advertise.rpartition(":")[0].strip("[]")
    hosts = (config.listen, platform.node(), *config.hosts, advertised)
    credentials = server_credentials(
        lambda: ca.server_certificate(_names(hosts), now=now()), ca.certificate_pem
    )
    port = server.add_secure_port(f"{config.listen}:{config.port}", credentials)
    endpoint = f"{config.listen}:{port}"
    replica.address = config.advertise or f"{_names(hosts)[0]}:{port}"
    neighbours = Neighbours(store, fleet, agents.restoring, planner, replica, now)
    cluster = Cluster(store, engine, fleet, neighbours, replica, now)

    if store.shared:
        await cluster.start()
    await engine.start()
    stack.push_async_callback(engine.stop)
    embedded.write_operator(config, ca, endpoint, now())
    await _write_local_token(config, ca, store)
    agents.start()
    await server.start()
    stack.push_async_callback(server.stop, STOP_GRACE)
    stack.push_async_callback(agents.stop)
    watching = asyncio.create_task(folders.watch(TOOLS_INTERVAL))
    stack.push_async_callback(_end, watching)
    if store.shared:
        # First of all: from then on others go on with what was moved here.
        stack.push_async_callback(cluster.leave)
    for name in SERVICES:
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    return endpoint


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def load_policy(name: str) -> Policy:
    """Returns a built-in policy, or reads a policy file. Raises DocumentInvalid."""
    built_in = {"embedded": EMBEDDED_POLICY, "default": DEFAULT_POLICY}
    if name in built_in:
        return built_in[name]
    from pathlib import Path

    return _read_policy(Path(name))


def _read_policy(path: Path) -> Policy:
    from opsconductor.tool_registry.documents import yaml_reader

    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DocumentInvalid(f"the policy file cannot be read: {exc}") from exc
    document, lines, faults = yaml_reader.load(data, max_bytes=1024 * 1024)
    if document is None or faults:
        raise DocumentInvalid(f"the policy file {path} cannot be read", faults=faults)
    return policy_document.read_policy(document, lines)


async def _add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return servicer


async def _write_local_token(config: Config, ca: CertificateAuthority, store: Store) -> None:
    """Makes the local agent's token at the first start of an embedded orchestrator."""
    file = config.data_dir / "local-agent.token"
    if config.policy != "embedded" or file.exists():
        return
    authority = embedded.Authority(ca, now)
    text, token_hash = await asyncio.to_thread(
        authority.token_file,
        config.tenant,
        embedded.LOCAL_AGENT,
        config.segment,
        embedded.LOCAL_TOKEN_TTL,
    )
    expires = now() + embedded.LOCAL_TOKEN_TTL
    await store.commit(
        CreateJoinToken(token_hash, config.tenant, embedded.LOCAL_AGENT, config.segment, expires)
    )
    embedded.write(file, text.encode(), 0o600)


def _names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Returns names a certificate can carry: a wildcard address is none."""
    return tuple(dict.fromkeys(host for host in hosts if host and host not in ("0.0.0.0", "::")))  # noqa: S104
