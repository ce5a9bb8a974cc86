"""The ``allowed_signers`` file of ssh-keygen(1): who may sign with which key, for what, and when.

Read strictly: a line that cannot be understood whole fails the whole file, because a rule that is
half understood lets too much through. Wildcards and certificate authorities are refused.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opsconductor.rpc.ssh_keys import KEY_TYPES, PublicKey
from opsconductor.rpc.ssh_wire import WireError

_MAX_BYTES = 1024 * 1024
_WILDCARDS = frozenset("*?!")
_PRINCIPALS = re.compile(r'(?:"([^"]*)"|([^\s"]+))[ \t]+(.*)')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?')
_KEY = re.compile(r"([a-z0-9@.-]+)[ \t]+([A-Za-z0-9+/=]+)(?:[ \t].*)?")
_KEY_PREFIXES = ("ssh-", "ecdsa-", "sk-", "rsa-", "webauthn-")
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class SignersInvalid(ValueError):
    """An allowed_signers file cannot be relied on."""

    code = "POLICY_LOAD_FAILED"

    def __init__(self, message: str, line: int = 0) -> None:
        self.line = line
        super().__init__(f"line {line}: {message}" if line else message)


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line: people, the key that signs for them, and its limits."""

    principals: frozenset[str]
    key: PublicKey
    namespaces: frozenset[str] | None = None
    """What it may sign for; None means anything."""
    valid_after: datetime | None = None
    valid_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class AllowedSigners:
    """All lines of a file."""

    entries: tuple[AllowedSigner, ...] = ()

    @classmethod
    def parse(cls, text: str) -> AllowedSigners:
        """Reads the text; raises SignersInvalid naming the first line not understood."""
        entries = []
        for number, line in enumerate(text.split("\n"), start=1):
            content = line.rstrip("\r").strip(" \t")
            if content and not content.startswith("#"):
                entries.append(_entry(content, number))
        return cls(tuple(entries))

    @classmethod
    def load(cls, path: Path | str) -> AllowedSigners:
        """Reads a file that only root or this user can write; raises SignersInvalid otherwise."""
        try:
            with Path(path).open("rb") as file:
                _refuse_writable_by_others(os.fstat(file.fileno()), Path(path))
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise SignersInvalid(f"{path} is larger than {_MAX_BYTES} bytes")
            return cls.parse(data.decode("utf-8"))
        except OSError as error:
            raise SignersInvalid(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SignersInvalid(f"{path} is not UTF-8 text") from error

    def entries_for(self, principal: str, key: PublicKey) -> list[AllowedSigner]:
        """Returns the lines that let this key sign for this person."""
        return [
            entry
            for entry in self.entries
            if entry.key.blob == key.blob and principal in entry.principals
        ]


def _refuse_writable_by_others(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SignersInvalid(f"{path} is not a regular file")
    if status.st_mode & 0o022:
        raise SignersInvalid(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run: chmod go-w {path}"
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise SignersInvalid(f"{path} belongs to user {status.st_uid}, not to root or this process")


def _entry(content: str, line: int) -> AllowedSigner:
    if "\0" in content:
        raise SignersInvalid("holds a NUL character", line)
    match = _PRINCIPALS.fullmatch(content)
    if match is None:
        raise SignersInvalid("expected: principals [options] key-type key", line)
    names, rest = match[1] if match[1] is not None else match[2], match[3]
    if names in KEY_TYPES:
        raise SignersInvalid("the line begins with a key; say first whose it is", line)
    principals = _words(names, "principal", line)
    options: dict[str, str] = {}
    if not rest.startswith(_KEY_PREFIXES):
        options, rest = _options(rest, line)
    key_words = _KEY.fullmatch(rest)
    if key_words is None:
        raise SignersInvalid("expected a key type and a key in base64", line)
    namespaces = options.get("namespaces")
    return AllowedSigner(
        principals,
        _key(key_words[1], key_words[2], line),
        None if namespaces is None else _words(namespaces, "namespace", line),
        _time(options.get("valid-after"), line),
        _time(options.get("valid-before"), line),
    )


def _key(key_type: str, encoded: str, line: int) -> PublicKey:
    try:
        return PublicKey.from_text(key_type, encoded)
    except WireError as error:
        raise SignersInvalid(str(error), line) from error


def _words(text: str, what: str, line: int) -> frozenset[str]:
    words = text.split(",")
    for word in words:
        if not word:
            raise SignersInvalid(f"an empty {what}", line)
        if _WILDCARDS & set(word):
            raise SignersInvalid(f"{what} {word!r} holds a wildcard; name each one", line)
    return frozenset(words)


def _options(text: str, line: int) -> tuple[dict[str, str], str]:
    options: dict[str, str] = {}
    position = 0
    while match := _OPTION.match(text, position):
        name, value = match[1].lower(), match[2]
        if name == "cert-authority":
            raise SignersInvalid("certificate authorities are not accepted", line)
        if name not in {"namespaces", "valid-after", "valid-before"} or value is None:
            raise SignersInvalid(f"unknown or incomplete option {match[0]!r}", line)
        if name in options:
            raise SignersInvalid(f"option {name} is given twice", line)
        options[name] = value
        position = match.end()
        if text[position : position + 1] != ",":
            break
        position += 1
    rest = text[position:]
    if not options or not rest.startswith((" ", "\t")):
        raise SignersInvalid(f"cannot understand {text[position:][:40]!r}", line)
    return options, rest.strip(" \t")


def _time(text: str | None, line: int) -> datetime | None:
    """Reads a time as ssh-keygen does: in UTC with a Z, else in the machine's time zone."""
    if text is None:
        return None
    digits = text.removesuffix("Z")
    try:
        if not re.fullmatch(r"[0-9]+", digits):
            raise ValueError(digits)
        time = datetime.strptime(digits, _TIMES.get(len(digits), "?"))  # noqa: DTZ007 - zone below
    except ValueError as error:
        raise SignersInvalid(
            f"{text!r} is not a time like 20261231 or 202612312359Z", line
        ) from error
    return time.replace(tzinfo=UTC) if text.endswith("Z") else time.astimezone()
