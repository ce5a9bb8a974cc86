"""The roster: agents between the fleet and their rows in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.fleet import Member
from opsconductor.rpc import canonical

if TYPE_CHECKING:
    from opsconductor.orchestrator.store.rows import AgentRow

KEPT_OUT = "kept out by an operator"


def member_of(row: AgentRow) -> Member:
    """Returns an enrolled agent as the fleet knows it before it connects."""
    member = Member(agent_id=row.agent_id, name=row.name, segment=row.segment, tenant=row.tenant)
    member.session_epoch = row.session_epoch
    facts = _facts(row)
    member.version = facts.get("version", "")
    member.services = frozenset(facts.get("services", ()))
    member.methods = frozenset(facts.get("methods", ()))
    member.labels = facts.get("labels", {})
    member.capacity = facts.get("capacity", 0)
    member.last_seen = row.last_seen_time
    refresh(member, row)
    return member


def refresh(member: Member, row: AgentRow) -> None:
    """Takes over what the store knows better than memory: others may have written it."""
    facts = _facts(row)
    member.draining = row.draining
    member.quarantined = (facts.get("quarantine") or KEPT_OUT) if row.quarantined else ""
    member.certificate_expires = row.certificate_expire_time
    member.certificate_sha256 = row.certificate_sha256
    member.create_time = row.create_time
    member.journal_id = row.journal_id
    member.boot_id = facts.get("boot_id", "")
    member.instances = list(facts.get("instances", ()))
    member.crashes = dict(facts.get("crashes", {}))
    member.kept_tools = dict(facts.get("kept_tools", {}))
    member.restored_epoch = facts.get("restored_epoch", 0)


def facts_of(member: Member) -> bytes:
    """Returns what is known of an agent beside the columns of its row, as JSON."""
    facts = {
        "version": member.version,
        "services": sorted(member.services),
        "methods": sorted(member.methods),
        "labels": dict(member.labels),
        "capacity": member.capacity,
        "boot_id": member.boot_id,
        "instances": member.instances,
        "crashes": member.crashes,
        "kept_tools": member.kept_tools,
        "restored_epoch": member.restored_epoch,
        "quarantine": member.quarantined,
    }
    return canonical.dumps(facts)


def _facts(row: AgentRow) -> dict[str, Any]:
    facts = canonical.loads(row.facts) if row.facts else {}
    return facts if isinstance(facts, dict) else {}
