"""People and callers: they submit, approve, change their minds, and look before they decide."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.domain.executions.states import ExecutionState, StepState
from opsconductor.orchestrator.engine.deciding import Words
from opsconductor.orchestrator.engine.submission import Submission
from opsconductor.rpc import sshsig, statements
from opsconductor.rpc.allowed_signers import AllowedSigners
from opsconductor.rpc.errors import OpsConductorError, PlanInvalid
from simulation.operators import Operator
from simulation.programs import BEGIN

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from opsconductor.orchestrator.domain.executions.execution import Approval, Execution
    from simulation.world import World

PATIENCE = 20.0


@dataclass(frozen=True)
class Person:
    """Someone with a key."""

    name: str
    private: bytes
    public: str

    def sign(self, statement: bytes) -> str:
        """Returns a signature over a statement."""
        return sshsig.sign(statement, self.private, statements.NAMESPACE)


@cache
def person(name: str) -> Person:
    """Returns someone whose key is the same in every run."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return Person(name, private, sshsig.public_line(private, name))


NAMES = ("ann", "bob", "rita")


@cache
def signers() -> AllowedSigners:
    """Returns the keys everybody knows."""
    lines = [f'{name} namespaces="{statements.NAMESPACE}" {person(name).public}' for name in NAMES]
    return AllowedSigners.parse("\n".join(lines))


