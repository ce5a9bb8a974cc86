"""What this agent lets itself be told to do, whatever the orchestrator says.

``policy.yaml`` in the agent's folder; without one everything is allowed that is signed, and reads
need no signature. Deny wins over allow.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from opsconductor.agent.settings import SettingsInvalid, read_mapping, unknown_keys
from opsconductor.rpc.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from opsconductor.tool_registry.model import Tool

# Spellings such as 0x7f.1, 017700000001 or 2130706433 reach an address no rule would recognise.
_NUMERIC_NAME = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?")


@dataclass(frozen=True, slots=True)
class Policy:
    """Allow and deny lists of one agent; patterns are shell-like, targets may be networks."""

    tools: tuple[str, ...] = ("*",)
    deny_tools: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("*",)
    targets: tuple[str, ...] = ("*",)
    """Names, addresses or networks (10.0.0.0/8)."""
    deny_targets: tuple[str, ...] = ()
    unsigned_reads: bool = True
    """Whether steps that only read run without a person's signature."""
    quorum: int = 1
    """Different people who must have signed a change."""

    @property
    def limits_hosts(self) -> bool:
        """Whether some hosts may not be reached."""
        return self.targets != ("*",) or bool(self.deny_targets)

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Reads the file; raises SettingsInvalid naming every mistake."""
        values = read_mapping(path)
        faults = unknown_keys(values, (item.name for item in fields(cls)))
        for name in ("tools", "deny_tools", "methods", "targets", "deny_targets"):
            if name in values and not _is_texts(values[name]):
                faults.append(Fault("TYPE", field=name, expected="a list of texts"))
        if not isinstance(values.get("unsigned_reads", True), bool):
            faults.append(Fault("TYPE", field="unsigned_reads", expected="true or false"))
        quorum = values.get("quorum", 1)
        if not isinstance(quorum, int) or isinstance(quorum, bool) or not 1 <= quorum <= 10:
            faults.append(Fault("RANGE", field="quorum", expected="a number from 1 to 10"))
        for name in ("targets", "deny_targets"):
            faults += _network_faults(name, values.get(name, ()))
        if faults:
            raise SettingsInvalid(str(path), faults)
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**settings)

    def objection(self, tool: Tool, target: Mapping[str, Any] | None) -> str:
        """Returns why a call is not allowed here; empty when it is."""
        if _matches(tool.name, self.deny_tools) or not _matches(tool.name, self.tools):
            return f"tool {tool.name} is not allowed by this agent's policy"
        if not _matches(tool.method, self.methods):
            return f"method {tool.method} is not allowed by this agent's policy"
        if target is None:
            return ""
        return self.objection_to_host(target.get("address") or target["name"], target["name"])

    def objection_to_host(self, address: str, name: str = "") -> str:
        """Returns why a host may not be reached from here; empty when it may."""
        spellings = {address, name or address}
        if any(_NUMERIC_NAME.fullmatch(text) and _ip(text) is None for text in spellings):
            return f"{address} is an ambiguous spelling of an address"
        if any(_host_matches(text, self.deny_targets) for text in spellings):
            return f"target {address} is denied by this agent's policy"
        # The name is whatever the orchestrator calls the host; only the address is gone to.
        if not _host_matches(address, self.targets):
            return f"target {address} is not allowed by this agent's policy"
        return ""


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _host_matches(host: str, patterns: tuple[str, ...]) -> bool:
    address = _ip(host)
    for pattern in patterns:
        network = _network(pattern)
        if network is None:
            if fnmatch.fnmatchcase(host.lower().rstrip("."), pattern.lower()):
                return True
        elif address is not None and address in network:
            return True
    return False


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _network_faults(name: str, patterns: Any) -> list[Fault]:
    if not _is_texts(patterns):
        return []
    return [
        Fault(
            "FORMAT", field=f"{name}[{index}]", found=text, expected="a network such as 10.0.0.0/8"
        )
        for index, text in enumerate(patterns)
        if "/" in text and _network(text) is None
    ]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
