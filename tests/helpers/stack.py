"""An embedded OpsConductor of real processes: started, killed, started again, asked by opsctl."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.embedded_context import OPSCTL, SCRIPTS
from opsconductor.cli.embedded import START_SECONDS, Embedded
from opsconductor.client.context import Context
from opsconductor.client.sync_client import SyncClient
from opsconductor.v1.agent_admin_service_pb2 import AgentState
from opsconductor.v1.execution_service_pb2 import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opsconductor.v1.execution_service_pb2 import Execution

ENDED = frozenset(
    {
        *("completed", "failed", "timed_out", "unreachable", "cancelled", "cancel_unverified"),
        *("rejected", "expired", "rolled_back", "rollback_failed"),
    }
)
SECONDS = 60.0


def wait_until(true: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Waits for a condition of other processes; fails naming it."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"after {seconds:g} s it is not so that {what}"
        time.sleep(0.02)


def failpoint(setting: str) -> dict[str, str]:
    """Returns the environment that arms one crash point, such as ``store.after_commit:kill9``."""
    return {"OPSCONDUCTOR_FAILPOINTS": "1", "OPSCONDUCTOR_FAILPOINT": setting}


@dataclass
class Answer:
    """What a command answered."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The whole of stdout as one JSON document."""
        return json.loads(self.stdout)


