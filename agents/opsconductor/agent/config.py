"""The agent's settings: ``agent.yaml``, overridden by OPSCONDUCTOR_AGENT_* variables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent.settings import SettingsInvalid, read_mapping, unknown_keys
from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PREFIX = "OPSCONDUCTOR_AGENT_"
ALL_SERVICES = (
    "automation-service",
    "communication-service",
    "asset-service",
    "network-analyzer-service",
)
LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_CAPACITY = 1024

_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set."""

    endpoint: str = ""
    """``host:port`` of the orchestrator."""
    endpoints: tuple[str, ...] = ()
    """More of them, where several work on one store."""
    name: str = ""
    segment: str = ""
    services: tuple[str, ...] = ALL_SERVICES
    """Locations whose tools it offers to run."""
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: int = 32
    """Attempts it takes at a time."""
    tools: tuple[str, ...] = ()
    """Folders of tool definitions; empty means those that come with the software."""
    log_level: str = "info"
    drain_grace: timedelta = timedelta(seconds=30)
    """How long a stopping agent waits for what runs."""
    on_partition: timedelta | None = None
    """How long it goes on with what runs while no orchestrator can be reached; None: to its end."""

    @property
    def all_endpoints(self) -> tuple[str, ...]:
        """Every orchestrator that is set, each once."""
        named = (self.endpoint, *self.endpoints) if self.endpoint else self.endpoints
        return tuple(dict.fromkeys(named))

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str]) -> Config:
        """Reads file and variables; raises SettingsInvalid naming every mistake of both."""
        values: dict[str, Any] = read_mapping(path)
        names = [item.name for item in fields(cls)]
        faults = unknown_keys(values, names)
        variables = {
            key.removeprefix(PREFIX).lower(): text
            for key, text in environment.items()
            if key.startswith(PREFIX)
        }
        faults += unknown_keys({key.upper(): 0 for key in variables}, map(str.upper, names), PREFIX)
        values.update({key: _from_text(key, text) for key, text in variables.items()})
        settings, more = _read(values, {key: PREFIX + key.upper() for key in variables})
        if faults + more:
            raise SettingsInvalid(f"{path} and {PREFIX}*", faults + more)
        return cls(**settings)


def settings_checked(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Returns settings as they are; raises SettingsInvalid naming every mistake."""
    _, faults = _read(values, {})
    if faults:
        raise SettingsInvalid(source, faults)
    return values


def _read(
    values: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[dict[str, Any], list[Fault]]:
    settings: dict[str, Any] = {}
    faults = []
    for name, read in _READERS.items():
        if name in values:
            try:
                settings[name] = read(values[name])
            except ValueError as exc:
                found = repr(values[name])
                faults.append(Fault("VALUE", names.get(name, name), found, expected=str(exc)))
    return settings, faults


def _from_text(name: str, text: str) -> Any:
    """Returns what a variable means in the file's terms."""
    if name in ("services", "tools", "endpoints"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "labels":
        pairs = (part.partition("=") for part in text.split(",") if part.strip())
        return {key.strip(): value.strip() for key, _, value in pairs}
    if name == "capacity" and text.strip().isdecimal():
        return int(text)
    return text


def is_endpoint(value: Any) -> bool:
    """Tells whether a value is a ``host:port``."""
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    return match is not None and 1 <= int(match[2]) <= 65535


def _endpoint(value: Any) -> str:
    if not is_endpoint(value):
        raise ValueError("host:port, such as conductor.example:7443")
    return str(value)


def _endpoints(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(is_endpoint(each) for each in value):
        raise ValueError("a list of host:port")
    return tuple(value)


def _on_partition(value: Any) -> timedelta | None:
    """Reads ``continue``, ``{stop_after: 10m}`` or, in a variable, ``stop_after: 10m``."""
    if value == "continue":
        return None
    if isinstance(value, str):
        name, _, text = value.partition(":")
        value = {name.strip(): text.strip()}
    if not isinstance(value, dict) or set(value) != {"stop_after"}:
        raise ValueError("continue, or stop_after with a duration such as 10m")
    return _duration(value["stop_after"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(part, str) and part for pair in value.items() for part in pair
    ):
        raise ValueError("texts by name, such as {site: berlin}")
    if "name" in value:
        raise ValueError("other labels than name: that one is always the agent's own name")
    return dict(value)


def _capacity(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_CAPACITY:
        raise ValueError(f"a number from 1 to {MAX_CAPACITY}")
    return value


def _log_level(value: Any) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)}")
    return str(value)


def _duration(value: Any) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError("a duration such as 30s or 2m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


_READERS: dict[str, Callable[[Any], Any]] = {
    "endpoint": _endpoint,
    "endpoints": _endpoints,
    "name": _text,
    "segment": _text,
    "services": _texts,
    "labels": _labels,
    "capacity": _capacity,
    "tools": _texts,
    "log_level": _log_level,
    "drain_grace": _duration,
    "on_partition": _on_partition,
}
