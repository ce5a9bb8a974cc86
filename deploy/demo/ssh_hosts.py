"""SSH hosts: the real OpenSSH server run by hand, or an asyncssh server that stands in for it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from interrupts import HeldBack
from opsconductor.rpc import sshsig

PORT = 2222
WEB_PORT = 8088

_PROBE = """
import socket, sys, time
for _ in range(300):
    try:
        sys.exit(socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close())
    except OSError:
        time.sleep(0.05)
sys.exit(1)
"""

_SSHD_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PrintMotd no
"""

# The host's own service: a small web server with start, stop and status, as people write them.
_WEBCTL = """\
#!/bin/sh
# usage: webctl ACTION SERVICE
here={folder}
pid=$(cat "$here/web.pid" 2>/dev/null)
# Where nobody collects the dead (a container without an init), they still have a number.
alive() {{
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status"
}}
start() {{
  {python} -m http.server {web_port} --bind {address} --directory "$here/www" \\
    >>"$here/web.log" 2>&1 </dev/null &
  echo $! >"$here/web.pid"
  echo "started $2 (pid $!)"
}}
stop() {{
  if alive; then kill "$pid"; while alive; do sleep 0.05; done; fi
  echo "stopped $2"
}}
case "$1" in
  start) start "$@" ;;
  stop) stop "$@" ;;
  restart) stop "$@"; start "$@" ;;
  status) if alive; then echo "$2 runs (pid $pid)"; else echo "$2 is stopped"; exit 3; fi ;;
  *) echo "usage: webctl start|stop|restart|status SERVICE" >&2; exit 2 ;;
esac
"""


def find_sshd() -> str:
    """Returns the path of the OpenSSH server; empty when it is not there or would refuse us."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
    return "" if _account_is_locked(getpass.getuser()) else path


def _account_is_locked(user: str) -> bool:
    """Tells whether sshd would see a locked account; where it may not look, it does not mind."""
    try:
        entries = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    return any(entry.startswith(f"{user}:!") for entry in entries)


class SshHost:
    """One host with an SSH server and a small web service."""

    def __init__(self, name: str, folder: Path, address: str, sshd: str) -> None:
        self.name = name
        self.folder = folder
        self.address = address
        self.user = getpass.getuser()
        self._sshd = sshd
        self._port = PORT if address.startswith("10.") else _free_port(address)
        self._web_port = WEB_PORT if address.startswith("10.") else _free_port(address)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client_key(self) -> Path:
        """The private key that logs in."""
        return self.folder / "client_key"

    @property
    def pid(self) -> int:
        """Process id of the SSH server; 0 while it does not run."""
        return self._process.pid if self._process else 0

    @property
    def web_url(self) -> str:
        """Where the host's web service answers."""
        return f"http://{self.address}:{self._web_port}/"

    def start(self, inside: list[str]) -> None:
        """Makes keys and files and starts both servers; ``ready`` tells when they answer."""
        self.folder.mkdir(parents=True)
        (self.folder / "www").mkdir()
        (self.folder / "www" / "index.html").write_text(f"{self.name}\n")
        self._make_key("host_key")
        public = self._make_key("client_key")
        (self.folder / "authorized_keys").write_text(public + "\n")
        webctl = self.folder / "webctl"
        webctl.write_text(
            _WEBCTL.format(
                folder=self.folder,
                python=sys.executable,
                web_port=self._web_port,
                address=self.address,
            )
        )
        webctl.chmod(0o755)
        with (self.folder / "ssh.log").open("wb") as log, HeldBack():
            self._process = subprocess.Popen(
                [*inside, *self._server()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.control("start", inside)

    def ready(self, inside: list[str]) -> None:
        """Returns when the SSH server listens; raises RuntimeError with its log otherwise."""
        words = [*inside, sys.executable, "-c", _PROBE, self.address, str(self._port)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            log = (self.folder / "ssh.log").read_text()
            raise RuntimeError(f"the SSH server of {self.name} does not listen: {log}")

    def control(self, action: str, inside: list[str]) -> None:
        """Calls the host's service command from outside of OpsConductor."""
        subprocess.run(
            [*inside, self.folder / "webctl", action, "web"], check=False, capture_output=True
        )

    def web_pid(self) -> str:
        """Returns the process id of the web service as its pid file says."""
        return (self.folder / "web.pid").read_text().strip()

    def asset(self, segment: str) -> dict[str, Any]:
        """Returns the host as an asset of the inventory."""
        words = (self.folder / "host_key.pub").read_text().split()
        return {
            "name": self.name,
            "type": "linux_server",
            "address": self.address,
            "port": self._port,
            "segment": segment,
            "connection": "ssh",
            "credential": f"{self.name}-login",
            "service_manager": "command",
            "service_command": str(self.folder / "webctl"),
            "environment": "staging",
            "tags": ["demo"],
            "host_keys": [f"{words[0]} {words[1]}"],
        }

    def stop(self) -> None:
        """Ends the web service and the server."""
        self.control("stop", [])
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _server(self) -> list[str]:
        if not self._sshd:
            stand_in = str(Path(__file__).parent / "ssh_stand_in.py")
            return [sys.executable, stand_in, self.address, str(self._port), str(self.folder)]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            _SSHD_CONFIG.format(port=self._port, address=self.address, folder=self.folder)
        )
        return [self._sshd, "-D", "-e", "-f", str(config)]

    def _make_key(self, name: str) -> str:
        private, public = sshsig.generate_key(f"{self.name} {name}")
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(private)
        path.with_suffix(".pub").write_text(public + "\n")
        return public


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])