def is_signed(statement: bytes, armored: str, name: str) -> bool:
    """Tells, without the product's code, whether a person has signed something."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    lines = [line for line in armored.splitlines() if line and not line.startswith("-----")]
    key: Any = load_ssh_public_key(person(name).public.encode())
    try:
        key.verify(base64.b64decode("".join(lines))[-64:], _signed(statement))
    except InvalidSignature:
        return False
    return True


def _signed(statement: bytes) -> bytes:
    """Returns what is signed for a message, as PROTOCOL.sshsig has it."""
    parts = (statements.NAMESPACE.encode(), b"", b"sha512", hashlib.sha512(statement).digest())
    return b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class People:
    """Everyone outside the programs."""

    def __init__(self, world: World, rng: random.Random, *, restless: float) -> None:
        self._world = world
        self._rng = rng
        self.restless = restless
        """How often somebody wants something else of an execution, per look."""
        self.diligent = False
        self._operator = Operator(world, rng)
        self.submitted = 0

    async def submit(self, at: float, number: int, document: dict[str, Any], tenant: str) -> None:
        """Submits a plan at a time, again and again until it is answered."""
        world, loop = self._world, self._world.loop
        await asyncio.sleep(at)
        submission = Submission(
            source=document,
            tenant=tenant,
            requester="rita",
            submitted_by="rita",
            request_id=f"request-{number // 2 if self._world.shares else number}",
        )
        while True:
            age = world.checker.went_back
            orchestrator = world.any_orchestrator()
            try:
                async with asyncio.timeout(PATIENCE):
                    accepted = await orchestrator.submit(submission)
            except PlanInvalid as exc:
                world.checker.note(f"plan {number} refused: {exc.reason}")
                world.refused.append(f"{exc}: {[str(fault) for fault in exc.faults]}")
                return
            except (OpsConductorError, ConnectionError, TimeoutError):
                await asyncio.sleep(self._rng.uniform(0.2, 2.0))
                continue
            except Exception as exc:  # noqa: BLE001 - anything else is a defect of the product
                loop.complaints.append(f"submit: {exc!r}")
                await asyncio.sleep(2.0)
                continue
            world.checker.replied(accepted.execution.execution_id, age)
            self.submitted += 1
            return

    async def look_after(self) -> None:
        """Looks at every execution now and then, and does what it asks for."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 2.0))
            for state in list(self._world.checker.known.executions.values()):
                wish = self._wish(state)
                if wish is not None:
                    await self._try(wish)
            for wish in self._chores():
                await self._try(wish)

    def _chores(self) -> list[Callable[[Any], Awaitable[Any]]]:
        """What the operator does, at some looks."""
        if self._rng.random() > (0.9 if self.diligent else 0.1):
            return []
        return self._operator.chores()

    async def _try(self, wish: Callable[[Any], Awaitable[Any]]) -> None:
        orchestrator = self._world.any_orchestrator()
        try:
            async with asyncio.timeout(PATIENCE):
                await orchestrator.ask(lambda: wish(orchestrator))
        except (OpsConductorError, ConnectionError, TimeoutError):
            return
        except Exception as exc:  # noqa: BLE001 - anything else is a defect of the product
            self._world.loop.complaints.append(f"command: {exc!r}")

    def _wish(self, state: Execution) -> Callable[[Any], Awaitable[Any]] | None:
        if self._is_unsure(state):
            return None
        if not state.open:
            return self._regret(state)
        if self._forgotten(state):
            return self._command(state, "cancel")
        if self._rng.random() < (0.9 if self.diligent else 0.5):
            if asked := [item for item in state.pending_approvals() if item.open]:
                return self._answer(state, asked[0])
            for step_id, record in state.steps.items():
                if record.state is StepState.UNKNOWN and (found := self._resolve(state, step_id)):
                    return found
            if state.state is ExecutionState.PAUSED or state.asked:
                return self._command(state, "resume")
        return self._whim(state)

    def _is_unsure(self, state: Execution) -> bool:
        """Whether a restore is not over: what agents remember may still change everything."""
        houses = [house for house in self._world.orchestrators if house.ready]
        if any(house.agents.restoring.mode is not None for house in houses):
            return True
        return not state.open and self._forgotten(state)

    def _forgotten(self, state: Execution) -> bool:
        """Looks at the targets for what was done and neither store nor journals know any more."""
        checker = self._world.checker
        if not checker.went_back:
            return False
        return any(
            effect.changes
            and checker.granted[effect.attempt_id].execution_id == state.execution_id
            and effect.attempt_id not in state.attempts
            and effect.attempt_id not in state.recovered
            for effect in self._world.ledger.effects
        )

    def _regret(self, state: Execution) -> Callable[[Any], Awaitable[Any]] | None:
        if self.diligent or self._rng.random() >= self.restless / 4:
            return None
        return self._command(state, "rollback")

    def _whim(self, state: Execution) -> Callable[[Any], Awaitable[Any]] | None:
        if self.diligent or self._rng.random() >= self.restless:
            return None
        return self._command(state, self._rng.choice(("cancel", "pause", "resume", "rollback")))

    def _command(self, state: Execution, word: str) -> Callable[[Any], Awaitable[Any]]:
        def decide(now: Execution, _: Any) -> commands.Events:
            if word == "resume":
                return commands.resume(now, "rita")
            return getattr(commands, word)(now, "rita", "a whim")  # type: ignore[no-any-return]

        return lambda house: house.engine.command(state.execution_id, decide)

    def _answer(self, state: Execution, request: Approval) -> Callable[[Any], Awaitable[Any]]:
        said = {item.person for item in request.decisions}
        free = [name for name in NAMES if name not in said] or list(NAMES)
        name = free[0] if self.diligent else self._rng.choice(free)
        if not self.diligent and self._rng.random() < 0.08:
            words = Words(name, state.tenant, "no")
            return lambda house: house.deciding.decide(request.approval_id, "reject", words)
        statement = statements.approval_statement(
            tenant=state.tenant,
            execution_id=state.execution_id,
            plan_digest=request.plan_digest,
            steps=["*"] if self._rng.random() < 0.5 else list(request.step_ids),
            approver=name,
            nonce=self._nonce(),
            **self._validity(),
        )
        signature = person(name).sign(statement)
        words = Words(name, state.tenant, "", statement, signature)
        return lambda house: house.deciding.decide(request.approval_id, "approve", words)

    def _resolve(self, state: Execution, step_id: str) -> Callable[[Any], Awaitable[Any]] | None:
        """Decides about an unknown outcome by what really happened."""
        attempt_id = state.steps[step_id].attempt_ids[-1]
        starts = self._world.ledger.of(attempt_id)
        if any(effect.end is None for effect in starts):
            return None  # it may still be running: wait
        worked = any(effect.success for effect in starts)
        resolution = "completed" if worked else self._rng.choice(("failed", "retry"))
        name = self._rng.choice(NAMES)
        statement = statements.resolution_statement(
            tenant=state.tenant,
            execution_id=state.execution_id,
            step_id=step_id,
            attempt_id=attempt_id,
            approver=name,
            nonce=self._nonce(),
            **self._validity(),
        )
        words = Words(name, state.tenant, "looked", statement, person(name).sign(statement))
        return lambda house: house.deciding.resolve(state.execution_id, step_id, resolution, words)

    def _nonce(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"

    def _validity(self) -> dict[str, Any]:
        from datetime import timedelta

        now = BEGIN + timedelta(seconds=self._world.loop.time())
        return {"not_before": now - timedelta(minutes=1), "not_after": now + timedelta(hours=6)}
