"""An SSH server for machines without sshd: ``ssh_stand_in.py ADDRESS PORT FOLDER``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from asyncssh import SSHServerProcess


async def _serve(address: str, port: int, folder: Path) -> None:
    async def handle(process: SSHServerProcess[bytes]) -> None:
        command = process.command or "/bin/sh"
        child = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        await process.redirect(child.stdin, child.stdout, child.stderr)
        try:
            code = await child.wait()
            await process.stdout.drain()
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)
        process.exit(code if code >= 0 else 128 - code)

    await asyncssh.listen(
        address,
        port,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=handle,
        encoding=None,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
