"""The roster: agents between the fleet and their rows in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.orchestrator.engine.fleet import Member
from opsconductor.orchestrator.store.facts import read

if TYPE_CHECKING:
    from opsconductor.orchestrator.engine.messages import Introduction
    from opsconductor.orchestrator.store.facts import Changes
    from opsconductor.orchestrator.store.rows import AgentRow

KEPT_OUT = "kept out by an operator"
QUARANTINE = ("quarantine",)
"""Where an agent's facts say why it is kept out; the names below are places in them as well."""
KEPT_TOOLS = ("kept_tools",)
INSTANCES = ("instances",)
DIED = ("died",)
"""By tool, the processes that died with it at work."""
RESTORED_EPOCH = ("restored_epoch",)
JOURNAL_LOST_IN = ("journal_lost_in",)
"""The incarnation of the store in which it came with a new journal; what it knew before is lost."""


def member_of(row: AgentRow) -> Member:
    """Returns an enrolled agent as the fleet knows it before it connects."""
    member = Member(agent_id=row.agent_id, name=row.name, segment=row.segment, tenant=row.tenant)
    member.session_epoch = row.session_epoch
    facts = read(row.facts)
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
    facts = read(row.facts)
    member.draining = row.draining
    member.quarantined = (facts.get("quarantine") or KEPT_OUT) if row.quarantined else ""
    member.certificate_expires = row.certificate_expire_time
    member.certificate_sha256 = row.certificate_sha256
    member.create_time = row.create_time
    member.journal_id = row.journal_id
    member.boot_id = facts.get("boot_id", "")
    member.instances = list(facts.get("instances", ()))
    member.crashes = {tool: set(died) for tool, died in facts.get("died", {}).items()}
    member.kept_tools = dict(facts.get("kept_tools", {}))
    member.restored_epoch = facts.get("restored_epoch", 0)
    member.journal_lost_in = facts.get("journal_lost_in", "")


def said_by(said: Introduction, instances: list[str]) -> Changes:
    """Returns what an agent tells when it connects, as changes of its facts."""
    return {
        ("version",): said.version,
        ("services",): sorted(said.services),
        ("methods",): sorted(said.methods),
        ("labels",): dict(said.labels),
        ("capacity",): said.capacity,
        ("boot_id",): said.boot_id,
        INSTANCES: instances,
    }
