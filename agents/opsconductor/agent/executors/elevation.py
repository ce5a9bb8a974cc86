"""Running and ending commands as root on the agent's own host, through sudo."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.environment import PATH
from opsconductor.agent.executors.spawn import find_program
from opsconductor.tool_registry.rendering.rendered import SUDO

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence

    from opsconductor.agent.executors.processes import ProcessInfo

_KILL_SECONDS = 5.0
# Numbers of linux/capability.h.
_CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYSLOG": 34,
}
# What sudo says, in the C locale, when it starts nothing. It ends with 1 then and prints no more.
_REFUSAL = re.compile(
    r"sudo: (?:a password is required|a terminal is required|sorry, you must have a tty"
    r"|no askpass program|effective uid is not 0|the \"no new privileges\" flag is set"
    r"|no valid sudoers sources found|unable to open /etc/sudoers).*"
    r"|\S+ is not in the sudoers file\b.*"
    r"|\S+ is not allowed to run sudo on .*"
    r"|Sorry, user \S+ (?:is not allowed to execute|may not run sudo) .*",
    re.IGNORECASE | re.DOTALL,
)


def has_rights(capabilities: Sequence[str]) -> bool:
    """Returns whether programs this process starts need no sudo: it is root, or has enough of it.

    Only ambient capabilities count: others do not pass to a program that is started.
    """
    if os.geteuid() == 0:
        return True
    wanted = sum(1 << _CAPABILITIES[name] for name in capabilities)
    return bool(capabilities) and _ambient() & wanted == wanted


def through_sudo(
    arguments: list[bytes], capabilities: Sequence[str] = ()
) -> tuple[bytes, list[bytes]]:
    """Returns program and arguments that run a command as root; Refused where there is no sudo."""
    try:
        program = find_program(SUDO[0].encode())
    except Refused as refused:
        message = (
            f"this needs root, and the agent's host has no sudo: {refused}{_grant(capabilities)}"
        )
        raise Refused(Outcome.refused("BECOME_FAILED", message)) from refused
    return program, [*(word.encode() for word in SUDO), *arguments]


def refusal(
    tool: str,
    exit_code: int | None,
    stdout: bytes,
    stderr: bytes,
    capabilities: Sequence[str] = (),
) -> Outcome | None:
    """Returns the outcome of an elevated call that sudo did not start; None when it did."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    said = [line for line in lines if _REFUSAL.fullmatch(line)]
    if exit_code != 1 or stdout or not said or lines[-1] != said[-1]:
        return None
    message = (
        f"{tool} needs root, and sudo on the agent's host refused it: {said[-1]};"
        f" nothing was done. {remedy(_own_name(), 'root')}; or name only the programs it may"
        " run (kill among them, to be able to cancel)" + _grant(capabilities)
    )
    return Outcome.refused("BECOME_FAILED", message)


def remedy(user: str, other: str) -> str:
    """Returns what to put where, so that sudo lets a user become another."""
    return f"Put '{user} ALL=({other}) NOPASSWD: ALL' into the host's sudoers"


def signal_by_sudo(processes: Iterable[ProcessInfo], number: signal.Signals) -> None:
    """Sends a signal to another user's processes, if sudo lets; what is left shows if it did."""
    pids = [str(info.pid) for info in processes]
    words = [*SUDO, "kill", "-s", number.name.removeprefix("SIG"), "--", *pids]
    try:
        subprocess.run(
            words,
            check=False,
            env={"PATH": PATH, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_KILL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return


def _grant(capabilities: Sequence[str]) -> str:
    """Returns what an agent's service needs instead of sudo; empty where that is everything."""
    if not capabilities:
        return ""
    return (
        "; or, without sudo, give the agent's service the line"
        f" AmbientCapabilities={' '.join(capabilities)}"
    )


def _ambient() -> int:
    """Returns the capabilities that programs inherit, as bits; none where that is not told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return ambient_of(status)


def ambient_of(status: str) -> int:
    """Returns the ambient capabilities that the text of /proc/PID/status tells, as bits."""
    found = re.search(r"^CapAmb:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"
