"""Puts the agent together, runs it, and stops it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsconductor.agent import log
from opsconductor.agent.attempt import Workshop
from opsconductor.agent.calls import Caller
from opsconductor.agent.credentials import CredentialFile
from opsconductor.agent.executors.local.run_folder import RunFolders
from opsconductor.agent.executors.registry import Executors
from opsconductor.agent.fence import Fences
from opsconductor.agent.journal import Journal
from opsconductor.agent.lock import FolderLock
from opsconductor.agent.masking import Masks
from opsconductor.agent.output import Spools
from opsconductor.agent.policy import Policy
from opsconductor.agent.record_log import JournalCorrupt, JournalFailed
from opsconductor.agent.session import tasks
from opsconductor.agent.session.endpoints import FILE as ENDPOINTS_FILE
from opsconductor.agent.session.endpoints import Endpoints
from opsconductor.agent.session.enroll import AgentCertificates
from opsconductor.agent.session.inventory import InventoryQueries
from opsconductor.agent.session.links import Links
from opsconductor.agent.session.partition import Partition
from opsconductor.agent.session.poison_frames import PoisonFrames
from opsconductor.agent.session.shared import Shared
from opsconductor.agent.session.switchboard import Switchboard
from opsconductor.agent.spans import spans_from
from opsconductor.agent.verify import Trust
from opsconductor.agent.worker import Worker
from opsconductor.rpc.allowed_signers import AllowedSigners
from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.reloading import ToolFolders
from opsconductor.tool_registry.roots import tools_root

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from opsconductor.agent.config import Config

CANCEL_GRACE = 15.0
"""Seconds that cancelled attempts get to end with evidence."""
DELIVERY_GRACE = 5.0
"""Seconds in which last reports and output may still be delivered."""
RESERVE_INTERVAL = 30.0
"""Seconds between looks whether a reserve that was given up has room again."""
TOOLS_INTERVAL = timedelta(seconds=1)
"""How often tool files are looked at; the orchestrator waits longer to plan with new ones."""
EXIT_FAILED, EXIT_BROKEN = 1, 3

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_log = logging.getLogger(__name__)


def boottime() -> float:
    """Returns seconds since boot, counted through suspends."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def run(folder: Path, config: Config, *, accept_incarnation: str = "") -> int:
    """Runs the agent of a folder until it is stopped; returns the exit code."""
    log.set_up(config.log_level)
    os.umask(0o077)
    folder = folder.resolve()
    config = replace(config, tools=tuple(str(Path(root).resolve()) for root in config.tools))
    os.chdir("/")  # where steps run: never in a folder that holds the agent's key
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    with FolderLock(folder):
        try:
            return asyncio.run(_run(folder, config, boot_id, accept_incarnation))
        except JournalCorrupt as exc:
            _log.critical(
                "JOURNAL_CORRUPT: %s. What ran here is not certain. Move %s away to start "
                "anew; the orchestrator will ask people about every open attempt",
                exc,
                folder / "journal",
            )
            return EXIT_BROKEN
        except JournalFailed as exc:
            _log.critical("%s; nothing may start without a record, so the agent stops", exc)
            return EXIT_BROKEN


async def _run(folder: Path, config: Config, boot_id: str, accept_incarnation: str) -> int:
    async with AsyncExitStack() as stack:
        daemon = await _compose(folder, config, boot_id, stack)
        if accept_incarnation:
            daemon.journal.pin_incarnation(accept_incarnation)
        daemon.worker.recover()
        return await daemon.live()


