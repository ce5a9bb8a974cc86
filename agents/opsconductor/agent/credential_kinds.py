"""What an entry of ``credentials.yaml`` may hold, by its kind, and what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.redact import SHORTEST_SECRET
from opsconductor.agent.settings import unknown_keys
from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of credential."""

    shown: tuple[str, ...]
    """Fields that are no secrets."""
    hidden: tuple[str, ...]
    """Fields that output is searched for, to mask them."""
    required: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Fields that name a file, relative to the credentials file."""
    names_hosts: bool = False
    """Whether the entry must say to which hosts the secret may be shown."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Returns every field of its own."""
        return (*self.shown, *self.hidden)


_TLS = ("require", "verify", "off")
KINDS: Mapping[str, Kind] = {
    "ssh": Kind(
        shown=(
            *("username", "private_key_file", "become", "become_user"),
            *("jump", "address", "port"),
        ),
        hidden=("private_key", "password", "passphrase", "become_password"),
        choices={"become": ("sudo",)},
        files=("private_key_file",),
    ),
    "winrm": Kind(
        shown=("username", "transport", "ca_file"),
        hidden=("password",),
        required=("username",),
        choices={"transport": ("ntlm", "basic", "kerberos")},
        files=("ca_file",),
        names_hosts=True,
    ),
    "database": Kind(
        shown=("username", "tls", "ca_file"),
        hidden=("password",),
        choices={"tls": _TLS},
        files=("ca_file",),
        names_hosts=True,
    ),
    "http": Kind(
        shown=("username", "scheme", "header"),
        hidden=("password", "token"),
        required=("scheme",),
        choices={"scheme": ("digest", "basic", "bearer", "header")},
        names_hosts=True,
    ),
    "aws": Kind(
        shown=("profile", "region", "access_key_id", "endpoint_url"),
        hidden=("secret_access_key", "session_token"),
    ),
    "smtp": Kind(
        shown=("host", "port", "username", "security", "sender", "ca_file"),
        hidden=("password",),
        required=("host", "sender"),
        choices={"security": ("starttls", "tls", "off")},
        files=("ca_file",),
    ),
    "webhook": Kind(
        shown=("header", "ca_file"),
        hidden=("url", "token"),
        required=("url",),
        files=("ca_file",),
    ),
    "snmp": Kind(
        shown=("version", "username", "auth_protocol", "privacy_protocol"),
        hidden=("community", "auth_password", "privacy_password"),
        required=("version",),
        choices={
            "version": ("2c", "3"),
            "auth_protocol": ("md5", "sha", "sha256", "sha512"),
            "privacy_protocol": ("des", "aes", "aes256"),
        },
        names_hosts=True,
    ),
}
"""Every kind by its name."""


def hidden_names(kind: str) -> tuple[str, ...]:
    """Returns the secret fields of a kind."""
    return KINDS[kind].hidden


def entry_faults(name: str, value: Any) -> list[Fault]:
    """Returns what is wrong with one entry; values are never repeated, they may be secrets."""
    if not isinstance(value, dict):
        return [Fault("TYPE", field=name, expected="a mapping with kind, username, …")]
    kind = KINDS.get(str(value.get("kind", "ssh")))
    if kind is None:
        expected = "one of " + ", ".join(KINDS)
        anything = ("kind", "hosts", *(key for each in KINDS.values() for key in each.fields))
        faults = unknown_keys(value, anything, f"{name}.")
        kind_fault = Fault(
            "KIND", field=f"{name}.kind", found=str(value["kind"]), expected=expected
        )
        return [kind_fault, *faults]
    known = ("kind", *kind.fields, "hosts")
    faults = unknown_keys(value, known, f"{name}.")
    faults += [
        Fault("TYPE", field=f"{name}.{key}", expected="a text")
        for key, item in value.items()
        if key in known and key != "hosts" and not isinstance(item, str)
    ]
    faults += [
        Fault("REQUIRED", field=f"{name}.{key}", expected=f"what kind {value['kind']} needs")
        for key in kind.required
        if not value.get(key)
    ]
    return faults + _host_faults(name, value, kind) + _value_faults(name, value, kind)


def _host_faults(name: str, value: Mapping[str, Any], kind: Kind) -> list[Fault]:
    hosts = value.get("hosts", None if kind.names_hosts else "*")
    if isinstance(hosts, str) or (
        isinstance(hosts, list) and hosts and all(isinstance(host, str) for host in hosts)
    ):
        return []
    expected = 'the hosts it may be shown to, such as [10.0.0.0/8, "*.example.com"], or "*"'
    return [Fault("REQUIRED", field=f"{name}.hosts", expected=expected)]


def _value_faults(name: str, value: Mapping[str, Any], kind: Kind) -> list[Fault]:
    faults = []
    for key in kind.hidden:
        if isinstance(text := value.get(key, ""), str) and 0 < len(text) < SHORTEST_SECRET:
            expected = f"at least {SHORTEST_SECRET} characters, so that output can be masked"
            faults.append(Fault("TOO_SHORT", field=f"{name}.{key}", expected=expected))
    for key, choices in dict(kind.choices).items():
        if key in value and value[key] not in choices:
            expected = "one of " + ", ".join(choices)
            faults.append(Fault("VALUE", field=f"{name}.{key}", expected=expected))
    return faults
