"""The places a command can run at, each with an executor and a target; and a Windows host."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from helpers.places import Place, ssh_executor, target_of
from helpers.receivers import self_signed
from helpers.sshd import INSTALL_HINT, SSHD, SshServer, openssh_server, standin_server
from helpers.wsman_server import WsmanServer
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.agent.executors.local.run_folder import RunFolders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if not SSHD:
        pytest.skip(INSTALL_HINT)
    with openssh_server(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.fixture(params=["openssh", "standin"])
async def ssh_server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SshServer]:
    if request.param == "openssh":
        yield request.getfixturevalue("openssh")
        return
    async with standin_server(tmp_path / "standin") as server:
        yield server


@pytest.fixture(params=["local", "supervised", "openssh", "standin"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param in ("local", "supervised"):
        executor = LocalExecutor(grace=timedelta(seconds=1), linger=timedelta(seconds=0.5))
        runs = RunFolders(tmp_path / "runs") if request.param == "supervised" else None
        yield Place(request.param, executor, None, runs=runs)
        await executor.close()
        return
    if request.param == "openssh":
        server = request.getfixturevalue("openssh")
        remote = ssh_executor(server)
        yield Place("openssh", remote, target_of(server))
        await remote.close()
        return
    async with standin_server(tmp_path / "standin") as server:
        remote = ssh_executor(server)
        yield Place("standin", remote, target_of(server))
        await remote.close()


@pytest.fixture
def wsman_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WsmanServer]:
    """A WS-Management server whose certificate is ``server.pem`` in the test's folder."""
    server = WsmanServer(self_signed(tmp_path))
    users = tmp_path / "users"
    users.write_text(f":{server.user}:{server.password}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    yield server
    server.stop()
