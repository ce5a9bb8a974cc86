"""Where the orchestrators are: what the settings say, and what they have told since."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from opsconductor.agent.config import is_endpoint
from opsconductor.agent.settings import SettingsInvalid, read_mapping, write_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FILE = "endpoints.json"
LEARNED_KEPT = 16
"""Orchestrators come and go; of those that were named, the newest are remembered."""

_log = logging.getLogger(__name__)


class Endpoints:
    """Every ``host:port`` a session is kept with; what is learned outlives the process."""

    def __init__(self, path: Path, configured: Sequence[str]) -> None:
        self._path = path
        self._configured = tuple(dict.fromkeys(configured))
        self._learned = self._remembered()
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[str]:
        return iter((*self._configured, *self._learned))

    @property
    def change(self) -> asyncio.Event:
        """Is set as soon as there are others than now."""
        return self._changed

    def learn(self, named: Iterable[str]) -> None:
        """Adds what an orchestrator named; the settings' own are never given up for it."""
        fresh = [each for each in dict.fromkeys(named) if self._is_new_kind(each)]
        learned = [*fresh, *(each for each in self._learned if each not in fresh)][:LEARNED_KEPT]
        if set(learned) == set(self._learned):
            return
        _log.info("orchestrators to keep sessions with: %s", ", ".join(learned))
        self._learned = learned
        self._remember()
        self._changed.set()
        self._changed = asyncio.Event()

    def _is_new_kind(self, endpoint: str) -> bool:
        if not is_endpoint(endpoint):
            _log.warning("an orchestrator named %r, which is no host:port", endpoint[:100])
            return False
        return endpoint not in self._configured

    def _remembered(self) -> list[str]:
        try:
            found = read_mapping(self._path).get("learned", [])
        except (SettingsInvalid, OSError) as exc:
            _log.warning("what orchestrators named earlier is forgotten: %s", exc)
            return []
        listed = found if isinstance(found, list) else []
        good = [each for each in listed if isinstance(each, str) and is_endpoint(each)]
        return [each for each in good if each not in self._configured][:LEARNED_KEPT]

    def _remember(self) -> None:
        try:
            write_mapping(self._path, {"learned": self._learned})
        except OSError as exc:
            _log.warning("orchestrators named are not remembered over a restart: %s", exc)
