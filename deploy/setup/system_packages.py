"""Installs the system packages that the tests or the demo use, when that is allowed.

Nothing here is needed to run OpsConductor itself: without these packages tests are skipped, and
the demo puts stand-ins in their place and says so. Prints nothing when nothing is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import permission
from progress import CommandFailed, Progress

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# Debian's package for each command, by who needs it.
COMMANDS = {
    "demo": {
        "sshd": "openssh-server",
        "ssh-keygen": "openssh-client",
        "ip": "iproute2",
        "ping": "iputils-ping",
    },
    "test": {
        "sshd": "openssh-server",
        "ssh-keygen": "openssh-client",
        "ip": "iproute2",
        "ping": "iputils-ping",
        "ps": "procps",
        "git": "git",
        "sudo": "sudo",
        "initdb": "postgresql",
        "mariadbd": "mariadb-server",
        "redis-server": "redis-server",
        "snmpd": "snmpd",
        "faketime": "faketime",
        "scapy": "python3-scapy",
    },
    # What tools are tried on, beside the servers of the tests; some would run at once where
    # systemd does, so that only who asks for these tests gets them.
    "tools-live": {
        "initdb": "postgresql",
        "mariadbd": "mariadb-server",
        "redis-server": "redis-server",
        "redis-benchmark": "redis-tools",
        "snmpd": "snmpd",
        "curl": "curl",
        "debootstrap": "debootstrap",
        "prometheus": "prometheus",
        "prometheus-alertmanager": "prometheus-alertmanager",
        "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
        "prometheus-node-exporter": "prometheus-node-exporter",
        "ping": "iputils-ping",
        "traceroute": "traceroute",
        "tracepath": "iputils-tracepath",
        "mtr": "mtr-tiny",
        "nmap": "nmap",
        "fping": "fping",
        "hping3": "hping3",
        "arp-scan": "arp-scan",
        "netdiscover": "netdiscover",
        "iperf3": "iperf3",
        "tcpdump": "tcpdump",
        "tshark": "tshark",
        "ngrep": "ngrep",
        "nc": "netcat-openbsd",
        "host": "bind9-host",
        "nslookup": "dnsutils",
        "scapy": "python3-scapy",
        "dig": "dnsutils",
        "tcpflow": "tcpflow",
        "openssl": "openssl",
        "ssh-keyscan": "openssh-client",
        "ip": "iproute2",
    },
}


def missing(needed_for: str) -> list[str]:
    """Returns the packages whose command is not on this machine."""
    commands = COMMANDS[needed_for]
    return sorted({commands[name] for name in commands if not _is_there(name)})


def _is_there(command: str) -> bool:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    if shutil.which(command, path=path):
        return True
    # Debian keeps a server's programs out of the search path, one folder for each version.
    return any(Path("/usr/lib/postgresql").glob(f"*/bin/{command}"))


def install(packages: list[str], needed_for: str) -> bool:
    """Installs the packages if it may, says what happened, and tells whether they are there."""
    named = " ".join(packages)
    progress = Progress("system packages", ROOT / ".cache" / "system-packages.log")
    commands = permission.apt_commands(packages)
    if commands is None or not permission.may_install(named):
        progress.say(
            f"not installed, the {needed_for} goes on without: {named} "
            f"(as root: apt-get install {named}; or let make do it: YES=1 make {needed_for})"
        )
        return False
    try:
        for phase, command in commands.items():
            progress.run(phase, command)
    except CommandFailed as failure:
        progress.say(f"failed while {failure}. Its last lines:\n{progress.end_of_log()}")
        return False
    return True


def main() -> int:
    """Returns 1 only with --strict, when something is still missing at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("needed_for", choices=sorted(COMMANDS))
    parser.add_argument("--strict", action="store_true", help="fail when something stays missing")
    options = parser.parse_args()
    packages = missing(options.needed_for)
    complete = not packages or install(packages, options.needed_for)
    return 1 if options.strict and not complete else 0


if __name__ == "__main__":
    sys.exit(main())
