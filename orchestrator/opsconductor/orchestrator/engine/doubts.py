"""Doubts: commits whose end was not seen. What they left to be done is looked for soon after."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opsconductor.orchestrator.store.base import ChainBroken
from opsconductor.rpc.errors import NotFound, OpsConductorError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from opsconductor.orchestrator.engine.actor import Actor
    from opsconductor.orchestrator.engine.memory import Memory
    from opsconductor.orchestrator.engine.work import Work

LOG = logging.getLogger(__name__)

LOOKED_AT_AFTER = 1.0  # seconds


def may_be_written(error: BaseException) -> bool:
    """Tells whether a commit that failed so may have been written; a refused one surely is not."""
    return isinstance(error, StoreUnavailable) or not isinstance(error, OpsConductorError)


class Doubts:
    """Executions that may have been moved without anybody knowing.

    Whoever asked was told that it failed and may never come again; but if it was written, then
    there may be attempts nobody was sent and steps nobody looks at.
    """

    def __init__(
        self,
        work: Work,
        memory: Memory,
        go_on: Callable[[Actor], Coroutine[None, None, object]],
        went_back: Callable[[str], None],
        not_written: Callable[[str], None],
    ) -> None:
        """Takes whom to tell what was found out.

        Args:
            work: Where looking is done.
            memory: The executions.
            go_on: Reads what was written of one, and moves it on.
            went_back: Called with the reason when the store has lost what it had confirmed.
            not_written: Called with the id of an execution the store does not know.
        """
        self._work = work
        self._memory = memory
        self._go_on = go_on
        self._went_back = went_back
        self._not_written = not_written
        self._open: set[str] = set()

    def after(self, error: BaseException, execution_id: str) -> None:
        """Looks for what a failed commit left."""
        if isinstance(error, ChainBroken):
            self._went_back(error.message)
        elif may_be_written(error):
            self._look_soon(execution_id)

    @contextmanager
    def telling(self, actor: Actor) -> Iterator[None]:
        """Tells agents again, soon after, what a defect kept from them after the commit."""
        try:
            yield
        except Exception:
            actor.doubtful = actor.untold = True
            self._look_soon(actor.state.execution_id)
            raise

    def _look_soon(self, execution_id: str) -> None:
        if execution_id not in self._open:
            self._open.add(execution_id)
            self._work.start_in(LOOKED_AT_AFTER, lambda: self._look(execution_id))

    async def _look(self, execution_id: str) -> None:
        self._open.discard(execution_id)
        try:
            actor = await self._memory.find(execution_id)
            actor.doubtful = True
            await self._work.to_its_end(self._go_on(actor))
        except NotFound:
            self._not_written(execution_id)
        except OpsConductorError as exc:
            LOG.warning("execution %s is looked at again later: %s", execution_id, exc.message)
            self._look_soon(execution_id)
        except Exception:
            # What it may have been granted is held until it is known: looking must not end.
            LOG.exception("execution %s is looked at again later", execution_id)
            self._look_soon(execution_id)
