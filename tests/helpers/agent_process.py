"""Real agent processes that join orchestrators of a test over mTLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from helpers.fake_orchestrator import FakeOrchestrator
from helpers.orders import Orchestrator, Person, body_of
from opsconductor.orchestrator.pki import make_token_file
from opsconductor.rpc.channel import server_credentials
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.order import Order
    from opsconductor.orchestrator.pki import CertificateAuthority

ALICE = Person.new("alice")
RUN_COMMAND = Registry.load().get("run_command")


@dataclass
class AgentProcess:
    """One agent folder and the processes that run in it."""

    folder: Path
    token_file: Path
    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    """Command that starts the agent's own, such as ``unshare -rm``."""
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @classmethod
    def new(
        cls, folder: Path, authority: CertificateAuthority, *servers: FakeOrchestrator
    ) -> AgentProcess:
        """Makes a token and the signers beside where the agent's folder will be."""
        now = datetime.now(UTC)
        lifetime = timedelta(minutes=15)
        text, _, _ = make_token_file(authority, "default", "local", "dmz", lifetime, now=now)
        (folder / "token").write_text(text)
        signers = folder / "signers"
        signers.write_text(ALICE.signer_line + "\n")
        signers.chmod(0o600)
        return cls(folder / "agent", folder / "token", servers[0].endpoint)

    async def start(self, *arguments: str, failpoint: str = "") -> asyncio.subprocess.Process:
        environment = {**os.environ, "OPSCONDUCTOR_AGENT_DRAIN_GRACE": "5s", **self.environment}
        if failpoint:
            environment |= {"OPSCONDUCTOR_FAILPOINTS": "1", "OPSCONDUCTOR_FAILPOINT": failpoint}
        process = await asyncio.create_subprocess_exec(
            *self.before,
            sys.executable,
            *("-m", "opsconductor.agent.main"),
            *arguments,
            *("--data-dir", str(self.folder)),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    async def join(self, *more: str, failpoint: str = "") -> asyncio.subprocess.Process:
        arguments = ("--endpoint", self.endpoint, "--token-file", str(self.token_file))
        signers = ("--allowed-signers", str(self.token_file.with_name("signers")))
        return await self.start("join", *arguments, *signers, *more, failpoint=failpoint)

    async def stop(self) -> None:
        """Ends them all; what they logged is shown where a test has failed."""
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            _, logged = await process.communicate()
            sys.stderr.write(logged.decode(errors="replace"))


def secured(authority: CertificateAuthority, port: int = 0) -> FakeOrchestrator:
    """Returns an orchestrator with certificates of an authority, which signs those of agents."""
    certificate = authority.server_certificate(now=datetime.now(UTC))

    def sign(csr: bytes) -> bytes:
        return authority.sign_csr(
            csr, "agent", "local", "default", timedelta(hours=1), now=datetime.now(UTC)
        )

    credentials = server_credentials(lambda: certificate, authority.certificate_pem)
    server = FakeOrchestrator(credentials, sign, port=port)
    server.timeout = 30.0  # a busy machine is no partition
    return server


def command(*argv: str, execution_id: str = "exec_1") -> Order:
    """Returns an order to run a command, approved where it is a change.

    Of an execution that only this test process has: an agent that ends an attempt looks for its
    processes by its id on the whole host, where other tests run at the same time.
    """
    execution_id = f"{execution_id}_{os.getpid()}"
    risk = "read_only" if argv[0] in ("echo", "sleep", "head") else "destructive"
    body = body_of(RUN_COMMAND, inputs={"argv": list(argv)}, risk=risk)
    return Orchestrator(execution_id, people=(ALICE,), at=datetime.now(UTC)).order(body)
