"""The segments map: which addresses and names lie in which segment, for targets that are no assets.

Names are compared as they are written; the orchestrator resolves none.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import Findings, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opsconductor.rpc.errors import Fault

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FIELDS = ("name", "cidrs", "dns")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_SUFFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_CIDR_WORDS = "a network such as 10.20.0.0/16, without host bits"
_DNS_WORDS = "a DNS suffix such as dmz.example.com"
MAX_SEGMENTS = 1000


@dataclass(frozen=True)
class SegmentsMap:
    """Segments by network and by DNS suffix; the most specific entry decides."""

    networks: tuple[tuple[Network, str], ...] = ()
    suffixes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, segments: Iterable[Mapping[str, Any]]) -> SegmentsMap:
        """Returns the map of segments that were read before."""
        networks, suffixes = [], []
        for segment in segments:
            name = str(segment["name"])
            networks += [(ipaddress.ip_network(cidr), name) for cidr in segment["cidrs"]]
            suffixes += [(str(suffix), name) for suffix in segment["dns"]]
        return cls(
            tuple(sorted(networks, key=lambda item: -item[0].prefixlen)),
            tuple(sorted(suffixes, key=lambda item: -len(item[0]))),
        )

    def segment_of(self, address: str) -> str:
        """Returns the segment an address or host name lies in; empty when no entry holds it."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            name = address.lower().rstrip(".")
            held = (segment for suffix, segment in self.suffixes if _below(name, suffix))
        else:
            held = (segment for network, segment in self.networks if ip in network)
        return next(held, "")

    def __str__(self) -> str:
        """Returns the entries for people."""
        entries = [f"{network} in {name}" for network, name in self.networks]
        entries += [f"*.{suffix} in {name}" for suffix, name in self.suffixes]
        return ", ".join(entries) or "no entries"


NO_SEGMENTS = SegmentsMap()


def read_segments(
    document: Any, lines: Mapping[str, int] | None = None
) -> tuple[list[dict[str, Any]], tuple[Fault, ...]]:
    """Returns the segments of the list ``segments`` of an inventory document, and every fault.

    A network or suffix that stands in two segments is a fault: nothing is ever ambiguous later.
    """
    findings = Findings(lines or {})
    if not isinstance(document, list) or len(document) > MAX_SEGMENTS:
        expected = f"a list of at most {MAX_SEGMENTS} segments"
        findings.fault("TYPE", "segments", found=shown(document), expected=expected)
        return [], findings.all_faults()
    owners: dict[str, str] = {}
    segments = [
        _segment(item, f"segments[{index}]", owners, findings)
        for index, item in enumerate(document)
    ]
    _check_names(segments, findings)
    return segments, findings.all_faults()


def _segment(item: Any, path: str, owners: dict[str, str], findings: Findings) -> dict[str, Any]:
    if not isinstance(item, dict):
        expected = "a segment with name, cidrs and dns"
        findings.fault("TYPE", path, found=shown(item), expected=expected)
        return {"name": "", "cidrs": [], "dns": []}
    for key in item:
        if key not in _FIELDS:
            expected = "a field of a segment: " + ", ".join(_FIELDS)
            hint = did_you_mean(str(key), _FIELDS)
            findings.fault("UNKNOWN_KEY", f"{path}.{key}", found=key, expected=expected, hint=hint)
    name = item.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "a segment's name: letters, digits, - or _"
        findings.fault("REQUIRED", f"{path}.name", found=shown(name), expected=expected)
        name = ""
    entries = _Entries(name, owners, findings)
    return {
        "name": name,
        "cidrs": entries.read(item.get("cidrs", []), f"{path}.cidrs", _cidr, _CIDR_WORDS),
        "dns": entries.read(item.get("dns", []), f"{path}.dns", _suffix, _DNS_WORDS),
    }


@dataclass(frozen=True)
class _Entries:
    segment: str
    owners: dict[str, str]
    findings: Findings

    def read(
        self, values: Any, path: str, read: Callable[[object], str], expected: str
    ) -> list[str]:
        if not isinstance(values, list):
            self.findings.fault("TYPE", path, found=shown(values), expected="a list")
            return []
        kept = []
        for index, value in enumerate(values):
            where, entry = f"{path}[{index}]", read(value)
            if not entry:
                self.findings.fault("FORMAT", where, found=shown(value), expected=expected)
            elif entry in self.owners:
                found = f"{entry}, which stands in segment {self.owners[entry]} too"
                self.findings.fault("AMBIGUOUS", where, found=found, expected="one segment")
            else:
                self.owners[entry] = self.segment
                kept.append(entry)
        return kept


def _cidr(value: object) -> str:
    try:
        return str(ipaddress.ip_network(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""


def _suffix(value: object) -> str:
    if not isinstance(value, str):
        return ""
    suffix = value.lower().removeprefix("*").strip(".")
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _below(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _check_names(segments: list[dict[str, Any]], findings: Findings) -> None:
    seen: set[str] = set()
    for index, segment in enumerate(segments):
        name = segment["name"]
        if name and name in seen:
            expected = "each segment once, with all its cidrs and dns"
            findings.fault("DUPLICATE", f"segments[{index}].name", found=name, expected=expected)
        seen.add(name)
