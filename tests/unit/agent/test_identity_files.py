"""An agent without the files that prove who it is says so, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from opsconductor.agent.session.enroll import (
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    AgentCertificates,
    NotEnrolled,
)
from opsconductor.orchestrator.pki import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of an agent that has joined, and the key of another beside them."""
    now = datetime.now(UTC)
    authority = CertificateAuthority.load_or_create(tmp_path / "ca", now=now)
    for name in ("", "another."):
        certificate, key = authority.issue_client(
            "agent", "local", "default", timedelta(hours=1), now=now
        )
        (tmp_path / f"{name}{CERTIFICATE_FILE}").write_bytes(certificate)
        (tmp_path / f"{name}{KEY_FILE}").write_bytes(key)
    (tmp_path / CA_FILE).write_bytes(authority.certificate_pem)
    return tmp_path


def _into_a_folder(folder: Path) -> None:
    (folder / KEY_FILE).unlink()
    (folder / KEY_FILE).mkdir()


def test_whole_files_say_who_it_is(folder: Path) -> None:
    assert AgentCertificates(folder).identity().name == "local"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / CERTIFICATE_FILE).unlink(), "run 'opsconductor-agent join'"),
        (lambda folder: (folder / CERTIFICATE_FILE).write_text("x"), "cannot be read"),
        (lambda folder: (folder / KEY_FILE).unlink(), "agent.key is missing"),
        (lambda folder: (folder / KEY_FILE).write_text("x"), "agent.key cannot be read"),
        (_into_a_folder, "agent.key cannot be read: .*Put the file back"),
        (
            lambda folder: (folder / f"another.{KEY_FILE}").rename(folder / KEY_FILE),
            "agent.key is of another agent",
        ),
        (lambda folder: (folder / CA_FILE).unlink(), "no orchestrator can be trusted"),
    ],
)
def test_what_is_missing_is_named_at_the_start_and_at_every_connection(
    folder: Path, damage: Callable[[Path], None], said: str
) -> None:
    certificates = AgentCertificates(folder)
    damage(folder)
    with pytest.raises(NotEnrolled, match=said):
        certificates.identity()
    with pytest.raises(NotEnrolled, match=said):
        certificates.open_channel("127.0.0.1:1")


def test_without_its_key_the_way_out_is_told(folder: Path) -> None:
    (folder / KEY_FILE).unlink()
    with pytest.raises(NotEnrolled, match="let 'opsctl agents retire' settle"):
        AgentCertificates(folder).identity()
