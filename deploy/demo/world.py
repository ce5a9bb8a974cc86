"""The demo's world: an orchestrator, two agents in two segments, SSH hosts and a trace receiver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from networks import Networks
from opsconductor.client.context import Context
from opsconductor.client.result import execution_result
from opsconductor.client.sync_client import SyncClient
from opsconductor.v1.agent_admin_service_pb2 import AGENT_STATE_ONLINE
from ssh_hosts import SshHost, find_sshd, offer_sshd
from traces import TraceReceiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stage import Stage

BIN = Path(sys.executable).parent
SEGMENTS = {"dmz": "web-server-01", "office": "app-server-01"}


class World:
    """Starts everything, knows where it is, and takes it down again."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = Path(tempfile.mkdtemp(prefix="opsconductor-demo-"))
        self.data = self.folder / "data"
        self.networks = Networks()
        self.hosts: dict[str, SshHost] = {}
        self.traces = TraceReceiver()
        self._agents: list[subprocess.Popen[bytes]] = []
        self._connected: SyncClient | None = None
        self._kept = False

    def __enter__(self) -> World:
        """Returns the world, not built yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes everything down unless it is to be kept."""
        if not self._kept:
            self.tear_down()

    # Building

    def build(self) -> None:
        """Starts networks, hosts, orchestrator and agents."""
        started = time.monotonic()
        sshd = find_sshd() or offer_sshd(self.stage)
        self.networks.build(list(SEGMENTS))
        kind = "OpenSSH" if sshd else "asyncssh stand-in (no sshd here)"
        for segment, name in SEGMENTS.items():
            host = SshHost(name, self.folder / "hosts" / name, self.networks.address(segment), sshd)
            host.start(self.networks.inside(segment))
            self.hosts[segment] = host
        self.traces.start()
        self.up()
        for segment in SEGMENTS:
            self._add_agent(segment)
        self._import_assets()
        self.wait(lambda: self._online() >= len(SEGMENTS) + 1, "all agents are connected")
        where = "network namespaces" if self.networks.isolated else "loopback addresses"
        seconds = time.monotonic() - started
        self.stage.say(
            f"ready in {seconds:.1f} s: one orchestrator, 3 agents, segments dmz and office on "
            f"{where}, 2 SSH hosts ({kind})"
        )

    def up(self) -> None:
        """Starts the orchestrator and the local agent, also over the remains of a kill -9."""
        self._run([BIN / "opsctl", "up", "--data-dir", self.data, "--detach"])

    def kill_orchestrator(self) -> int:
        """Ends the orchestrator with SIGKILL; returns its process id."""
        ready = json.loads((self.data / "orchestrator.ready").read_text())
        pid = int(ready["pid"])
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not _alive(pid), "the orchestrator is gone")
        return pid

    def keep(self) -> None:
        """Leaves everything running and says how to go on."""
        self._kept = True
        self.stage.say("\nEverything keeps running. Three commands to copy:")
        self.stage.say(f"  export OPSCONDUCTOR_CONTEXT={self.data / 'context.yaml'}")
        self.stage.say(f"  {BIN / 'opsctl'} runs list")
        stop = f"{sys.executable} {Path(__file__).parent / 'stop.py'} {self.folder}"
        self.stage.say(f"  {stop}   # ends it all")
        self._write_pids()

    def tear_down(self) -> None:
        """Ends everything this world started and removes its folder."""
        if self._connected:
            self._connected.close()
        with contextlib.suppress(Exception):
            self._run([BIN / "opsctl", "down", "--data-dir", self.data], check=False)
        for agent in self._agents:
            _end(agent)
        for host in self.hosts.values():
            host.stop()
        self.traces.stop()
        self.networks.remove()
        if self.stage.claims and not self.stage.all_true:
            self._keep_logs()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_logs(self) -> None:
        logs = Path(tempfile.mkdtemp(prefix="opsconductor-demo-logs-"))
        for log in (*self.folder.glob("*.log"), *(self.data / "logs").glob("*.log")):
            shutil.copy(log, logs)
        self.stage.say(f"the logs of this run are kept in {logs}")

    # Using

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of the demo."""
        return {
            **os.environ,
            "OPSCONDUCTOR_CONTEXT": str(self.data / "context.yaml"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        }

    def opsctl(self, *words: str | Path, expect: int | None = None) -> str:
        """Runs opsctl as the visitor would and shows command and output; returns the output."""
        shown = " ".join(_quoted(str(word)) for word in words)
        self.stage.command(f"opsctl {shown}")
        if self.stage.interactive and words[0] == "run" and "-f" in words:
            code = subprocess.run(
                [BIN / "opsctl", *words], env=self.environment, check=False
            ).returncode
            output = ""
        else:
            done = self._run([BIN / "opsctl", *words], check=False)
            code, output = done.returncode, done.stdout.decode(errors="replace")
            self.stage.show(output + done.stderr.decode(errors="replace"))
        if expect is not None:
            self.stage.claim(f"the exit code is {expect}", held=code == expect)
        return output

    def latest(self, state: str = "") -> str:
        """Returns the id of the newest execution, of those in a state if one is named."""
        listed = self._client().list(states=[state] if state else [], page_size=1)
        return listed.executions[0].execution_id

    def result(self, execution_id: str = "") -> dict[str, Any]:
        """Returns the result object of an execution; of the newest one unless named."""
        return execution_result(self._client().get(execution_id or self.latest()))

    def plan(self, name: str, text: str) -> Path:
        """Writes a plan file and returns it."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def approve_flag(self) -> tuple[str, ...]:
        """Returns ``--yes`` where nobody can be asked."""
        return () if self.stage.interactive else ("--yes",)

    def wait(self, true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Waits until something is true; raises TimeoutError naming it."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:g} s it is not so that {what}")
            time.sleep(0.05)

    def agent_folder(self, segment: str) -> Path:
        """Returns the folder of a segment's agent."""
        return self.folder / f"agent-{segment}"

    # Inside

    def _add_agent(self, segment: str) -> None:
        token = self.folder / f"{segment}.token"
        self._run(
            [
                *(BIN / "opsctl", "agents", "token", "create", f"{segment}-1"),
                *("--segment", segment, "--file", token),
            ]
        )
        folder = self.agent_folder(segment)
        folder.mkdir(mode=0o700)
        host = self.hosts[segment]
        credentials = folder / "credentials.yaml"
        credentials.write_text(
            f"{host.name}-login:\n  kind: ssh\n  username: {host.user}\n"
            f"  private_key_file: {host.client_key}\n"
        )
        credentials.chmod(0o600)
        endpoint = self.networks.endpoint(segment, self._endpoint())
        traces = self.networks.endpoint(segment, self.traces.endpoint.removeprefix("http://"))
        log = (self.folder / f"agent-{segment}.log").open("wb")
        self._agents.append(
            subprocess.Popen(
                [
                    *self.networks.inside(segment),
                    BIN / "opsconductor-agent",
                    *("join", "--endpoint", endpoint, "--token-file", token),
                    *("--data-dir", folder),
                    *("--allowed-signers", self.data / "allowed_signers"),
                ],
                env={**self.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{traces}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )

    def _import_assets(self) -> None:
        assets = [
            {"name": f"ws-{number:02}", "type": "windows_workstation", "segment": "office"}
            for number in range(1, 7)
        ]
        workstations = self.folder / "workstations.yaml"
        workstations.write_text(json.dumps({"assets": assets}))
        self._run([BIN / "opsctl", "assets", "import", workstations])

    def import_servers(self) -> None:
        """Adds the two SSH hosts to the inventory."""
        servers = self.folder / "servers.yaml"
        assets = [host.asset(segment) for segment, host in self.hosts.items()]
        servers.write_text(json.dumps({"assets": assets}))
        self._run([BIN / "opsctl", "assets", "import", servers])

    def _online(self) -> int:
        agents = self._client().list_agents().agents
        return sum(1 for agent in agents if agent.state == AGENT_STATE_ONLINE)

    def _client(self) -> SyncClient:
        """Returns the operator's client; what is not shown need not be a command of its own."""
        if self._connected is None:
            self._connected = SyncClient(Context.load(self.data / "context.yaml"))
        return self._connected

    def _endpoint(self) -> str:
        return str(json.loads((self.data / "context.yaml").read_text())["endpoint"])

    def _run(
        self, words: list[str | Path], *, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if check and done.returncode:
            text = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(str(word) for word in words)}: {text}")
        return done

    def _write_pids(self) -> None:
        pids = [agent.pid for agent in self._agents]
        pids += [host.pid for host in self.hosts.values() if host.pid]
        record = {"pids": pids, "namespaces": self.networks.names}
        (self.folder / "demo.json").write_text(json.dumps(record))


def _quoted(word: str) -> str:
    return f"'{word}'" if any(character in word for character in ' "[]{}') else word


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
