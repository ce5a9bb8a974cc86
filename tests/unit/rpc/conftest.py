from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from helpers.secure_server import SecureServer
from opsconductor.orchestrator.pki import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def ca(tmp_path: Path, now: datetime) -> CertificateAuthority:
    return CertificateAuthority.load_or_create(tmp_path / "pki", now=now)


@pytest.fixture
async def secure_server(ca: CertificateAuthority, now: datetime) -> AsyncIterator[SecureServer]:
    server = SecureServer(ca, now)
    yield server
    await server.server.stop(None)
