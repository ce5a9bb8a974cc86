from __future__ import annotations

from typing import Any

import pytest

from opsconductor.tool_registry.formats import FORMATS, mismatch
from opsconductor.tool_registry.inputs import check_inputs, is_constrained
from opsconductor.tool_registry.registry import Registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.mark.parametrize(
    ("tool", "inputs", "code", "field"),
    [
        ("check_disk_space", {"pth": "/"}, "UNKNOWN_KEY", "inputs.pth"),
        ("check_disk_space", {"path": 5}, "TYPE", "inputs.path"),
        ("check_disk_space", {"path": True}, "TYPE", "inputs.path"),
        ("check_disk_space", {"path": "data"}, "FORMAT", "inputs.path"),
        ("check_disk_space", {"path": "/etc//shadow"}, "FORMAT", "inputs.path"),
        ("check_disk_space", {"path": "../../etc/passwd"}, "PATH_OUTSIDE_ROOT", "inputs.path"),
        ("check_disk_space", {"path": "C:\\x"}, "FORMAT", "inputs.path"),
        ("check_disk_space", {"path": "/a\0b"}, "NUL_BYTE", "inputs.path"),
        ("check_disk_space", {"path": "/a\nb"}, "CONTROL_CHARACTER", "inputs.path"),
        ("check_disk_space", {"path": "/a\u202eb"}, "CONTROL_CHARACTER", "inputs.path"),
        ("check_disk_space", {"path": "/a\u200bb"}, "CONTROL_CHARACTER", "inputs.path"),
        ("check_disk_space", {"path": "/a\ud800"}, "ENCODING", "inputs.path"),
        ("restart_service", {}, "MISSING_INPUT", "inputs.service"),
        ("restart_service", {"service": "--now"}, "LEADING_DASH", "inputs.service"),
        ("restart_service", {"service": "nginx\n"}, "CONTROL_CHARACTER", "inputs.service"),
        ("restart_service", {"service": "ngin\u0445"}, "CONFUSABLE", "inputs.service"),
        ("restart_service", {"service": "cafe\u0301"}, "NOT_NFC", "inputs.service"),
        ("restart_service", {"service": "a; rm -rf ~"}, "FORMAT", "inputs.service"),
        ("ping", {"host": "\u0430dmin"}, "CONFUSABLE", "inputs.host"),
        ("ping", {"host": "2130706433"}, "FORMAT", "inputs.host"),
        ("ping", {"host": "0x7f.1"}, "FORMAT", "inputs.host"),
        ("ping", {"count": 0}, "RANGE", "inputs.count"),
        ("ping", {"count": 1.0}, "NUMBER", "inputs.count"),
        ("ping", {"count": True}, "TYPE", "inputs.count"),
        ("http_check", {"url": "file:///etc/passwd"}, "FORMAT", "inputs.url"),
        ("http_check", {"url": "http://user:pw@host/"}, "FORMAT", "inputs.url"),
        ("http_check", {"url": "http://h/", "method": "POST"}, "ENUM", "inputs.method"),
        ("run_command", {"argv": []}, "LENGTH", "inputs.argv"),
        ("run_command", {"argv": "ls -l"}, "TYPE", "inputs.argv"),
        ("run_command", {"argv": ["ls", 5]}, "TYPE", "inputs.argv[1]"),
        ("run_command", {"argv": ["ls", "a\0"]}, "NUL_BYTE", "inputs.argv[1]"),
        ("write_file", {"path": "/a", "content": "\u20ac" * 20_000}, "LENGTH", "inputs.content"),
        ("write_file", {"path": "/a", "content": "", "mode": 644}, "TYPE", "inputs.mode"),
    ],
)
def test_a_wrong_input_is_refused_with_its_code(
    registry: Registry, tool: str, inputs: dict[str, Any], code: str, field: str
) -> None:
    _, faults = check_inputs(registry.get(tool), inputs)
    assert [(fault.code, fault.field) for fault in faults] == [(code, field)]


def test_every_fault_is_told_at_once_with_hints(registry: Registry) -> None:
    _, faults = check_inputs(registry.get("restart_service"), {"servce": 5})
    assert {fault.code for fault in faults} == {"UNKNOWN_KEY", "MISSING_INPUT"}
    assert faults[0].hint == "did you mean service?"


def test_a_number_where_text_is_wanted_says_to_quote_it(registry: Registry) -> None:
    inputs = {"path": "/a", "content": "", "mode": 644}
    fault = check_inputs(registry.get("write_file"), inputs)[1][0]
    assert fault.hint == 'quote it: "644"'


def test_defaults_are_filled_and_given_values_kept(registry: Registry) -> None:
    typed, faults = check_inputs(registry.get("ping"), {"host": "web-01", "count": 2})
    assert faults == []
    assert typed == {"host": "web-01", "count": 2, "wait_seconds": 5}


def test_late_inputs_count_as_given_and_keep_their_text(registry: Registry) -> None:
    late = {"service": "${{ steps.a.output.name }}"}
    typed, faults = check_inputs(registry.get("restart_service"), late, late={"service"})
    assert faults == []
    assert typed == late
    _, faults = check_inputs(registry.get("restart_service"), {"srvice": "x"}, late={"srvice"})
    assert sorted(fault.code for fault in faults) == ["MISSING_INPUT", "UNKNOWN_KEY"]


def test_only_limited_parameters_may_be_bound_late_into_a_change(registry: Registry) -> None:
    assert is_constrained(registry.get("restart_service").properties["service"])
    assert not is_constrained(registry.get("write_file").properties["content"])
    assert not is_constrained(registry.get("run_command").properties["argv"])
    assert is_constrained(registry.get("ping").properties["count"])


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.safe_start])
@pytest.mark.parametrize(
    "value", ["-x", "--help", "-", "@/etc/passwd", "a\0", "a\n", "", "a\u2028"]
)
def test_formats_for_free_places_refuse_options_and_control_characters(
    name: str, value: str
) -> None:
    if name == "base64" and value == "":
        return
    assert mismatch(name, value) is not None


@pytest.mark.parametrize("value", ["web-01", "10.0.0.1", "::1", "web-01.example.com", "localhost."])
def test_hosts_people_type_are_hosts(value: str) -> None:
    wanted = None if value != "localhost." else "FORMAT"
    found = mismatch("host", value)
    assert (found and found.code) == wanted


@pytest.mark.parametrize(
    "value",
    [
        "http://a/",
        "https://[::1]:8443/x?y=%20",
        "http://10.0.0.1:80",
        "https://web-01.example.com/h",
    ],
)
def test_addresses_people_type_are_addresses(value: str) -> None:
    assert mismatch("http-url", value) is None
