"""Targets: what a step acts on, resolved from the inventory or taken as a bare address."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.findings import did_you_mean
from opsconductor.orchestrator.domain.plans.segments import NO_SEGMENTS, SegmentsMap
from opsconductor.tool_registry.formats import mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.domain.plans.findings import Findings

_TEXT_FIELDS = (
    "type",
    "segment",
    "connection",
    "credential",
    "service_manager",
    "service_command",
    "environment",
)


def resolve_target(
    name: str,
    assets: Mapping[str, Mapping[str, Any]],
    segments: SegmentsMap = NO_SEGMENTS,
) -> dict[str, Any]:
    """Returns the target of a body: the asset of that name, else the bare address itself.

    Where its segment is not said, the segments map says it.
    """
    target = _target(name, assets.get(name, {"connection": "ssh"}))
    return target | {"segment": target["segment"] or segments.segment_of(target["address"])}


def _target(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "address": facts.get("address") or name,
        "port": int(facts.get("port") or 0),
        **{key: str(facts.get(key) or "") for key in _TEXT_FIELDS},
        "tags": sorted(facts.get("tags") or ()),
        "host_keys": list(facts.get("host_keys") or ()),
        "labels": dict(facts.get("labels") or {}),
    }


def check_target(
    name: str, path: str, step: str, assets: Mapping[str, Mapping[str, Any]], findings: Findings
) -> None:
    """Records a target that is neither an asset nor an address or host name."""
    if name in assets:
        return
    hint = did_you_mean(name, assets)
    if wrong := mismatch("host", name):
        expected = "an asset, an IP address or a host name"
        findings.fault(
            wrong.code if wrong.code != "FORMAT" else "BAD_TARGET",
            path,
            step=step,
            found=wrong.found,
            expected=expected,
            hint=hint,
        )
    elif hint and not _is_ip(name):
        findings.warn(
            "UNKNOWN_ASSET",
            path,
            step=step,
            found=f"{name}, which no asset is called and which is taken as a host name",
            hint=hint,
        )


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
