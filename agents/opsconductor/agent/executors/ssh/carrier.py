"""What travels over an SSH channel: a constant remote command, and a script on its input.

The remote command never holds a value, so no login shell can misread one (fish and csh read single
quotes differently); the script is read by /bin/sh, whose quoting is known. ``$$`` of that shell is
pid, group and session of the command that replaces it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REMOTE_COMMAND = "exec /bin/sh -s"
_BEGIN = "#opsconductor"
# Whether sudo takes the password depends on its rules. What it leaves is skipped up to the mark, so
# that a password is never run as a command.
_SKIP = f'while IFS= read -r line; do [ "$line" = "{_BEGIN}" ] && exec /bin/sh -s; done'
_MOST_NOISE = 64 * 1024
# A login may be root under another name, on a host that has no sudo.
ELEVATED_COMMAND = (
    """exec /bin/sh -c '[ "$(id -u)" = 0 ] && exec /bin/sh -s; exec sudo -n -- /bin/sh -s'"""
)


def remote_command(become_user: str, *, with_password: bool, elevated: bool = False) -> str:
    """Returns the constant command that becomes a shell, of another user where one is named.

    ``elevated`` becomes root whatever the login is. Its quotes are read alike by every login shell.
    """
    if elevated and not with_password:
        return ELEVATED_COMMAND
    if not become_user:
        return REMOTE_COMMAND
    if not with_password:
        return f"exec sudo -n -u {become_user} -- /bin/sh -s"
    return f"exec sudo -S -k -p '' -u {become_user} -- /bin/sh -c '{_SKIP}'"


def preamble(password: str) -> bytes:
    """Returns what goes before a script where the remote command takes a password."""
    return f"{password}\n{_BEGIN}\n".encode() if password else b""


def command_script(nonce: str, arguments: Sequence[bytes], variables: Mapping[str, str]) -> bytes:
    """Returns the script that tells its process id after the nonce, then becomes the command.

    A program that does not exist gives "-" for the process id: nothing was started.
    """
    words = [arguments[0].decode(), *(argument.decode() for argument in arguments[1:])]
    program = shlex.quote(words[0])
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    # Users who are not root get no sbin from sshd, where service and its like are.
    lines.append('PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; export PATH')
    lines.append(
        f"command -v {program} >/dev/null 2>&1 || {{ printf '%s -\\n' {nonce}; exit 127; }}"
    )
    lines.append(f"printf '%s %d\\n' {nonce} $$")
    lines.append(f"exec {' '.join(map(shlex.quote, words))} </dev/null")
    return ("\n".join(lines) + "\n").encode()


class Header:
    """Takes the start of standard output until the nonce line has been seen.

    Whatever a login script printed before it is dropped.
    """

    def __init__(self, nonce: str, program: str) -> None:
        self.nonce = nonce
        self.program = program
        self._mark = nonce.encode() + b" "
        self._seen = b""
        self.found = False
        self.pid: int | None = None
        """Process id, group and session on the target; None when the program does not exist."""

    def feed(self, data: bytes) -> bytes:
        """Returns the bytes of ``data`` that belong to the command."""
        if self.found:
            return data
        self._seen += data
        start = self._seen.find(self._mark)
        end = self._seen.find(b"\n", start) if start >= 0 else -1
        if end < 0:
            self._seen = self._seen[-_MOST_NOISE:]
            return b""
        value = self._seen[start + len(self._mark) : end].strip()
        rest = self._seen[end + 1 :]
        self.found, self._seen = True, b""
        self.pid = int(value) if value.isdigit() else None
        return rest