@dataclass
class Stack:
    """One data directory with an orchestrator, its local agent, and agents that joined."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    """Environment of every process that is started."""
    segment: str | None = None
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = self.folder / "data"
        self.embedded = Embedded(self.data)
        self.ledger = self.folder / "ledger"
        """Where the commands of a test tell what they did."""

    def copy_to(self, folder: Path) -> Stack:
        """Returns a stack that begins with all this one keeps, which is down; on another port."""
        made = Stack(folder, dict(self.variables), self.segment)
        shutil.copytree(self.data, made.data, ignore=shutil.ignore_patterns("logs"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        before = (self.data / "port").read_text().strip()
        for name in ("port", "context.yaml", "agent/agent.yaml"):
            file = made.data / name
            file.write_text(file.read_text().replace(before, str(port)))
        return made

    # Life

    def up(self) -> None:
        """Starts what does not run, and waits until the local agent is connected."""
        command = ["up", "--data-dir", str(self.data), "--detach"]
        segment = ("--segment", self.segment) if self.segment else ()
        # Longer than it takes to give up by itself, for then it says why.
        answer = self.opsctl(*command, *segment, seconds=3 * START_SECONDS)
        assert answer.code == 0, answer.out + answer.err + self.logs()

    def start_orchestrator(self, setting: str = "") -> None:
        """Starts the orchestrator over existing data, armed or not; returns when it is ready."""
        ready = self.data / "orchestrator.ready"
        ready.unlink(missing_ok=True)
        command = [*self._serve(), "--ready-file", str(ready)]
        process = self.embedded.orchestrator.start(command, self._variables(setting))
        self._children.append(process)
        wait_until(lambda: ready.exists() or process.poll() is not None, "the orchestrator is up")

    def launch_orchestrator(self, setting: str) -> subprocess.Popen[bytes]:
        """Starts the orchestrator over existing data and does not wait: it may die at once."""
        return self._popen(self._serve(), "orchestrator-armed", setting)

    def start_agent(self, setting: str = "") -> None:
        """Starts the local agent over existing data, armed or not; does not wait."""
        command = [str(SCRIPTS / "opsconductor-agent"), "run", "--data-dir"]
        folder = str(self.embedded.agent_directory)
        process = self.embedded.agent.start([*command, folder], self._variables(setting))
        self._children.append(process)

    def kill_orchestrator(self) -> None:
        """Ends the orchestrator with SIGKILL."""
        _kill(self.embedded.orchestrator.find)

    def kill_agent(self) -> None:
        """Ends the local agent with SIGKILL; what it runs is left to itself."""
        _kill(self.embedded.agent.find)
        self.reap()

    def orchestrator_is_gone(self) -> bool:
        """Tells whether the orchestrator has died."""
        return self.embedded.orchestrator.find() is None

    def agent_is_gone(self) -> bool:
        """Tells whether the local agent has died."""
        self.reap()
        return self.embedded.agent.find() is None

    def reap(self) -> None:
        """Takes note of children that ended."""
        for child in self._children:
            child.poll()

    def join(self, name: str, segment: str, *words: str, token: Path | None = None) -> None:
        """Starts one more agent in a segment and waits until it is connected."""
        self.launch_agent(name, segment, *words, token=token)
        wait_until(lambda: self.agent_state(name) == "online", f"agent {name} is connected")

    def launch_agent(
        self, name: str, segment: str, *words: str, token: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts an agent that joins, and does not wait."""
        if token is None:
            token = self.folder / f"{name}.token"
            create = ("agents", "token", "create", name, "--segment", segment)
            assert self.opsctl(*create, "--file", str(token)).code == 0
        command = [
            *(str(SCRIPTS / "opsconductor-agent"), "join", "--endpoint", self.endpoint),
            *("--token-file", str(token), "--data-dir", str(self.folder / f"agent-{name}")),
            *("--allowed-signers", str(self.data / "allowed_signers"), *words),
        ]
        self.agents[name] = self._popen(command, f"agent-{name}")
        return self.agents[name]

    def run_agent(self, name: str) -> None:
        """Starts an agent over the folder of one that has joined, and does not wait."""
        command = [str(SCRIPTS / "opsconductor-agent"), "run", "--data-dir"]
        command.append(str(self.folder / f"agent-{name}"))
        self.agents[name] = self._popen(command, f"agent-{name}")

    def down(self) -> None:
        """Stops everything; an agent that does not end in time is killed."""
        for agent in self.agents.values():
            agent.terminate()
        self.embedded.agent.stop(10)
        self.embedded.orchestrator.stop(10)
        for child in self._children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._end_commands()

    def _end_commands(self) -> None:
        """Ends commands that outlived their agents, which in a test nobody takes up any more."""
        for file in self.folder.rglob("runs/*/command"):
            mark = f"OPSCONDUCTOR_ATTEMPT={file.parent.name}".encode()
            pid = int(file.read_text().split()[0])
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    os.killpg(pid, signal.SIGKILL)

    # Asking

    def opsctl(self, *words: str, stdin: bytes = b"", seconds: float = SECONDS) -> Answer:
        """Runs opsctl as a person does, without a terminal."""
        done = subprocess.run(
            [OPSCTL, *words],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def json(self, *words: str) -> Any:
        """Runs opsctl and returns its JSON document."""
        answer = self.opsctl(*words, "-o", "json")
        assert answer.stdout, answer.err
        return answer.json

    def environment(self) -> dict[str, str]:
        """Returns the environment of opsctl."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        context = {"OPSCONDUCTOR_CONTEXT": str(self.data / "context.yaml"), "NO_COLOR": "1"}
        path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **context, **self.variables, "PATH": path}

    @property
    def endpoint(self) -> str:
        """Where the orchestrator listens."""
        return str(json.loads((self.data / "context.yaml").read_text())["endpoint"])

    @property
    def context(self) -> Context:
        """The operator's context."""
        return Context.load(self.data / "context.yaml")

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncClient]:
        """Yields a client of the operator."""
        with SyncClient(self.context) as client:
            yield client

    def plan(self, document: Mapping[str, Any], name: str = "plan") -> str:
        """Writes a plan file and returns its path."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(document))
        return str(path)

    def submit(self, plan: Mapping[str, Any]) -> str:
        """Submits and approves a plan, and returns its execution's id without waiting for it."""
        words = ("run", "-f", self.plan(plan), "--yes", "--detach", "-o", "json")
        answer = self.opsctl(*words)
        assert answer.code == 0, answer.out + answer.err + self.logs()
        return str(answer.json["execution_id"])

    def status(self, execution_id: str) -> str:
        """Returns the status word of an execution."""
        with self.client() as client:
            return status_word(client.get(execution_id))

    def wait_for(self, execution_id: str, *states: str, seconds: float = SECONDS) -> Any:
        """Waits until an execution is in one of some states and returns its result object."""
        wanted = frozenset(states) or ENDED | {"attention_required"}
        what = f"{execution_id} is {' or '.join(sorted(wanted))}"
        with self.client() as client:
            try:
                wait_until(lambda: status_word(client.get(execution_id)) in wanted, what, seconds)
            except AssertionError as error:
                it_is = client.get(execution_id)
                raise AssertionError(f"{error}; it is {it_is}\n{self.logs()}") from None
        return self.json("runs", "get", execution_id)

    def agent_state(self, name: str) -> str:
        """Returns the state word of an agent; empty when there is none of that name."""
        with self.client() as client:
            agents = client.list_agents().agents
        states = [AgentState.Name(agent.state) for agent in agents if agent.name == name]
        return states[0].removeprefix("AGENT_STATE_").lower() if states else ""

    def logs(self) -> str:
        """Returns the last lines of every log."""
        files = [*sorted((self.data / "logs").glob("*.log")), *sorted(self.folder.glob("*.log"))]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2500:]}" for file in files)

    # Inside

    def _popen(self, command: list[str], name: str, setting: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment(), **self._variables(setting)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        return process

    def _serve(self) -> list[str]:
        port = (self.data / "port").read_text().strip()
        program = str(SCRIPTS / "opsconductor-orchestrator")
        return [program, "serve", "--data-dir", str(self.data), "--port", port]

    def _variables(self, setting: str) -> dict[str, str]:
        return {**self.variables, **(failpoint(setting) if setting else {})}


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Stack]:
    """Yields a stack that is up, and takes it down afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder, **options)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def status_word(execution: Execution) -> str:
    """Returns the word of an execution's state."""
    return ExecutionState.Name(execution.state).removeprefix("EXECUTION_STATE_").lower()


def _kill(find: Callable[[], int | None]) -> None:
    pid = find()
    assert pid is not None, "it does not run"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: find() is None, f"process {pid} is gone")
