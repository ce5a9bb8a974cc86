"""What really happens: effects of attempts, written into a ledger that no program can touch.

An effect that began goes on when the agent that began it dies, and ends with its machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.base import Outcome
from opsconductor.agent.masking import MaskedSink
from simulation.canaries import secret_of, spellings
from simulation.disk import RunSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsconductor.agent.executors.base import Call, Sink
    from simulation.virtual_loop import Process, VirtualLoop


TALKATIVE = 0.2
"""How often a tool prints its agent's secret."""


@dataclass(frozen=True)
class Fate:
    """What an attempt's effect would do, drawn from its id: faults elsewhere change nothing."""

    seconds: float
    outcome: str
    output: bytes
    ignores_cancel: bool


@dataclass
class Effect:
    """One start of one attempt, and its end."""

    attempt_id: str
    agent: str
    life: str
    """The process that started it."""
    changes: bool
    start: float
    fate: Fate
    supervised: bool = False
    """Whether it outlives the agent that began it."""
    end: float | None = None
    success: bool | None = None
    lost: bool = False
    """Whether its executor lost sight of it, its agent died, or its machine did."""
    cut: bool = False
    """Whether nobody recorded its end."""


@dataclass
class Ledger:
    """Every effect there ever was."""

    effects: list[Effect] = field(default_factory=list)
    by_attempt: dict[str, list[Effect]] = field(default_factory=dict)
    on_start: Callable[[Effect], None] = lambda _: None
    on_end: Callable[[Effect], None] = lambda _: None

    def of(self, attempt_id: str) -> list[Effect]:
        """Returns the starts of an attempt."""
        return self.by_attempt.get(attempt_id, [])

    def begin(self, effect: Effect) -> None:
        """Writes a start."""
        self.effects.append(effect)
        self.by_attempt.setdefault(effect.attempt_id, []).append(effect)
        self.on_start(effect)

    def finish(self, effect: Effect, now: float, *, success: bool) -> None:
        """Writes an end, once."""
        if effect.end is None:
            effect.end = now
            effect.success = success
            self.on_end(effect)


@dataclass
class Tendency:
    """How often effects go wrong."""

    fail: float = 0.1
    unreachable: float = 0.03
    lost: float = 0.0
    stubborn: float = 0.1
    slow: float = 0.15


class Effects:
    """What runs on one agent's machine and its targets."""

    def __init__(
        self, name: str, loop: VirtualLoop, ledger: Ledger, seed: int, tendency: Tendency
    ) -> None:
        self.name = name
        self.loop = loop
        self.ledger = ledger
        self.tendency = tendency
        self._seed = seed
        self.secret = secret_of(name)
        """Of the agent; tools print it."""
        self._running: list[Effect] = []
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}

    def executor(self, process: Process) -> Executor:
        """Returns what carries out the calls of one life of the agent."""
        return Executor(self, process)

    def power_lost(self) -> None:
        """Everything on the machine ends."""
        for effect in self._running:
            effect.lost = effect.cut = True
            self.ledger.finish(effect, self.loop.time(), success=False)
        self._running.clear()

    def killed(self, life: str) -> None:
        """Notes that the agent's process died: nobody sees the ends of its effects."""
        for effect in self._running:
            if effect.life == life and not effect.supervised:
                effect.lost = True

    def began(self, effect: Effect) -> None:
        """Notes a start."""
        self._running.append(effect)
        self.ledger.begin(effect)

    def watch(self, effect: Effect, over: asyncio.Future[None]) -> None:
        """Tells a future of an effect's end."""
        self._watchers.setdefault(effect.attempt_id, []).append(over)
        if effect.end is not None:
            self._tell(effect)

    def natural_end(self, effect: Effect) -> None:
        """Lets an effect end by itself."""
        if effect.end is None:
            self.ended(effect, success=effect.fate.outcome in ("completed", "lost"))

    def ended(self, effect: Effect, *, success: bool) -> None:
        """Notes an end."""
        if effect in self._running:
            self._running.remove(effect)
        self.ledger.finish(effect, self.loop.time(), success=success)
        self._tell(effect)

    def _tell(self, effect: Effect) -> None:
        for over in self._watchers.pop(effect.attempt_id, ()):
            if not over.done():
                over.set_result(None)

    def fate(self, attempt_id: str, text: str) -> Fate:
        """Draws what a call will do."""
        digest = hashlib.sha256(f"{self._seed} {attempt_id} {text}".encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8], "big"))
        seconds = rng.choice((0.02, 0.2, 1.0, 3.0)) * rng.random()
        if rng.random() < self.tendency.slow:
            seconds += rng.uniform(2.0, 30.0)
        chances = self.tendency
        weights = (
            1.0 - chances.fail - chances.unreachable - chances.lost,
            chances.fail,
            chances.unreachable,
            chances.lost,
        )
        (outcome,) = rng.choices(("completed", "failed", "unreachable", "lost"), weights)
        output = rng.randbytes(rng.choice((0, 0, 20, 300))).hex().encode()
        stubborn = rng.random() < chances.stubborn
        if rng.random() < TALKATIVE:
            at = rng.randint(0, len(output))
            output = output[:at] + rng.choice(spellings(self.name)) + output[at:]
        return Fate(seconds, outcome, output, stubborn)


