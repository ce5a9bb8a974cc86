"""A real Debian host with systemd, OpenSSH and containers to use tools on, in namespaces.

Each boot takes seconds and forgets every change. It needs root and changes nothing of this machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools_live import debian_root
from tools_live.debian_root import run

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RUN = os.getpid() % 250 + 1
LINK = f"opsc-lab{RUN}"
"""This machine's end of the link; each run has one of its own."""
NETWORK = f"10.77.{RUN}"
BOOT_SECONDS = 60


@dataclass(frozen=True)
class Lab:
    """The running host and how root logs in."""

    address: str
    key: Path
    host_key: str

    def ssh(self, *words: str) -> list[str]:
        """Returns the command that logs in as root; words are options and a remote command."""
        options = ["StrictHostKeyChecking=no", "BatchMode=yes", "UserKnownHostsFile=/dev/null"]
        options += ["LogLevel=ERROR", "ConnectTimeout=10"]
        given = [word for option in options for word in ("-o", option)]
        return ["ssh", "-i", str(self.key), *given, f"root@{self.address}", *words]


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Lab]:
    """Boots the host, gives it to the test once sshd answers, and ends it."""
    with debian_root.held() as root:
        key = folder / "id_lab"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        work = folder / "lab"
        work.mkdir()
        with (folder / "lab.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc"),
                    *("--net", "--cgroup", "--propagation", "private"),
                    *("bash", str(HERE / "boot.sh")),
                ],
                env={"PATH": debian_root.PATH, "ROOT": str(root), "WORK": str(work)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            init = _child_of(process, folder / "lab.log")
            _join_network(init)
            yield _let_in(init, key)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            subprocess.run(["ip", "link", "delete", LINK], check=False, capture_output=True)


def _child_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Waits for the host's first process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        found = children.read_text().split()
        if found and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd":
            return int(found[0])
        time.sleep(0.05)
    raise AssertionError(f"the host did not boot: {log.read_text()[-2000:]}")


def _join_network(init: int) -> None:
    run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(init))
    run("ip", "addr", "add", f"{NETWORK}.1/30", "dev", LINK)
    run("ip", "link", "set", LINK, "up")
    inside = ("nsenter", "--target", str(init), "--net")
    run(*inside, "ip", "addr", "add", f"{NETWORK}.2/30", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")


def _let_in(init: int, key: Path) -> Lab:
    """Puts the key in, waits until a login works, and returns the host."""
    inside = ("nsenter", "--target", str(init), "--mount", "--pid", "--net", "--uts", "--ipc")
    public = key.with_suffix(".pub").read_text()
    script = (
        "for home in /root /home/opsadmin /home/guest; do mkdir -p $home/.ssh\n"
        f"cat >$home/.ssh/authorized_keys <<X\n{public}X\n"
        "chown -R $(stat -c %u:%g $home) $home/.ssh; chmod 700 $home/.ssh; done\n"
    )
    run(*inside, "sh", "-eu", "-c", script)
    known = run(*inside, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").rsplit(" ", 1)[0]
    lab = Lab(f"{NETWORK}.2", key, known)
    state = lab.ssh("systemctl is-system-running --wait")
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        done = subprocess.run(state, check=False, capture_output=True, text=True)
        if done.stdout.strip() in ("running", "degraded"):
            return lab
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.2)
