"""Whether a server's host key is the one expected; keys are never learned by connecting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from opsconductor.agent.executors.base import Outcome, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import asyncssh

Verdict = Literal["known", "changed", "unknown", "revoked"]

_PORT = 22
_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True)
class ExpectedKeys:
    """The host keys a target may show."""

    source: str
    """Where they were declared, for messages."""
    keys: tuple[asyncssh.SSHKey, ...] = ()
    fingerprints: frozenset[str] = frozenset()
    revoked: frozenset[str] = field(default_factory=frozenset)

    @property
    def algorithms(self) -> list[str]:
        """Returns what to ask the server for: kinds with a known key first, then the others."""
        kinds = {key.get_algorithm() for key in self.keys}
        known = [name for name in _ALGORITHMS if ("ssh-rsa" if "rsa-" in name else name) in kinds]
        return known + [name for name in _ALGORITHMS if name not in known]

    def judge(self, key: asyncssh.SSHKey) -> Verdict:
        """Returns what to think of the key a server shows."""
        shown = key.get_fingerprint()
        if shown in self.revoked:
            return "revoked"
        expected = self.fingerprints | {known.get_fingerprint() for known in self.keys}
        if shown in expected:
            return "known"
        return "changed" if expected else "unknown"

    def __str__(self) -> str:
        """Returns the expected fingerprints."""
        return ", ".join(sorted(self.fingerprints | {key.get_fingerprint() for key in self.keys}))


def expected_keys(
    declared: Sequence[str], known_hosts: Path | None, address: str, port: int
) -> ExpectedKeys:
    """Returns the keys declared with the target, else those of the known_hosts file.

    A declared key is ``SHA256:…`` or a line such as ``ssh-ed25519 AAAA…`` (a host name before it is
    ignored). Raises Refused when one cannot be read.
    """
    if declared:
        return _declared(declared)
    if known_hosts is None or not known_hosts.exists():
        return ExpectedKeys(f"{known_hosts} (which does not exist)" if known_hosts else "nothing")
    return _from_file(known_hosts, address, port)


def refusal(where: str, key: asyncssh.SSHKey | None, expected: ExpectedKeys) -> Outcome:
    """Returns the outcome for a server whose key was not accepted."""
    if key is None:
        message = f"{where} offered no host key of a usable kind ({', '.join(_ALGORITHMS)})"
        return Outcome.refused("HOST_KEY_UNUSABLE", message)
    kind, shown = key.get_algorithm(), key.get_fingerprint()
    verdict = expected.judge(key)
    if verdict == "unknown":
        line = key.export_public_key().decode().strip()
        return Outcome.refused(
            "HOST_KEY_UNKNOWN",
            f"the host key of {where} is not known: it shows {kind} {shown}, and {expected.source}"
            f" has no key for it. Compare this fingerprint with the host's own (ssh-keygen -lf"
            f" /etc/ssh/ssh_host_*_key.pub there), then add the key to the asset's host_keys or to"
            f" the agent's known_hosts: {line}",
        )
    if verdict == "revoked":
        message = f"the host key of {where}, {kind} {shown}, is revoked in {expected.source}"
        return Outcome.refused("HOST_KEY_REVOKED", message)
    return Outcome.refused(
        "HOST_KEY_CHANGED",
        f"the host key of {where} CHANGED: it shows {kind} {shown}, {expected.source} says"
        f" {expected}. Somebody may be in between, or the host was reinstalled: find out which"
        f" before replacing the key in {expected.source}",
    )


def _declared(lines: Sequence[str]) -> ExpectedKeys:
    import asyncssh

    source = "the asset's host_keys"
    keys, fingerprints = [], []
    for line in lines:
        if line.startswith("SHA256:"):
            fingerprints.append(line.strip().rstrip("="))
            continue
        words = line.split()
        at = next((number for number, word in enumerate(words) if word.startswith("AAAA")), 0)
        try:
            keys.append(asyncssh.import_public_key(" ".join(words[max(at - 1, 0) : at + 1])))
        except (asyncssh.KeyImportError, ValueError) as error:
            message = f"{source} holds {line!r}, which is no public key: {error}"
            raise Refused(Outcome.refused("HOST_KEY_INVALID", message)) from error
    return ExpectedKeys(source, tuple(keys), frozenset(fingerprints))


def _from_file(path: Path, address: str, port: int) -> ExpectedKeys:
    import asyncssh

    try:
        hosts = asyncssh.import_known_hosts(path.read_text())
    except (OSError, ValueError) as error:
        message = f"cannot read the known hosts in {path}: {error}"
        raise Refused(Outcome.refused("KNOWN_HOSTS_INVALID", message)) from error
    found: tuple[Any, ...] = hosts.match(address, address, None if port == _PORT else port)
    revoked = frozenset(key.get_fingerprint() for key in found[2])
    return ExpectedKeys(str(path), tuple(found[0]), revoked=revoked)
