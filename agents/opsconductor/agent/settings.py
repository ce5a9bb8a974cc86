"""Reads small settings files so that a person learns of every mistake at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_FILE_BYTES = 256 * 1024


class SettingsInvalid(InvalidArgument):
    """A settings file or variable has mistakes."""

    def __init__(self, source: str, faults: Iterable[Fault]) -> None:
        listed = tuple(faults)
        text = "\n".join(f"  {fault}" for fault in listed)
        super().__init__(f"{source} has mistakes:\n{text}", faults=listed)


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping a YAML or JSON file holds; an absent or empty file gives an empty one."""
    from opsconductor.tool_registry.documents import yaml_reader

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    value, _, faults = yaml_reader.load(data, max_bytes=MAX_FILE_BYTES)
    if faults:
        raise SettingsInvalid(str(path), faults)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsInvalid(
            str(path), [Fault("TYPE", found=type(value).__name__, expected="a mapping")]
        )
    return value


def write_mapping(path: Path, values: Mapping[str, Any]) -> None:
    """Writes settings as JSON, which is YAML too, readable by the owner only."""
    import json
    import os

    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def unknown_keys(values: Mapping[str, Any], known: Iterable[str], prefix: str = "") -> list[Fault]:
    """Returns a fault for every key that is not known, with a did-you-mean."""
    names = sorted(known)
    return [
        Fault("UNKNOWN_KEY", field=prefix + str(key), hint=_hint(str(key), names))
        for key in values
        if key not in names
    ]


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
