"""The files of a Debian host: made once by debootstrap, kept in the user's cache.

Every recipe (packages and furnish.sh) has a folder of its own. Who uses a folder holds a lock that
others share; a folder nobody holds and no recipe here asks for is removed when another is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "procps"),
    *("iproute2", "iputils-ping", "cron", "at", "logrotate", "rsyslog", "sysstat", "lsof"),
    *("ethtool", "acl", "psmisc", "util-linux", "util-linux-extra", "pciutils", "dmidecode"),
    *("smartmontools", "nftables", "iptables", "ufw", "fail2ban", "needrestart", "kmod"),
    *("ca-certificates", "openssl", "python3", "python3-systemd", "podman", "runc"),
    *("busybox-static", "tini", "docker.io", "docker-registry", "netcat-openbsd", "bind9-host"),
    *("dnsutils", "traceroute", "mtr-tiny", "iputils-tracepath", "apt-utils", "gawk"),
    *("collectd-core", "collectd-utils", "dnsmasq-base", "vsftpd", "iperf3", "rabbitmq-server"),
)
FURNISH = (Path(__file__).parent / "furnish.sh").read_text()
RECIPE = " ".join(PACKAGES) + "\n" + FURNISH
MADE = "opsconductor-lab"
"""File that says that a root is complete."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNREACHABLE = ("Failed getting release file", "Couldn't download", "Temporary failure resolving")
_IN_ROOT = (
    *("unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-euc"),
    'mount -t proc proc "$0/proc"; exec env DEBIAN_FRONTEND=noninteractive chroot "$0" sh -eu',
)


class NoDebian(Exception):
    """There can be no Debian root here; says why."""


def folder() -> Path:
    """Returns where the root of this recipe is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    recipe = hashlib.sha256(RECIPE.encode()).hexdigest()[:12]
    return cache / f"opsconductor/targets/debian-{recipe}"


@contextlib.contextmanager
def held() -> Iterator[Path]:
    """Gives the root, made if need be, and keeps others from removing it; NoDebian says why not."""
    if os.geteuid() != 0:
        raise NoDebian("a host in namespaces needs root")
    root = folder()
    root.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(root).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not (root / MADE).exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / MADE).exists():  # another test process may have made it meanwhile
                _remove_unused(root)
                _make(root)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield root


def run(*words: str, stdin: str = "") -> str:
    """Runs a program of this machine and returns its output; it must succeed."""
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, input=stdin, env={"PATH": PATH}
    )
    said = done.stdout[-800:] + done.stderr[-800:]
    assert done.returncode == 0, f"{' '.join(words)[:300]}: {said}"
    return done.stdout


def _make(root: Path) -> None:
    """Makes the root anew; takes a few minutes and the Debian archive."""
    if shutil.which("debootstrap", path=PATH) is None:
        raise NoDebian("debootstrap is missing: apt-get install debootstrap")
    shutil.rmtree(root, ignore_errors=True)
    try:
        run("debootstrap", "--variant=minbase", SUITE, str(root))
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # nothing starts before the root is booted
        policy.chmod(0o755)
        wanted = " ".join(PACKAGES)
        install = f"apt-get -q update && apt-get -qy install --no-install-recommends {wanted}"
        for script in (install, FURNISH):
            run(*_IN_ROOT, str(root), stdin=script)
    except AssertionError as error:
        if any(sign in str(error) for sign in _UNREACHABLE):
            raise NoDebian(f"the Debian archive cannot be reached: {error}") from error
        raise
    policy.unlink()
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / MADE).touch()


def _remove_unused(wanted: Path) -> None:
    """Removes the roots of other recipes that nobody uses."""
    for root in wanted.parent.glob("debian-*"):
        if not root.is_dir() or root == wanted:
            continue
        with _lock_file(root).open("a") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root)
            _lock_file(root).unlink()


def _lock_file(root: Path) -> Path:
    return root.with_name(f"{root.name}.lock")