class Executor:
    """Carries out the calls of one life of an agent; see ``executors.base.Executor``."""

    method = "command"

    def __init__(self, effects: Effects, process: Process) -> None:
        self._effects = effects
        self._process = process

    def choose(self, method: str, target: object) -> Executor:
        """Returns what carries out a call: what runs on the agent's own host is supervised."""
        return Supervised(self._effects, self._process) if target is None else self

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """See Executor."""
        rendered: Any = call.rendered
        fate = self._effects.fate(call.attempt_id, " ".join(rendered.argv))
        if not isinstance(sink, MaskedSink | RunSink):
            return await self._side(call, sink, cancel, fate)
        if fate.outcome == "unreachable":
            await asyncio.sleep(min(fate.seconds, 1.0))
            return Outcome.unreachable(
                "CONNECT_FAILED", f"simulated: nobody knows {self._effects.secret}"
            )
        return await self._main(call, sink, cancel, fate)

    async def _side(self, call: Call, sink: Sink, cancel: asyncio.Event, fate: Fate) -> Outcome:
        """Prechecks, captures and verifications: they only look."""
        await asyncio.sleep(min(fate.seconds, 0.5))
        if cancel.is_set():
            return Outcome.stopped(call, "cancelled", exit_code=None)
        await sink.write("stdout", b'{"was": "before"}')
        return Outcome.ended(call, 1 if fate.outcome == "failed" else 0)

    async def _main(self, call: Call, sink: Sink, cancel: asyncio.Event, fate: Fate) -> Outcome:
        effects, loop = self._effects, self._effects.loop
        effect = Effect(
            attempt_id=call.attempt_id,
            agent=effects.name,
            life=self._process.name,
            changes=not call.read_only,
            start=loop.time(),
            fate=fate,
            supervised=call.folder is not None,
        )
        effects.began(effect)
        loop.later(fate.seconds, effects.natural_end, effect)
        return await self._follow(call, sink, cancel, effect)

    async def _follow(
        self, call: Call, sink: Sink, cancel: asyncio.Event, effect: Effect
    ) -> Outcome:
        effects, fate = self._effects, effect.fate
        over: asyncio.Future[None] = effects.loop.create_future()
        effects.watch(effect, over)
        half = len(fate.output) // 2
        at = sink.position("stdout") if isinstance(sink, RunSink) else 0
        await _pass_on(sink, fate.output[at:half])
        seconds = max(effect.start + call.timeout.total_seconds() - effects.loop.time(), 0.0)
        why = await _first(over, cancel, seconds)
        if effect.cut:
            return Outcome.lost(call, "SUPERVISOR_DIED", "simulated: its end was not seen")
        if fate.outcome == "lost" and not effect.supervised:
            effect.lost = True
            return Outcome.lost(call, "CONNECTION_LOST", "simulated: the connection broke")
        if why == "over":
            await _pass_on(sink, fate.output[max(at, half) :])
            return Outcome.ended(call, 0 if effect.success else 3)
        return await self._stop(call, effect, why)

    async def _stop(self, call: Call, effect: Effect, why: Any) -> Outcome:
        await asyncio.sleep(0.2)
        if effect.fate.ignores_cancel and effect.end is None:
            effect.lost = True
            return Outcome.stopped(
                call, why, exit_code=None, survivors=(f"4711 sleeper {self._effects.secret}",)
            )
        self._effects.ended(effect, success=False)
        return Outcome.stopped(call, why, exit_code=None)

    async def close(self) -> None:
        """Keeps nothing."""


class Supervised(Executor):
    """Carries out calls that outlive the agent; see ``executors.base.SurvivingExecutor``."""

    def warm(self) -> None:
        """See SurvivingExecutor."""

    def adopting(self) -> Adopting:
        """See SurvivingExecutor."""
        return Adopting(self._effects, self._process)


class Adopting(Executor):
    """Takes up calls that an earlier life of the agent began."""

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """See Executor."""
        found = self._effects.ledger.of(call.attempt_id)
        if not found:
            return Outcome.lost(call, "SUPERVISOR_DIED", "simulated: it may not have begun")
        return await self._follow(call, sink, cancel, found[-1])


async def _pass_on(sink: Sink, output: bytes) -> None:
    if output:
        await sink.write("stdout", output)


async def _first(over: asyncio.Future[None], cancel: asyncio.Event, seconds: float) -> str:
    """Waits for the end, a cancel or the time limit, and says which it was."""
    cancelled = asyncio.ensure_future(cancel.wait())
    try:
        await asyncio.wait((over, cancelled), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancelled.cancel()
    if over.done():
        return "over"
    return "cancelled" if cancel.is_set() else "timed_out"
