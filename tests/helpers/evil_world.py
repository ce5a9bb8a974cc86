"""A worker with real executors in a folder, offered orders by whoever wants to forge some."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from helpers.orders import NOW, Orchestrator, Person, body_of
from opsconductor.agent.attempt import Workshop
from opsconductor.agent.calls import Caller
from opsconductor.agent.executors.registry import Executors
from opsconductor.agent.fence import Fences
from opsconductor.agent.journal import Journal
from opsconductor.agent.masking import Masks
from opsconductor.agent.output import Spools
from opsconductor.agent.policy import Policy
from opsconductor.agent.spans import NoSpans
from opsconductor.agent.verify import Trust
from opsconductor.agent.worker import Worker
from opsconductor.rpc.allowed_signers import AllowedSigners
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from opsconductor.agent.order import Order
    from opsconductor.agent.report import Report

REGISTRY = Registry.load()
RUN, LOOK = REGISTRY.get("run_command"), REGISTRY.get("read_file")
ALICE, BOB, EVE = Person.new("alice"), Person.new("bob"), Person.new("eve")


def nobody(reference: str) -> Any:
    raise LookupError(reference)


async def no_inventory(_: Any) -> dict[str, Any]:
    return {}


class World:
    """One agent with real executors, the file of its signers, and the ledger."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.signers = folder / "allowed_signers"
        self.trust_in(ALICE, BOB)
        self.seen: dict[str, Report] = {}
        self.news = asyncio.Event()
        self.executors = Executors(
            credentials=nobody, known_hosts=folder / "known_hosts", inventory=no_inventory
        )
        self.journal = Journal.open(folder / "journal", NOW.timestamp)
        self.fences = Fences(lambda: 100.0)
        self.fence = self.fences.new()
        self.fence.begin(1, 100.0)
        self.spools = Spools(folder / "spool")
        self.worker = self._worker(Policy())

    def _worker(self, policy: Policy) -> Worker:
        trust = Trust(
            REGISTRY,
            policy,
            lambda: AllowedSigners.load(self.signers),
            tenant="default",
            segment="dmz",
        )
        shop = Workshop(
            journal=self.journal,
            trust=trust,
            caller=Caller(self.executors.choose, policy),
            spools=self.spools,
            fence=self.fences,
            spans=NoSpans(),
            masks=Masks(tuple),
            clock=NOW.timestamp,
            boot_id="boot",
        )
        worker = Worker(shop, capacity=8)
        worker.connect(self._hear)
        return worker

    def obey(self, **policy: Any) -> None:
        self.worker = self._worker(Policy(**policy))

    def trust_in(self, *people: Person) -> None:
        self.signers.write_text("".join(f"{person.signer_line}\n" for person in people))
        self.signers.chmod(0o600)

    def _hear(self, report: Report) -> None:
        self.seen[report.attempt_id] = report
        self.news.set()

    async def end_of(self, attempt_id: str) -> Report:
        async with asyncio.timeout(20):
            while attempt_id not in self.seen or not self.seen[attempt_id].final:
                self.news.clear()
                await self.news.wait()
        return self.seen[attempt_id]

    async def offer(self, order: Order) -> Report:
        self.seen.pop(order.attempt_id, None)
        self.worker.assign(order)
        return await self.end_of(order.attempt_id)

    @property
    def starts(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    # Plans

    def command(self, word: str = "evil", before: str = "") -> dict[str, Any]:
        return {"argv": ["/bin/sh", "-c", f"{before}echo {word} >> {self.ledger}"]}

    def change(self, **changes: Any) -> dict[str, Any]:
        return {**body_of(RUN), "inputs": self.command(), "risk": "destructive", **changes}

    def read(self, **changes: Any) -> dict[str, Any]:
        return {**body_of(LOOK), "inputs": {"path": "/etc/hostname"}, **changes}

    def honest(self, body: dict[str, Any] | None = None, **changes: Any) -> Order:
        return Orchestrator(people=(ALICE,)).order(body or self.change(), **changes)

    def unsigned(self, body: dict[str, Any] | None = None, **changes: Any) -> Order:
        return Orchestrator().order(body or self.change(), **changes)

    def approved(self, by: Person = ALICE, name: str = "", **changes: Any) -> Order:
        evil = Orchestrator()
        order = evil.order(self.change())
        statement = evil.approval(order.manifest, approver=name or by.name, **changes)
        return replace(order, approvals=(by.sign(statement),))
