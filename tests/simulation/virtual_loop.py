"""An event loop on which time passes only when nothing is left to do, and processes can die.

Callbacks carry their process in their context. Those of a dead process are dropped, as the kernel
drops the threads of a killed one: no ``finally`` runs. Those of a frozen process wait until it
is woken.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""The process whose code runs; None for the world around all processes."""


ROUNDS_WITHOUT_TIME = 100_000
"""More than this and something spins."""


class Deadlock(RuntimeError):
    """Nothing is left that could ever happen."""


class TooManyCallbacks(RuntimeError):
    """Something spins without letting time pass."""


class Process:
    """One life of one program: from its start to its kill."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self._loop = loop
        self._parked: list[_Due] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        self.log: list[str] = []

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Starts a task of this process."""
        task = self._loop.create_task(work, context=self.context.copy())
        self._loop.keep(task)
        return task

    def do(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Has this process call something soon."""
        self._loop.call_soon(function, *arguments, context=self.context.copy())

    def kill(self) -> None:
        """Ends it as SIGKILL does."""
        self.alive = False
        self._parked.clear()

    def freeze(self) -> None:
        """Stops it as SIGSTOP does."""
        self.frozen = True

    def thaw(self) -> None:
        """Lets it go on as SIGCONT does."""
        self.frozen = False
        parked, self._parked = self._parked, []
        for due in parked:
            self._loop.again(due)

    def park(self, due: _Due) -> None:
        """Keeps a callback until it is woken."""
        self._parked.append(due)


@dataclass
class _Due:
    """A callback of a process, and the handle with which it can still be cancelled."""

    process: Process
    callback: Callable[..., Any]
    arguments: tuple[Any, ...]
    context: contextvars.Context
    handle: asyncio.Handle | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self.handle is not None and self.handle.cancelled()


class _NoSelector:
    """Waits for input and output that never come, by letting virtual time pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        self._loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs everything in one thread, in an order that only its callers decide."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _NoSelector(self)
        self._clock_resolution = 1e-9
        self._alike = 0
        self._kept: list[Any] = []
        self.callbacks = 0
        self._last: _Due | None = None
        self.kernel = contextvars.copy_context()
        self.complaints: list[str] = []
        """Errors nobody foresaw: defects of the product, or of the simulation."""
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        """Returns virtual seconds since the beginning."""
        return self._now

    def pass_time(self, timeout: float | None) -> None:
        """Jumps to the next timer."""
        if timeout is None:
            raise Deadlock("every task waits for something that cannot happen")
        if timeout > 0:
            self._now += timeout
            self._alike = 0
        else:
            self._alike += 1
            if self._alike % 500 == 0:
                self._now += 1e-6  # even a fast machine takes its time
            if self._alike > ROUNDS_WITHOUT_TIME:
                raise TooManyCallbacks(f"it spins at {self._now:.3f} s: {self._last}")

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See BaseEventLoop; callbacks belong to the process of their context."""
        context = context if context is not None else contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        due = _Due(process, callback, args, context)
        due.handle = super().call_soon(self._guarded, due, context=self.kernel)
        return due.handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See BaseEventLoop; callbacks belong to the process of their context."""
        context = context if context is not None else contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        due = _Due(process, callback, args, context)
        due.handle = made = super().call_at(when, self._guarded, due, context=self.kernel)
        return made

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Has the world, not the process that asks, call something after a while."""
        return super().call_at(self._now + delay, callback, *args, context=self.kernel)

    def outside(self, work: Any) -> asyncio.Task[Any]:
        """Starts a task of the world."""
        task = self.create_task(work, context=self.kernel.copy())
        self.keep(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Calls a function right here: there are no threads."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - it belongs to the caller
            future.set_exception(exc)
        return future

    def keep(self, item: Any) -> None:
        """Holds on to what must not be collected during a run: that would run its ``finally``."""
        self._kept.append(item)

    def again(self, due: _Due) -> None:
        """Runs a callback that waited for its process to be woken."""
        super().call_soon(self._guarded, due, context=self.kernel)

    def _guarded(self, due: _Due) -> None:
        process = due.process
        if due.cancelled:
            return
        if not process.alive:
            self._kept.append(due)
            return
        if process.frozen:
            process.park(due)
            return
        self.callbacks += 1
        self._last = due
        due.context.run(due.callback, *due.arguments)

    def _complain(self, _: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
        error = said.get("exception")
        self.complaints.append(f"{said.get('message')}: {error!r}")
        logging.getLogger(__name__).error("%s", said.get("message"), exc_info=error)

    def _process_events(self, event_list: Any) -> None:
        return None

    def _write_to_self(self) -> None:
        return None
