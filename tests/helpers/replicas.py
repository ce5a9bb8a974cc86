"""Several orchestrators of real processes over one PostgreSQL, and agents that talk with them all.

Each orchestrator has a data directory of its own, as on machines of their own; what all must share,
the certificate authority and the file of those who may sign, is named to each.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from helpers.embedded_context import SCRIPTS
from helpers.postgres import private_cluster
from helpers.stack import ENDED, failpoint, status_word, wait_until
from opsconductor.client.context import Context
from opsconductor.client.sync_client import SyncClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from helpers.postgres import Cluster
    from opsconductor.v1 import execution_service_pb2 as pb

OWNER = """
SELECT r.address FROM leases l JOIN replicas r ON r.replica_id = l.replica_id
WHERE l.execution_id = $1
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """One process that is started, frozen and killed again and again."""

    log: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self, setting: str = "", **variables: str) -> None:
        """Starts it, armed or not; does not wait."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**kept, **variables, **(failpoint(setting) if setting else {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        """Whether it is there, frozen or not."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once."""
        if self.runs and self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 30.0) -> None:
        """Ends it as a service manager does."""
        if self.runs and self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Orchestrator(Program):
    """One orchestrator."""

    data: Path = field(kw_only=True)
    port: int = field(kw_only=True)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ready(self) -> Path:
        return self.data / "ready"

    def up(self, setting: str = "") -> None:
        """Starts it and waits until it takes calls, or has died of what it was armed with."""
        self.ready.unlink(missing_ok=True)
        self.start(setting)
        wait_until(lambda: self.ready.exists() or not self.runs, f"{self.endpoint} takes calls", 60)
        assert self.ready.exists() or setting, self.log.read_text()[-3000:]


