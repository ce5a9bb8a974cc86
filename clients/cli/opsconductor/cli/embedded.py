"""The embedded deployment: one directory that holds an orchestrator, an agent and all they keep."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.cli.failure import Failed, UsageProblem
from opsconductor.cli.processes import BackgroundProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from opsconductor.rpc.token_file import TokenFile

START_SECONDS = 60.0
"""How long a process may take to be ready: a small machine may have to compile everything first."""
_GRACE_SECONDS = 15.0
_AGENT_GRACE_SECONDS = 45.0
"""Longer than an agent waits for what it runs: killed earlier, its work would end as unknown."""
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """What ``opsctl up`` was asked for; it matters to processes that are not running yet."""

    port: int | None = None
    tools: Path | None = None
    segment: str | None = None


class Embedded:
    """The processes and files of one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.context_file = self.directory / "context.yaml"
        self.token_file = self.directory / "local-agent.token"
        self.agent_directory = self.directory / "agent"
        self._ready_file = self.directory / "orchestrator.ready"
        self._port_file = self.directory / "port"
        self.orchestrator = self._process("orchestrator")
        self.agent = self._process("agent")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps two runs of ``opsctl up`` or ``down`` from working on one directory at a time."""
        with (self.directory / "up.lock").open("w") as lock:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise Failed(
                            f"another opsctl is starting or stopping {self.directory}"
                        ) from None
                    time.sleep(_POLL_SECONDS)
            yield

    def create(self) -> None:
        """Makes the directory, for its owner only; raises UsageProblem when it cannot be made."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageProblem(f"cannot make the data directory: {error}") from error

    def start_orchestrator(self, options: Options) -> bool:
        """Starts the orchestrator and waits until it takes calls; False when it runs already."""
        if self.orchestrator.find() is not None:
            return False
        require_servers()
        port = self._port(options.port)
        self._ready_file.unlink(missing_ok=True)
        arguments = [
            *("serve", "--data-dir", str(self.directory), "--port", str(port)),
            *("--ready-file", str(self._ready_file)),
            *(("--tools", str(options.tools.absolute())) if options.tools else ()),
            *(("--segment", options.segment) if options.segment else ()),
        ]
        process = self.orchestrator.start(_python("opsconductor.orchestrator.main", *arguments))
        self.wait(self.orchestrator, process, lambda: self._is_ready(process.pid))
        self._port_file.write_text(f"{port}\n")
        return True

    def start_agent(self, options: Options) -> subprocess.Popen[bytes] | None:
        """Starts the agent, which joins first when it has not yet; None when it runs already."""
        if self.agent.find() is not None:
            return None
        require_servers()
        if self.agent_is_enrolled:
            arguments = ["run", "--data-dir", str(self.agent_directory)]
        else:
            arguments = [
                *("join", "--endpoint", self.endpoint, "--token-file", str(self.token_file)),
                *("--data-dir", str(self.agent_directory)),
                *("--allowed-signers", str(self.directory / "allowed_signers")),
            ]
        # The settings file remembers the first endpoint; the port may have changed since.
        variables = {"OPSCONDUCTOR_AGENT_ENDPOINT": self.endpoint}
        if options.tools:
            from opsconductor.tool_registry import tools_root

            variables["OPSCONDUCTOR_AGENT_TOOLS"] = f"{tools_root()},{options.tools.absolute()}"
        return self.agent.start(_python("opsconductor.agent.main", *arguments), variables)

    @property
    def agent_is_enrolled(self) -> bool:
        """Whether the agent has joined: its settings are written last."""
        return (self.agent_directory / "agent.yaml").exists()

    @property
    def agent_name(self) -> str:
        """The name the local agent's token was made for."""
        return self._token().name

    @property
    def agent_segment(self) -> str:
        """The segment the local agent's token was made for."""
        return self._token().segment

    @property
    def endpoint(self) -> str:
        """Where the running orchestrator listens."""
        return str(self._ready().get("endpoint", ""))

    def stop(self) -> dict[str, str]:
        """Stops both, the agent first; returns what happened to each."""
        return {
            "agent": self.agent.stop(_AGENT_GRACE_SECONDS),
            "orchestrator": self.orchestrator.stop(_GRACE_SECONDS),
        }

    def ended(self) -> BackgroundProcess | None:
        """Returns a process of the two that does not run."""
        both = (self.orchestrator, self.agent)
        return next((process for process in both if process.find() is None), None)

    def wait(
        self,
        started: BackgroundProcess,
        process: subprocess.Popen[bytes] | None,
        ready: Callable[[], bool],
    ) -> None:
        """Waits until something is true of a process.

        Args:
            started: The process.
            process: Its handle; None when somebody else has started it.
            ready: What is waited for.

        Raises:
            Failed: The process ended, or it took too long; the message holds its last lines.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            what = _ending(started, process)
            if what is None and time.monotonic() > deadline:
                what = f"is not ready after {START_SECONDS:g} s"
            if what is not None:
                raise Failed(
                    f"the {started.name} {what}; the end of {started.log_file}:\n"
                    f"{started.log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def _token(self) -> TokenFile:
        from opsconductor.rpc.token_file import parse_token_file

        return parse_token_file(self.token_file.read_text())

    def _process(self, name: str) -> BackgroundProcess:
        return BackgroundProcess(
            name=name,
            pid_file=self.directory / f"{name}.pid",
            log_file=self.directory / "logs" / f"{name}.log",
        )

    def _ready(self) -> dict[str, Any]:
        try:
            value = json.loads(self._ready_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _is_ready(self, pid: int) -> bool:
        return self._ready().get("pid") == pid

    def _port(self, wanted: int | None) -> int:
        """Returns the wanted port, else that of last time (agents know it), else a free one."""
        if wanted is not None:
            return wanted
        with contextlib.suppress(OSError, ValueError):
            return int(self._port_file.read_text())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])


def require_servers() -> None:
    """Raises UsageProblem saying what to install when the server distribution is absent."""
    missing = [name for name in ("orchestrator", "agent") if not part_is_installed(name)]
    if missing:
        raise UsageProblem(
            f"the {' and the '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed "
            "in this Python; opsctl alone is a client. Install them with: "
            "pip install 'opsconductor[orchestrator,agent]'"
        )


def part_is_installed(name: str) -> bool:
    """Tells whether a part of the server distribution can be imported, without importing it."""
    try:
        return importlib.util.find_spec(f"opsconductor.{name}.main") is not None
    except ModuleNotFoundError:
        return False


def _ending(started: BackgroundProcess, process: subprocess.Popen[bytes] | None) -> str | None:
    """Returns how a process has ended; None while it runs."""
    if process is None:
        return "has ended" if started.find() is None else None
    code = process.poll()
    return f"ended with exit code {code}" if code is not None else None


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
