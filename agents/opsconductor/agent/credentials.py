"""The agent's own store of logins; nothing of it ever leaves the agent.

``credentials.yaml`` maps a reference to ``{kind: ssh, username, private_key_file, password,
passphrase}`` or to what another kind has (credential_kinds). The reference ``default`` serves
targets that name none; calls without a target ask for one named like their kind or channel.
"""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Any

from opsconductor.agent.credential_kinds import KINDS, entry_faults, hidden_names
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.settings import SettingsInvalid, read_mapping
from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT = "default"
_OWN_FIELDS = ("kind", "username", "private_key_file", "private_key", "password", "passphrase")


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
        faults += entry_faults(name, value)
    if faults:
        raise SettingsInvalid(str(path), faults)
    folder = path.parent
    return {name: _credential(_resolved(value, folder)) for name, value in values.items()}


def _credential(value: dict[str, Any]) -> Credential:
    own = {name: value[name] for name in _OWN_FIELDS if name in value}
    hidden = hidden_names(value.get("kind", "ssh"))
    rest = {key: text for key, text in value.items() if key not in (*_OWN_FIELDS, "hosts")}
    hosts = value.get("hosts", "*")
    return Credential(
        **own,
        settings=tuple(sorted((key, text) for key, text in rest.items() if key not in hidden)),
        hidden=tuple(sorted((key, text) for key, text in rest.items() if key in hidden)),
        hosts=tuple(hosts) if isinstance(hosts, list) else (hosts,),
    )


def _resolved(value: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Lets files be named relative to the credentials file."""
    files = KINDS[value.get("kind", "ssh")].files
    return {**value, **{name: str(folder / value[name]) for name in files if value.get(name)}}
