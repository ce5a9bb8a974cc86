"""Several connections use one certificate; one of them replaces it, all go on with the new one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent.session import enroll
from opsconductor.agent.session.enroll import CERTIFICATE_FILE, AgentCertificates
from opsconductor.orchestrator.pki import CertificateAuthority

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_one_connection_renews_and_the_others_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    authority = CertificateAuthority.load_or_create(tmp_path / "ca", now=now)
    hours = timedelta(hours=10)

    def issue(age: timedelta) -> bytes:
        return authority.issue_client("agent", "local", "default", hours, now=now - age)[0]

    path = tmp_path / CERTIFICATE_FILE
    path.write_bytes(issue(timedelta(hours=6.5)))
    renewals: list[int] = []

    async def renew(_: Any, channel: int) -> None:
        renewals.append(channel)
        await asyncio.sleep(0)
        path.write_bytes(issue(timedelta(0)))

    monkeypatch.setattr(AgentCertificates, "_renew", renew)
    monkeypatch.setattr(enroll, "_LONGEST_SLEEP", 0.01)
    certificates = AgentCertificates(tmp_path)

    async def all_return() -> None:
        channels: Any = (1, 2, 3)
        async with asyncio.timeout(5):
            await asyncio.gather(*map(certificates.renew_when_due, channels))

    waiting = asyncio.create_task(all_return())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    path.write_bytes(issue(timedelta(hours=6)))  # another one, and not yet due either
    await waiting
    assert renewals == []
    path.write_bytes(issue(timedelta(hours=8)))
    await all_return()
    assert renewals == [1]
