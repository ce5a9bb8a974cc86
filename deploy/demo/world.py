"""The demo's world: an orchestrator, two agents in two segments, SSH hosts, a trace receiver."""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from networks import Networks
from opsconductor.v1.agent_admin_service_pb2 import AGENT_STATE_ONLINE
from ssh_hosts import SshHost, find_sshd
from traces import TraceReceiver
from visitor import BIN, Visitor

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from stage import Stage

SEGMENTS = {"dmz": "web-server-01", "office": "app-server-01"}


class World(Visitor):
    """Starts everything, knows where it is, and takes it down again."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, Path(tempfile.mkdtemp(prefix="opsconductor-demo-")))
        self.networks = Networks()
        self.hosts: dict[str, SshHost] = {}
        self.traces = TraceReceiver()
        self._agents: list[subprocess.Popen[bytes]] = []
        self._kept = False

    def __enter__(self) -> Self:
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

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every program, with traces on."""
        return {
            **super().environment,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            # Kept running, the demo has no receiver any more; stopping must not wait for it.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }

    def build(self) -> None:
        """Starts networks, hosts, orchestrator and agents."""
        started = time.monotonic()
        sshd = find_sshd()
        self.networks.build(list(SEGMENTS))
        self.traces.start()
        with ThreadPoolExecutor(1) as beside:
            hosts = beside.submit(self._start_hosts, sshd)
            self.up()
            hosts.result()
        for segment in SEGMENTS:
            self._add_agent(segment)
        self._import_workstations()
        self.wait(lambda: self._online() > len(SEGMENTS), "all agents are connected")
        where = "network namespaces" if self.networks.isolated else "loopback addresses"
        kind = "OpenSSH" if sshd else "asyncssh servers stand in: no sshd lets us in here"
        self.stage.say(
            f"ready in {time.monotonic() - started:.1f} s: one orchestrator, 3 agents, "
            f"segments dmz and office on {where}, 2 SSH hosts ({kind})"
        )

    def up(self) -> None:
        """Starts the orchestrator and the local agent, also over the remains of a kill -9."""
        self.must("up", "--data-dir", self.data, "--detach")

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
        self._write_record()
        stop = f"{sys.executable} {Path(__file__).parent / 'stop.py'} {self.folder}"
        self.stage.say("\nEverything keeps running. Three commands to copy:")
        self.stage.say(f"  export OPSCONDUCTOR_CONTEXT={self.data / 'context.yaml'}")
        self.stage.say(f"  {BIN / 'opsctl'} runs list")
        self.stage.say(f"  {stop}   # ends it all")

    def tear_down(self) -> None:
        """Ends everything this world started and removes its folder; nothing interrupts it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for agent in self._agents:
            agent.terminate()
        with contextlib.suppress(Exception):
            self.program([BIN / "opsctl", "down", "--data-dir", self.data])
        for agent in self._agents:
            _end(agent)
        for host in self.hosts.values():
            host.stop()
        self.traces.stop()
        self.networks.remove()
        if self.stage.claims and not self.stage.all_true:
            self._keep_logs()
        shutil.rmtree(self.folder, ignore_errors=True)

    def import_servers(self) -> None:
        """Adds the two SSH hosts to the inventory."""
        self._import([host.asset(segment) for segment, host in self.hosts.items()])

    # Inside

    def _start_hosts(self, sshd: str) -> None:
        for segment, name in SEGMENTS.items():
            folder = self.folder / "hosts" / name
            self.hosts[segment] = SshHost(name, folder, self.networks.address(segment), sshd)
        for segment, host in self.hosts.items():
            host.start(self.networks.inside(segment))
        for segment, host in self.hosts.items():
            host.ready(self.networks.inside(segment))

    def _add_agent(self, segment: str) -> None:
        token = self.folder / f"{segment}.token"
        token.touch(mode=0o600)
        with self.client() as client:
            token.write_text(client.create_join_token(f"{segment}-1", segment).token_file)
        folder = self.folder / f"agent-{segment}"
        folder.mkdir(mode=0o700)
        self._write_credentials(folder / "credentials.yaml", self.hosts[segment])
        endpoint = self.networks.endpoint(segment, self._endpoint(), self.folder)
        receiver = self.traces.endpoint.removeprefix("http://")
        traces = self.networks.endpoint(segment, receiver, self.folder)
        with (self.folder / f"agent-{segment}.log").open("wb") as log:
            agent = subprocess.Popen(
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
        self._agents.append(agent)

    @staticmethod
    def _write_credentials(path: Path, host: SshHost) -> None:
        path.touch(mode=0o600)
        path.write_text(
            f"{host.name}-login:\n  kind: ssh\n  username: {host.user}\n"
            f"  private_key_file: {host.client_key}\n"
        )

    def _import_workstations(self) -> None:
        self._import(
            [
                {"name": f"ws-{number:02}", "type": "windows_workstation", "segment": "office"}
                for number in range(1, 7)
            ]
        )

    def _import(self, assets: list[dict[str, object]]) -> None:
        with self.client() as client:
            client.import_assets(document=json.dumps({"assets": assets}).encode())

    def _online(self) -> int:
        with self.client() as client:
            agents = client.list_agents().agents
        return sum(agent.state == AGENT_STATE_ONLINE for agent in agents)

    def _endpoint(self) -> str:
        return str(json.loads((self.data / "context.yaml").read_text())["endpoint"])

    def _write_record(self) -> None:
        pids = [*(agent.pid for agent in self._agents), *self.networks.pids]
        pids += [host.pid for host in self.hosts.values() if host.pid]
        record = {
            "pids": pids,
            "webctl": [str(host.folder / "webctl") for host in self.hosts.values()],
            "namespaces": self.networks.names,
        }
        (self.folder / "demo.json").write_text(json.dumps(record))

    def _keep_logs(self) -> None:
        logs = Path(tempfile.mkdtemp(prefix="opsconductor-demo-logs-"))
        for log in (*self.folder.glob("*.log"), *(self.data / "logs").glob("*.log")):
            shutil.copy(log, logs)
        self.stage.say(f"the logs of this run are kept in {logs}")


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
