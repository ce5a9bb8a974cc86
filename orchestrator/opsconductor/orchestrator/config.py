"""Configuration: one frozen object from arguments and OPSCONDUCTOR_* variables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Everything the orchestrator is told from outside."""

    data_dir: Path
    listen: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    hosts: tuple[str, ...] = ()
    """Further names and addresses for the server's certificate."""
    store_url: str = ""
    """Empty keeps a SQLite file in the data directory."""
    policy: str = "embedded"
    """``embedded``, ``default`` or the path of a policy file."""
    tools: tuple[Path, ...] = ()
    """Further folders of tool definitions."""
    segment: str = "local"
    """Segment of the local agent."""
    ready_file: Path | None = None
    advertise: str = ""
    """Where agents and clients reach this orchestrator, host:port; empty takes the above."""
    pki_dir: Path | None = None
    """Folder of the certificate authority; None takes one in the data directory."""
    allowed_signers: Path | None = None
    """Who may sign approvals; None takes the file in the data directory."""
    lease: timedelta = timedelta(seconds=10)
    """How long an orchestrator that is silent keeps what it moves, on a store that is shared."""
    operator: str = ""
    """Name of the local operator; empty takes the login name."""
    tenant: str = "default"

    @property
    def authority_dir(self) -> Path:
        """Where the certificate authority is kept."""
        return self.pki_dir or self.data_dir / "pki"

    @property
    def signers_file(self) -> Path:
        """Who may sign approvals."""
        return self.allowed_signers or self.data_dir / "allowed_signers"

    @property
    def database_url(self) -> str:
        """The store's URL."""
        return self.store_url or f"sqlite:///{self.data_dir.absolute() / 'store.sqlite'}"
