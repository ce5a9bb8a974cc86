"""Named formats of text inputs, matched against the whole value.

A format's ``safe_start`` says that no value of it can begin with a character programs read as the
start of an option or a file reference, so it may stand anywhere in an argument list.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opsconductor.tool_registry.format import Format, pattern
from opsconductor.tool_registry.platform_formats import PLATFORM_FORMATS
from opsconductor.tool_registry.text_safety import confusable, escaped, harmful_character

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a value is not of its format."""

    code: str
    found: str
    expected: str


def mismatch(name: str, value: str) -> Mismatch | None:
    """Returns why a value is not of the named format, None when it is."""
    form = FORMATS[name]
    if harm := harmful_character(value, multiline=form.multiline):
        return Mismatch(harm[0], harm[1], form.expected)
    if form.safe_start and value.startswith(("-", "@")):
        return Mismatch(
            "LEADING_DASH", escaped(value), f"{form.expected}; it may not begin with {value[0]}"
        )
    if form.identifier and (strange := confusable(value)):
        return Mismatch(*strange, form.expected)
    if name == "path" and ".." in value.split("/"):
        return Mismatch("PATH_OUTSIDE_ROOT", escaped(value), "a path without .. in it")
    if not form.check(value):
        return Mismatch("FORMAT", escaped(value) or "an empty text", form.expected)
    return None


_HOST_NAME = pattern(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_cidr(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return "/" in value


def _is_host(value: str) -> bool:
    if _is_ip(value):
        return "%" not in value
    # Some resolvers read all-digit and hexadecimal names as addresses, others as names.
    last = value.rstrip(".").rsplit(".", 1)[-1]
    return (
        _HOST_NAME(value) and ".." not in value and not re.fullmatch(r"\d+|0[xX][\da-fA-F]*", last)
    )


def _is_http_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.username is None
        and bool(parts.hostname)
        and _is_host(parts.hostname or "")
        and port != 0
        and re.fullmatch(r"[!-~]+", value) is not None
        and not re.search(r'[\\"<>^`{|}]', value)
    )


def _is_path(value: str) -> bool:
    # One spelling per file, so that rules about paths cannot be passed by /etc//shadow.
    parts = value.rstrip("/").split("/")[1:]
    return value.startswith("/") and len(value) <= 4096 and not {"", "."} & set(parts)


def _anything(value: str) -> bool:
    return True


_LIST = (
    Format("host", "a host name or IP address", _is_host),
    Format("ip", "an IP address", _is_ip),
    Format("cidr", "a network such as 10.0.0.0/8", _is_cidr),
    Format("http-url", "an http:// or https:// address without a password in it", _is_http_url),
    Format(
        "path",
        "an absolute path without // or . in it",
        _is_path,
        identifier=False,
    ),
    Format(
        "unit",
        "a service name such as nginx",
        pattern(r"[A-Za-z0-9_@.:][A-Za-z0-9_@.:\\-]{0,254}"),
    ),
    Format("username", "a user name", pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")),
    Format("groupname", "a group name", pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")),
    Format("word", "letters, digits and . _ -", pattern(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}")),
    Format("process", "a process name", pattern(r"[A-Za-z0-9_.(][A-Za-z0-9_.:()+/-]{0,63}")),
    Format("octal-mode", "file permissions such as 0644", pattern(r"0?[0-7]{3}")),
    Format("interface", "a network interface name", pattern(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]{0,14}")),
    Format("signal", "a signal name such as TERM", pattern(r"[A-Z][A-Z0-9]{1,9}")),
    Format("package", "a package name", pattern(r"[A-Za-z0-9][A-Za-z0-9+._:-]{0,127}")),
    Format("uuid", "a UUID", pattern(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")),
    Format(
        "base64",
        "base64 text",
        pattern(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"),
    ),
    Format(
        "line",
        "one line of text",
        _anything,
        identifier=False,
        safe_start=False,
        constrained=False,
    ),
    Format(
        "text",
        "text",
        _anything,
        identifier=False,
        multiline=True,
        safe_start=False,
        constrained=False,
    ),
)
FORMATS: Mapping[str, Format] = {form.name: form for form in (*_LIST, *PLATFORM_FORMATS)}
"""Every format by its name."""
