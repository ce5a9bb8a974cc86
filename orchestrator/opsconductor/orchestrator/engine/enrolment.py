"""Enrolment: join tokens and the certificates agents get for them."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from opsconductor.orchestrator.store.base import CreateJoinToken, RedeemJoinToken
from opsconductor.orchestrator.store.rows import AgentRow
from opsconductor.rpc import ids
from opsconductor.rpc.errors import InvalidArgument, PermissionDenied
from opsconductor.rpc.token_file import hash_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opsconductor.orchestrator.engine.agents import Agents
    from opsconductor.orchestrator.engine.fleet import Member
    from opsconductor.orchestrator.store.store import Store

DEFAULT_TOKEN_TTL = timedelta(minutes=15)
MAX_TOKEN_TTL = timedelta(hours=24)
CERTIFICATE_TTL = timedelta(days=30)


class Authority(Protocol):
    """The part of the certificate authority that enrolment needs."""

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate."""

    def agent_certificate(self, csr: bytes, agent_id: str, tenant: str, ttl: timedelta) -> bytes:
        """Signs a request's key for an agent. Raises InvalidArgument."""

    def token_file(self, tenant: str, name: str, segment: str, ttl: timedelta) -> tuple[str, str]:
        """Makes a token file; returns (text, hash of the token)."""


class Enrolment:
    """Makes join tokens and trades them for certificates."""

    def __init__(
        self,
        store: Store,
        agents: Agents,
        authority: Authority,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._agents = agents
        self._authority = authority
        self._clock = clock

    async def create_token(
        self, tenant: str, name: str, segment: str, ttl: timedelta | None
    ) -> tuple[str, datetime]:
        """Returns the text of a token file for one new agent, and when it lapses."""
        ttl = ttl or DEFAULT_TOKEN_TTL
        if not timedelta(0) < ttl <= MAX_TOKEN_TTL:
            raise InvalidArgument(f"ttl is {ttl}: it must be more than 0 and at most 24 hours")
        if not name or not segment:
            raise InvalidArgument("name and segment of the agent to come are both required")
        # A key pair takes milliseconds of computing that nobody else should wait for.
        text, token_hash = await asyncio.to_thread(
            self._authority.token_file, tenant, name, segment, ttl
        )
        expires = self._clock() + ttl
        await self._store.commit(CreateJoinToken(token_hash, tenant, name, segment, expires))
        return text, expires

    async def enrol(self, token: str, csr: bytes, tenant: str) -> tuple[Member, bytes, bytes]:
        """Uses up a token; returns the new agent, its certificate and the CA's.

        Raises:
            TokenInvalid: Unknown, used or expired.
            DuplicateAgent: An agent of that name exists.
            InvalidArgument: The certificate request is not good.
        """
        now = self._clock()
        agent_id = ids.mint("agt", now)
        certificate = self._authority.agent_certificate(csr, agent_id, tenant, CERTIFICATE_TTL)
        (grant,) = await self._store.commit(RedeemJoinToken(hash_token(token), now, agent_id))
        if grant.tenant != tenant:
            raise PermissionDenied("the token belongs to another tenant")
        row = AgentRow(
            agent_id=agent_id,
            tenant=tenant,
            name=grant.name,
            segment=grant.segment,
            certificate_sha256=_sha256(certificate),
            certificate_expire_time=now + CERTIFICATE_TTL,
            journal_id="",
            draining=False,
            quarantined=False,
            facts=b"{}",
            last_seen_time=None,
            create_time=now,
        )
        member = await self._agents.enrolled(row)
        return member, certificate, self._authority.certificate_pem

    async def renew(self, member: Member, csr: bytes) -> bytes:
        """Returns a fresh certificate for a known agent."""
        if member.quarantined:
            raise PermissionDenied(f"agent {member.name} is quarantined: {member.quarantined}")
        certificate = self._authority.agent_certificate(
            csr, member.agent_id, member.tenant, CERTIFICATE_TTL
        )
        await self._agents.renewed(member, self._clock() + CERTIFICATE_TTL, _sha256(certificate))
        return certificate


def _sha256(certificate_pem: bytes) -> str:
    """Returns the fingerprint by which people and TLS tools know a certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate_pem.decode())).hexdigest()
