"""A bare address goes to the segment that holds it, and nowhere by luck."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.segments import SegmentsMap, read_segments
from opsconductor.tool_registry.registry import Registry

SEGMENTS: list[dict[str, Any]] = [
    {"name": "dmz", "cidrs": ["10.20.0.0/16", "2001:db8::/32"], "dns": ["dmz.example.com"]},
    {"name": "db", "cidrs": ["10.20.30.0/24"], "dns": ["*.db.dmz.example.com"]},
]
REGISTRY = Registry.load()


def the_map() -> SegmentsMap:
    segments, faults = read_segments(SEGMENTS)
    assert faults == ()
    return SegmentsMap.of(segments)


@pytest.mark.parametrize(
    ("address", "segment"),
    [
        ("10.20.1.1", "dmz"),
        ("10.20.30.1", "db"),
        ("2001:db8::5", "dmz"),
        ("10.21.0.1", ""),
        ("web.dmz.example.com", "dmz"),
        ("DMZ.Example.com.", "dmz"),
        ("a.db.dmz.example.com", "db"),
        ("evildmz.example.com", ""),
        ("10.20.1.1.example.org", ""),
    ],
)
def test_the_most_specific_entry_decides(address: str, segment: str) -> None:
    assert the_map().segment_of(address) == segment


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 30))), st.ip_addresses(v=4))
def test_an_address_lies_in_the_longest_network_that_holds_it(
    drawn: list[tuple[int, int]], address: ipaddress.IPv4Address
) -> None:
    networks = {ipaddress.ip_network(each, strict=False) for each in drawn}
    segments = [{"name": f"s{n}", "cidrs": [str(each)]} for n, each in enumerate(networks)]
    read, faults = read_segments(segments)
    assert faults == ()
    holding = [each for each in networks if address in each]
    longest = max(holding, key=lambda each: each.prefixlen, default=None)
    names = {str(each): f"s{n}" for n, each in enumerate(networks)}
    found = SegmentsMap.of(read).segment_of(str(address))
    assert found == ("" if longest is None else names[str(longest)])


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "segments"),
        ([7], "segments[0]"),
        ([{"name": "a b"}], "segments[0].name"),
        ([{"name": "a", "cidr": []}], "segments[0].cidr"),
        ([{"name": "a", "cidrs": "10.0.0.0/8"}], "segments[0].cidrs"),
        ([{"name": "a", "cidrs": ["10.0.0.1/8"]}], "segments[0].cidrs[0]"),
        ([{"name": "a", "dns": ["a b"]}], "segments[0].dns[0]"),
        (
            [{"name": "a", "cidrs": ["10.0.0.0/8"]}, {"name": "b", "cidrs": ["10.0.0.0/8"]}],
            "segments[1].cidrs[0]",
        ),
        ([{"name": "a"}, {"name": "a"}], "segments[1].name"),
    ],
)
def test_what_is_no_map_is_refused_with_its_place(document: Any, path: str) -> None:
    _, faults = read_segments(document)
    assert [fault.field for fault in faults] == [path]


def faults_of(target: str, segments: list[str], **fields: Any) -> list[str]:
    step = {"id": "a", "tool": "run_command", "inputs": {"argv": ["uname"]}, "target": target}
    checked = check_plan({"steps": [step | fields]}, None, REGISTRY, {}, segments, None, the_map())
    return [fault.code for fault in checked.faults]


def test_an_address_in_no_segment_is_refused_where_several_could_hold_it() -> None:
    assert faults_of("192.0.2.7", ["dmz", "office"]) == ["SEGMENT_UNKNOWN"]
    assert faults_of("192.0.2.7", ["dmz"]) == []
    assert faults_of("192.0.2.7", ["dmz", "office"], segment="office") == []
    assert faults_of("10.20.1.1", ["dmz", "office"]) == []


def test_a_step_cannot_say_another_segment_than_its_address_lies_in() -> None:
    assert faults_of("10.20.1.1", ["dmz", "office"], segment="office") == ["SEGMENT_CONFLICT"]
