"""What an executor logs in with; the value never appears in a representation."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from opsconductor.agent.executors.base import Outcome, Refused


@dataclass(frozen=True, slots=True)
class Credential:
    """A login, resolved by the agent from the reference in the target."""

    kind: str = "ssh"
    username: str = ""
    private_key_file: str = ""
    """Path of a private key on the agent's host."""
    private_key: str = field(default="", repr=False)
    """A private key itself, PEM or OpenSSH."""
    passphrase: str = field(default="", repr=False)
    """Opens the private key."""
    password: str = field(default="", repr=False)
    settings: tuple[tuple[str, str], ...] = ()
    """What else belongs to the kind and may be shown, such as region or transport."""
    hidden: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What else belongs to the kind and must not be shown, such as url or community."""
    hosts: tuple[str, ...] = ("*",)
    """Names, patterns or networks it may be shown to."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Returns the values that must not appear in output."""
        known = (self.password, self.passphrase, self.private_key)
        return tuple(value for value in (*known, *dict(self.hidden).values()) if value)

    def setting(self, name: str, default: str = "") -> str:
        """Returns one of the kind's own values, shown or hidden."""
        return dict(self.settings).get(name) or dict(self.hidden).get(name) or default

    def objection_to(self, host: str) -> str:
        """Returns why the credential may not be shown to a host; empty when it may."""
        if any(_matches(host, pattern) for pattern in self.hosts):
            return ""
        return f"it may not be shown to {host}, only to its hosts: {', '.join(self.hosts)}"


Credentials = Callable[[str], Credential]
"""Resolves a reference ("" asks for the default) or raises LookupError naming what is missing."""


def no_credentials(reference: str) -> Credential:
    """Knows no credential at all."""
    raise LookupError(f"credential {reference!r} is not here: there is no store of credentials")


def resolve(
    credentials: Credentials, reference: str, kind: str, needed_for: str, host: str = ""
) -> Credential:
    """Returns a credential of a kind that may be shown to a host; raises Refused otherwise."""
    try:
        credential = credentials(reference)
    except LookupError as error:
        which = f"credential {reference!r}" if reference else f"default credential for {kind}"
        why = error.args[0] if isinstance(error, KeyError) and error.args else error
        message = f"this agent has no {which}, needed for {needed_for}: {why}"
        raise Refused(Outcome.refused("CREDENTIAL_UNKNOWN", message)) from error
    if credential.kind != kind:
        message = (
            f"credential {reference!r} is of kind {credential.kind}; {needed_for} needs {kind}"
        )
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    if host and (objection := credential.objection_to(host)):
        message = f"credential {reference!r} is not used for {needed_for}: {objection}"
        raise Refused(Outcome.refused("CREDENTIAL_DENIED", message))
    return credential


def _matches(host: str, pattern: str) -> bool:
    if "/" in pattern:
        try:
            return ipaddress.ip_address(host.strip("[]")) in ipaddress.ip_network(
                pattern, strict=False
            )
        except ValueError:
            return False
    return fnmatch.fnmatchcase(host.lower().rstrip("."), pattern.lower())
