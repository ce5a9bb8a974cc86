"""A real Debian host with systemd, OpenSSH and containers to use tools on, in namespaces.

The root is made once by debootstrap (about two minutes) and kept in the user's cache; each boot
takes seconds and forgets every change. It needs root and changes nothing of this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "procps"),
    *("iproute2", "iputils-ping", "cron", "at", "logrotate", "rsyslog", "sysstat", "lsof"),
    *("ethtool", "acl", "psmisc", "util-linux", "util-linux-extra", "pciutils", "dmidecode"),
    *("smartmontools", "nftables", "iptables", "ufw", "fail2ban", "needrestart", "kmod"),
    *("ca-certificates", "openssl", "python3", "python3-systemd", "podman", "runc"),
    *("busybox-static", "tini", "docker.io", "netcat-openbsd", "bind9-host", "dnsutils"),
    *("traceroute", "mtr-tiny", "iputils-tracepath", "apt-utils", "gawk", "collectd-core"),
)
RUN = os.getpid() % 250 + 1
LINK = f"opsc-lab{RUN}"
"""This machine's end of the link; each run has one of its own."""
NETWORK = f"10.77.{RUN}"
BOOT_SECONDS = 60
_IN_ROOT = (
    *("unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-euc"),
    'mount -t proc proc "$0/proc"; exec env DEBIAN_FRONTEND=noninteractive chroot "$0" sh -eu',
)
MADE = "opsconductor-lab"
"""File that says that a root is complete, and for which packages it was made."""


@dataclass(frozen=True)
class Lab:
    """The running host and how to log in."""

    address: str
    key: Path
    host_key: str
    username: str = "root"


def root_folder() -> Path:
    """Returns where the root is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "opsconductor/targets/debian"


def missing() -> str:
    """Returns why there can be no such host here; empty when there can."""
    if os.geteuid() != 0:
        return "a host in namespaces needs root"
    if not is_made() and shutil.which("debootstrap", path=_path()) is None:
        return "debootstrap is missing: apt-get install debootstrap"
    return ""


def is_made() -> bool:
    """Returns whether the root is there and complete."""
    mark = root_folder() / MADE
    return mark.exists() and mark.read_text() == _recipe()


def make() -> None:
    """Makes the root anew; takes a couple of minutes and the Debian archive."""
    root = root_folder()
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    _run("debootstrap", "--variant=minbase", SUITE, str(root))
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # nothing starts in the root before it is booted
    policy.chmod(0o755)
    install = "apt-get -q update && apt-get -qy install --no-install-recommends " + " ".join(
        PACKAGES
    )
    for script in (install, (HERE / "furnish.sh").read_text()):
        _run(*_IN_ROOT, str(root), stdin=script)
    policy.unlink()
    (root / MADE).write_text(_recipe())


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Lab]:
    """Boots the host, gives it to the test once sshd answers, and ends it."""
    if not is_made():
        make()
    key = folder / "id_lab"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    work = folder / "lab"
    work.mkdir()
    log = (folder / "lab.log").open("wb")
    process = subprocess.Popen(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net"),
            *("--cgroup", "--propagation", "private", "bash", str(HERE / "boot.sh")),
        ],
        env={"PATH": _path(), "ROOT": str(root_folder()), "WORK": str(work)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        init = _child_of(process, folder / "lab.log")
        _join_network(init)
        host_key = _let_in(init, key)
        yield Lab(f"{NETWORK}.2", key, host_key)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
        subprocess.run(["ip", "link", "delete", LINK], check=False, capture_output=True)


def _recipe() -> str:
    return " ".join(PACKAGES) + "\n" + (HERE / "furnish.sh").read_text()


def _path() -> str:
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _run(*words: str, stdin: str = "") -> str:
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, input=stdin, env={"PATH": _path()}
    )
    assert done.returncode == 0, (
        f"{' '.join(words)[:300]}: {done.stdout[-800:]}{done.stderr[-800:]}"
    )
    return done.stdout


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
    _run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(init))
    _run("ip", "addr", "add", f"{NETWORK}.1/30", "dev", LINK)
    _run("ip", "link", "set", LINK, "up")
    inside = ("nsenter", "--target", str(init), "--net")
    _run(*inside, "ip", "addr", "add", f"{NETWORK}.2/30", "dev", "eth0")
    _run(*inside, "ip", "link", "set", "eth0", "up")


def _let_in(init: int, key: Path) -> str:
    """Puts the key in, waits until a login works, and returns the host's public key."""
    inside = ("nsenter", "--target", str(init), "--mount", "--pid", "--net", "--uts", "--ipc")
    public = key.with_suffix(".pub").read_text()
    script = (
        "for home in /root /home/opsadmin /home/guest; do mkdir -p $home/.ssh\n"
        f"cat >$home/.ssh/authorized_keys <<X\n{public}X\n"
        "chown -R $(stat -c %u:%g $home) $home/.ssh; chmod 700 $home/.ssh; done\n"
    )
    _run(*inside, "sh", "-eu", "-c", script)
    known = _run(*inside, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").rsplit(" ", 1)[0]
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        done = subprocess.run(
            [
                *("ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2"),
                *(f"root@{NETWORK}.2", "systemctl is-system-running --wait"),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.stdout.strip() in ("running", "degraded"):
            return known
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.2)
