"""Ending a command on a target over a second channel, with evidence from the target itself.

A signal request on the command's own channel is not enough: OpenSSH ignores it for root, and it
reaches one process of many.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import MARKER, Refused
from opsconductor.agent.executors.waiting import boottime

if TYPE_CHECKING:
    from datetime import timedelta

    from opsconductor.agent.executors.ssh.connection import Login
    from opsconductor.agent.executors.ssh.pool import SshPool
    from opsconductor.agent.executors.ssh.session import RemoteShell

_LOOK_EVERY = 0.2
_ANSWER_WITHIN = 10.0
_EMPTY_LOOKS = 2

# Members are found by session and group in /proc/*/stat, by the marker in /proc/*/environ, and
# where there is no /proc by group from ps. Every line printed is one live member. No process is
# started for each of them: a tree can grow faster than that.
_SCRIPT = """
sid={sid}; signal={signal}; marker={marker}
members() {{
  if [ -r /proc/$$/stat ]; then
    for file in /proc/[0-9]*/stat; do
      {{ read -r line < "$file"; }} 2>/dev/null || continue
      pid=${{file#/proc/}}; pid=${{pid%/stat}}
      set -- ${{line##*) }}
      case $1 in Z|X) continue;; esac
      if [ "$3" = "$sid" ] || [ "$4" = "$sid" ]; then echo "$pid"; fi
    done
    grep -lF -e "$marker" /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
      pid=${{file#/proc/}}; pid=${{pid%/environ}}
      {{ read -r line < "/proc/$pid/stat"; }} 2>/dev/null || continue
      set -- ${{line##*) }}
      case $1 in Z|X) ;; *) echo "$pid";; esac
    done
  else
    ps -A -o pid= -o pgid= -o stat= | while read -r pid group state; do
      case $state in Z*) continue;; esac
      [ "$group" = "$sid" ] && echo "$pid"
    done
  fi
}}
found=$(members | sort -un)
if [ "$signal" != 0 ]; then
  for pid in $found; do kill -"$signal" "$pid" 2>/dev/null; done
fi
for pid in $found; do
  name=
  {{ read -r name < "/proc/$pid/comm"; }} 2>/dev/null || name=$(ps -o comm= -p "$pid" 2>/dev/null)
  echo "member $pid $name"
done
echo end
"""


class RemoteTree:
    """All processes of one attempt on a target."""

    def __init__(self, pool: SshPool, login: Login, session: int, attempt_id: str) -> None:
        self._pool = pool
        self._login = login
        self._session = session
        self._marker = f"{MARKER}={attempt_id}"

    async def stop(self, grace: timedelta, kill_wait: timedelta) -> tuple[str, ...]:
        """Ends the tree; returns what is still there, or why that could not be seen."""
        try:
            if not await self._end_by("TERM", grace.total_seconds(), repeat=False):
                await self._end_by("KILL", kill_wait.total_seconds(), repeat=True)
            return tuple(f"{line} on {self._login}" for line in await self._look("0"))
        except (Refused, _NoAnswer) as error:
            return (f"unknown: {self._login} could not be asked for its processes ({error})",)

    async def _end_by(self, signal: str, seconds: float, *, repeat: bool) -> bool:
        deadline = boottime() + seconds
        members = await self._look(signal)
        empty = 0 if members else 1
        while empty < _EMPTY_LOOKS:
            if members and boottime() >= deadline:
                return False
            await asyncio.sleep(_LOOK_EVERY if members else 0)
            members = await self._look(signal if repeat else "0")
            empty = 0 if members else empty + 1
        return True

    async def _look(self, signal: str) -> list[str]:
        script = _SCRIPT.format(sid=self._session, signal=signal, marker=self._marker)
        lines = (await self._answer(script.encode())).decode(errors="replace").splitlines()
        if "end" not in lines:
            raise _NoAnswer("the answer was cut short")
        return [
            f"pid {line.removeprefix('member ')}" for line in lines if line.startswith("member ")
        ]

    async def _answer(self, script: bytes) -> bytes:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                lease = await self._pool.lease(self._login, urgent=True)
                try:
                    lease.shell.start(script)
                    return await _standard_output(lease.shell)
                finally:
                    lease.release()
        except TimeoutError as error:
            raise _NoAnswer(f"no answer within {_ANSWER_WITHIN:g} s") from error


async def _standard_output(shell: RemoteShell) -> bytes:
    answer = bytearray()
    while (item := await shell.read(_ANSWER_WITHIN)) is not None:
        stream, data = item
        if stream == "stdout":
            answer += data
    return bytes(answer)


class _NoAnswer(Exception):
    """The target did not say what runs on it."""
