"""Decides whether system packages may be installed, and with what rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def may_install(what: str) -> bool:
    """Tells whether the person agrees: in CI and with YES=1 at once, on a terminal when asked.

    Without a terminal and without either variable, nothing is ever installed system-wide.
    """
    if os.environ.get("CI") == "true" or os.environ.get("YES") == "1":
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"Install {what} with apt-get? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def root_prefix() -> list[str] | None:
    """Returns what to put before a command so that it runs as root, or None when nothing does.

    sudo counts only when it needs no password: a prompt would hide behind the progress line.
    """
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    check = subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True)
    return ["sudo", "-n"] if check.returncode == 0 else None


def apt_commands(packages: list[str]) -> dict[str, list[str]] | None:
    """Returns the commands that install packages, each under what it does.

    None where apt or the rights are missing.
    """
    prefix = root_prefix()
    if prefix is None or shutil.which("apt-get") is None:
        return None
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    install = [*apt, "install", "-y", "-qq", "--no-install-recommends", *packages]
    return {
        "fetching the lists of packages": [*apt, "update", "-qq"],
        f"installing {' '.join(packages)}": install,
    }