async def _compose(folder: Path, config: Config, boot_id: str, stack: AsyncExitStack) -> Daemon:
    certificates = AgentCertificates(folder)
    identity = certificates.identity()
    roots = [Path(root) for root in config.tools] or [tools_root()]
    registry = Registry.load(roots)
    folders = ToolFolders(registry, roots)
    policy = Policy.load(folder / "policy.yaml")
    credentials = CredentialFile(folder / "credentials.yaml")
    credentials.refresh()
    spans = spans_from(os.environ, {"service.instance.id": identity.name})
    stack.callback(spans.close)
    journal = Journal.open(folder / "journal", time.time)
    stack.callback(journal.close)
    spools = Spools(folder / "spool")
    stack.callback(spools.close)
    inventory = InventoryQueries()
    executors = Executors(
        credentials=credentials, known_hosts=folder / "known_hosts", inventory=inventory
    )
    stack.push_async_callback(executors.close)
    fences = Fences(boottime)
    shop = Workshop(
        journal=journal,
        trust=Trust(
            registry=registry,
            policy=policy,
            signers=lambda: AllowedSigners.load(folder / "allowed_signers"),
            tenant=identity.tenant,
            segment=config.segment,
        ),
        caller=Caller(executors.choose, policy),
        spools=spools,
        fence=fences,
        spans=spans,
        masks=Masks(credentials.secrets),
        clock=time.time,
        boot_id=boot_id,
        runs=RunFolders(folder / "runs"),
    )
    worker = Worker(shop, capacity=config.capacity)
    board = Switchboard(worker, boottime)
    shared = Shared(
        certificates=certificates,
        endpoints=Endpoints(folder / ENDPOINTS_FILE, config.all_endpoints),
        worker=worker,
        journal=journal,
        spools=spools,
        fences=fences,
        inventory=inventory,
        board=board,
        poison=shop.poison,
        poison_frames=PoisonFrames(folder / "poison"),
        facts=_facts(config, journal, boot_id, executors.methods, registry.digests),
    )
    watches = [_keep_reserve(journal), folders.watch(TOOLS_INTERVAL)]
    if config.on_partition is not None:
        watches.append(Partition(board, worker, config.on_partition).watch())
    return Daemon(worker, journal, Links(shared), config.drain_grace.total_seconds(), watches)


async def _keep_reserve(journal: Journal) -> None:
    """Takes the reserve for a full disk up again when there is room; until cancelled."""
    while True:
        await asyncio.sleep(RESERVE_INTERVAL)
        journal.restore_reserve()


def _facts(
    config: Config,
    journal: Journal,
    boot_id: str,
    methods: Iterable[str],
    digests: Callable[[], dict[str, str]],
) -> Callable[[], dict[str, Any]]:
    """Returns what a Hello says about the agent; epoch and incarnation change between sessions."""
    fixed = {
        "version": metadata.version("opsconductor"),
        "journal_id": journal.journal_id,
        "boot_id": boot_id,
        "instance_id": secrets.token_hex(16),
        "services": list(config.services),
        "methods": sorted(methods),
        "labels": dict(config.labels),
        "capacity": config.capacity,
    }
    return lambda: {
        **fixed,
        "tool_digests": digests(),
        "last_session_epoch": journal.epoch,
        "incarnation": journal.incarnation,
    }


class Daemon:
    """The running agent: works until a signal, then drains."""

    def __init__(
        self,
        worker: Worker,
        journal: Journal,
        links: Links,
        drain_grace: float,
        watches: Iterable[Coroutine[None, None, None]] = (),
    ) -> None:
        self.worker = worker
        self.journal = journal
        self._links = links
        self._drain_grace = drain_grace
        self._watches = tuple(watches)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def live(self) -> int:
        """Works until SIGTERM or Ctrl-C, or until the journal fails; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        links = asyncio.create_task(self._links.run())
        watches = [asyncio.create_task(watch) for watch in self._watches]
        stop = asyncio.create_task(self._stop.wait())
        broken = asyncio.create_task(self.worker.broken.wait())
        try:
            ends = {links, stop, broken, *watches}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (links, *watches):
                if task.done():
                    task.result()
            if self.worker.broken.is_set():
                return EXIT_BROKEN
            await self._drain()
            return 0
        finally:
            await tasks.end(links, stop, broken, *watches)

    def stop(self) -> None:
        """Begins to drain; a second time ends what runs at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _drain(self) -> None:
        _log.info("stopping: %d attempts are running", self.worker.running)
        self.worker.drain("the agent is stopping")
        self._links.announce_draining()
        idle = asyncio.create_task(self.worker.wait_idle())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            {idle, hurry}, timeout=self._drain_grace, return_when=asyncio.FIRST_COMPLETED
        )
        hurry.cancel()
        if not idle.done():
            _log.warning("stopping: ending %d running attempts", self.worker.running)
            self.worker.cancel_all("the agent is stopping")
            await asyncio.wait({idle}, timeout=CANCEL_GRACE)
        idle.cancel()
        await self._deliver()

    async def _deliver(self) -> None:
        """Gives last reports a chance; what is left goes out at the next start."""
        deadline = boottime() + DELIVERY_GRACE
        # Acknowledgements come from two streams; a short poll at the very end is simpler than both.
        while self._links.connected and not self.worker.all_acknowledged and boottime() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