@dataclass
class Replicas:
    """Orchestrators, their database and their agents."""

    folder: Path
    cluster: Cluster
    count: int = 3
    lease: float = 3.0
    orchestrators: list[Orchestrator] = field(default_factory=list)
    agents: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = self.cluster.new_database()
        for number in range(self.count):
            data = self.folder / f"orchestrator-{number}"
            data.mkdir(parents=True)
            port = _free_port()
            command = [
                *(str(SCRIPTS / "opsconductor-orchestrator"), "serve", "--data-dir", str(data)),
                *("--port", str(port), "--ready-file", str(data / "ready"), "--store", self.url),
                *("--pki-dir", str(self.folder / "pki"), "--lease", str(self.lease)),
                *("--allowed-signers", str(self.signers), "--operator", "olga"),
            ]
            self.orchestrators.append(
                Orchestrator(
                    self.folder / f"orchestrator-{number}.log", command, None, data=data, port=port
                )
            )

    # Life

    def up(self) -> None:
        """Starts every orchestrator that does not run."""
        for orchestrator in self.orchestrators:
            if not orchestrator.runs:
                orchestrator.up()

    def join(self, name: str, segment: str = "local", *words: str) -> None:
        """Starts one more agent and waits until every orchestrator talks with it."""
        token = self.folder / f"{name}.token"
        with self.client() as client:
            token.write_text(client.create_join_token(name, segment).token_file)
        token.chmod(0o600)
        endpoints = [word for o in self.orchestrators for word in ("--endpoint", o.endpoint)]
        folder = str(self.folder / f"agent-{name}")
        agent = Program(
            self.folder / f"agent-{name}.log",
            [
                *(str(SCRIPTS / "opsconductor-agent"), "join", *endpoints, *words),
                *("--token-file", str(token), "--data-dir", folder),
                *("--allowed-signers", str(self.signers)),
            ],
        )
        self.agents[name] = agent
        agent.start()
        self.await_sessions()
        agent.command = [str(SCRIPTS / "opsconductor-agent"), "run", "--data-dir", folder]

    def restart_agents(self) -> None:
        """Stops every agent and starts it again; does not wait for its sessions."""
        for agent in self.agents.values():
            agent.stop()
            agent.start()

    def await_sessions(self) -> None:
        """Waits until every agent that runs has a session at every orchestrator that runs."""
        count = "SELECT count(*) FROM agent_sessions WHERE state = 'online'"

        def all_there() -> bool:
            agents = sum(1 for agent in self.agents.values() if agent.runs)
            running = sum(1 for orchestrator in self.orchestrators if orchestrator.runs)
            return bool(self.fetch(count)[0][0] >= agents * running)

        wait_until(all_there, f"all agents talk with all orchestrators\n{self.logs()}")

    def down(self) -> None:
        """Stops everything."""
        for program in (*self.agents.values(), *self.orchestrators):
            if program.runs:
                with contextlib.suppress(ProcessLookupError):
                    program.signal(signal.SIGCONT)
                program.stop()

    # Asking

    @property
    def signers(self) -> Path:
        """Those who may sign, for orchestrators and agents alike."""
        return self.folder / "orchestrator-0" / "allowed_signers"

    def context(self, *numbers: int) -> Context:
        """Returns the operator's context with some endpoints, or all."""
        chosen = [self.orchestrators[n] for n in numbers] or self.orchestrators
        endpoints = tuple(orchestrator.endpoint for orchestrator in chosen)
        known = Context.load(self.folder / "orchestrator-0" / "context.yaml")
        return dataclasses.replace(known, endpoint=endpoints[0], endpoints=endpoints)

    @contextlib.contextmanager
    def client(self, *numbers: int) -> Iterator[SyncClient]:
        """Yields a client of some orchestrators, or of all."""
        with SyncClient(self.context(*numbers)) as client:
            yield client

    def run(self, client: SyncClient, plan: Mapping[str, Any], request_id: str = "") -> str:
        """Submits a plan and approves it; both may be repeated under one request id."""
        submitted = client.submit(json.dumps(plan).encode(), request_id=request_id).execution
        for approval_id in submitted.pending_approval_ids:
            client.approve(approval_id, self.context().signer(), reason="a test")
        return submitted.execution_id

    def wait_for(self, execution_id: str, *numbers: int, seconds: float = 60.0) -> pb.Execution:
        """Waits until an execution has ended, or waits for a person; asks some, or any."""
        found: list[pb.Execution] = []
        with self.client(*numbers) as client:

            def there() -> bool:
                found[:] = [client.get(execution_id)]
                return status_word(found[0]) in ENDED | {"attention_required"}

            try:
                wait_until(there, f"{execution_id} has ended", seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}: {found}\n{self.logs()}") from None
        return found[0]

    def owner(self, execution_id: str) -> Orchestrator | None:
        """Returns which orchestrator moves an execution, as the store has it."""
        rows = self.fetch(OWNER, execution_id)
        addresses = {row[0] for row in rows}
        return next((o for o in self.orchestrators if o.endpoint in addresses), None)

    def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """Asks the database."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                return list(await connection.fetch(sql, *arguments))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def logs(self) -> str:
        """Returns the last lines of every log."""
        return "\n".join(
            f"--- {file.name}\n{file.read_text()[-2500:]}" for file in self.folder.glob("*.log")
        )


def restart_one_after_the_other(
    replicas: Replicas, between: Callable[[], object] = lambda: None
) -> None:
    """Restarts every orchestrator as a rolling update does: stop, start, agents back, next."""
    for orchestrator in replicas.orchestrators:
        orchestrator.stop()
        orchestrator.up()
        replicas.await_sessions()
        between()


@contextlib.contextmanager
def several(folder: Path, agents: int = 2, **options: Any) -> Iterator[Replicas]:
    """Yields orchestrators that are up with agents that talk with all of them."""
    with private_cluster() as cluster:
        replicas = Replicas(folder, cluster, **options)
        try:
            replicas.up()
            for number in range(agents):
                replicas.join(f"agent-{number}")
            yield replicas
        finally:
            replicas.down()
