"""The agent's own store of logins; nothing of it ever leaves the agent.

``credentials.yaml`` maps a reference to ``{kind: ssh, username, private_key_file, password,
passphrase}``. The reference ``default`` serves targets that name none.
"""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.redact import SHORTEST_SECRET
from opsconductor.agent.settings import SettingsInvalid, read_mapping, unknown_keys
from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT = "default"
_FIELDS = ("kind", "username", "private_key_file", "private_key", "password", "passphrase")


class CredentialsUnsafe(SettingsInvalid):
    """The credentials file can be read by others."""


class CredentialFile:
    """Resolves references from the file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._credentials: dict[str, Credential] = {}

    def __call__(self, reference: str) -> Credential:
        """Returns a credential; raises LookupError naming what is missing."""
        try:
            self.refresh()
        except (SettingsInvalid, OSError) as exc:
            raise LookupError(str(exc)) from exc
        name = reference or DEFAULT
        if name not in self._credentials:
            if not reference:
                raise LookupError(
                    f"the target names no credential and {self._path} here has no 'default'"
                )
            raise LookupError(f"credential {name!r} is not in {self._path} on this agent")
        return self._credentials[name]

    def refresh(self) -> None:
        """Reads the file if it changed; raises SettingsInvalid for mistakes or open permissions."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._credentials, self._read_at = {}, None
            return
        version = (status.st_mtime_ns, status.st_mode)
        if version == self._read_at:
            return
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise CredentialsUnsafe(
                str(self._path),
                [Fault("PERMISSIONS", expected="mode 0600", hint=f"chmod 600 {self._path}")],
            )
        self._credentials = _parse(self._path)
        self._read_at = version

    def secrets(self) -> Iterator[str]:
        """Yields every value that must not appear in output, those of a changed file included."""
        with contextlib.suppress(SettingsInvalid, OSError):
            self.refresh()
        for credential in self._credentials.values():
            yield from credential.secrets


def _parse(path: Path) -> dict[str, Credential]:
    values = read_mapping(path)
    faults: list[Fault] = []
    for name, value in values.items():
        faults += _entry_faults(name, value)
    if faults:
        raise SettingsInvalid(str(path), faults)
    folder = path.parent
    return {name: Credential(**_resolved(value, folder)) for name, value in values.items()}


def _entry_faults(name: str, value: Any) -> list[Fault]:
    if not isinstance(value, dict):
        return [Fault("TYPE", field=name, expected="a mapping with kind, username, …")]
    faults = unknown_keys(value, _FIELDS, f"{name}.")
    if value.get("kind", "ssh") != "ssh":
        faults.append(Fault("KIND", field=f"{name}.kind", found=str(value["kind"]), expected="ssh"))
    # The value is not repeated: it may be the secret itself.
    faults += [
        Fault("TYPE", field=f"{name}.{key}", expected="a text")
        for key, item in value.items()
        if key in _FIELDS and not isinstance(item, str)
    ]
    for key in ("password", "passphrase", "private_key"):
        if isinstance(text := value.get(key, ""), str) and 0 < len(text) < SHORTEST_SECRET:
            expected = f"at least {SHORTEST_SECRET} characters, so that output can be masked"
            faults.append(Fault("TOO_SHORT", field=f"{name}.{key}", expected=expected))
    return faults


def _resolved(value: dict[str, str], folder: Path) -> dict[str, str]:
    """Lets key files be named relative to the credentials file."""
    if value.get("private_key_file"):
        return {**value, "private_key_file": str(folder / value["private_key_file"])}
    return value
