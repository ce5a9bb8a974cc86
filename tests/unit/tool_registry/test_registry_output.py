from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.tool_registry.durations import parse_duration
from opsconductor.tool_registry.estimate import estimate
from opsconductor.tool_registry.outputs.parsers import MAX_BYTES, PARSERS
from opsconductor.tool_registry.outputs.reading import OutputUnparsable, check_output, parse_output
from opsconductor.tool_registry.outputs.success import failure_reason
from opsconductor.tool_registry.registry import Registry

REGISTRY = Registry.load()
DF = b"""\
Filesystem          1-blocks         Used    Available Capacity Mounted on
/dev/mapper/vg root 63278391296 40252370944 19778453504      68% /
//nas/share         1000         2000      -1000     200% /mnt/my share
none                0            0         0             - /proc/x
"""
PING = b"""\
PING 10.0.0.5 (10.0.0.5) 56(84) bytes of data.
64 bytes from 10.0.0.5: icmp_seq=1 ttl=64 time=0.040 ms
64 bytes from 10.0.0.5: icmp_seq=2 ttl=64 time=0.050 ms

--- 10.0.0.5 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss, time 1001ms
rtt min/avg/max/mdev = 0.040/0.045/0.050/0.005 ms
"""


def test_file_systems_become_numbers() -> None:
    output = parse_output(REGISTRY.get("check_disk_space"), DF, b"", 0)
    first, second, third = output["filesystems"]
    assert first == {
        "filesystem": "/dev/mapper/vg root",
        "size_bytes": 63278391296,
        "used_bytes": 40252370944,
        "available_bytes": 19778453504,
        "use_percent": 68,
        "mounted_on": "/",
    }
    assert second["mounted_on"] == "/mnt/my share"
    assert second["available_bytes"] == -1000
    assert "use_percent" not in third


def test_ping_output_is_read_by_jc() -> None:
    output = parse_output(REGISTRY.get("ping"), PING, b"", 0)
    assert output["packets_received"] == 2
    assert output["round_trip_ms_avg"] == 0.045


def test_text_is_kept_up_to_the_limit_and_says_when_it_was_cut() -> None:
    tool = REGISTRY.get("run_command")
    assert parse_output(tool, b"hello\xff\n", b"", 0) == {
        "text": "hello\N{REPLACEMENT CHARACTER}\n"
    }
    cut = parse_output(tool, "\u20ac".encode() * 30_000, b"", 0)
    assert cut["truncated"] is True
    assert len(cut["text"].encode()) <= MAX_BYTES


def test_a_file_that_is_not_text_comes_as_base64() -> None:
    tool = REGISTRY.get("read_file")
    notes = b"size=2\nmode=644\nsha256=ab\ntruncated=false\nnoise=1\nWarning: x\n"
    output = parse_output(tool, b"\xff\x00", notes, 0)
    assert (output["content"], output["content_encoding"], output["size"]) == ("/wA=", "base64", 2)
    assert "noise" not in output
    assert parse_output(tool, b"a=b\n", notes, 0)["content"] == "a=b\n"


def test_output_that_breaks_its_schema_is_unparsable_only_after_success() -> None:
    tool = REGISTRY.get("write_file")
    with pytest.raises(OutputUnparsable, match="MISSING_INPUT"):
        parse_output(tool, b"nothing\n", b"", 0)
    assert parse_output(tool, b"nothing\n", b"", 3) == {}
    assert parse_output(REGISTRY.get("ping"), b"junk", b"", 1) is not None


def test_captured_state_is_read_by_its_own_section() -> None:
    tool = REGISTRY.get("write_file")
    assert parse_output(tool, b"exists=false\n", b"", 0, section="capture") == {"exists": False}
    with pytest.raises(OutputUnparsable):
        parse_output(tool, b"", b"", 0, section="capture")


def test_an_executors_own_output_is_checked_by_the_schema() -> None:
    tool = REGISTRY.get("asset_query")
    good = {"success": True, "total_count": 6, "breakdown": {"host": 6}, "assets": [{"name": "a"}]}
    assert check_output(tool, good) == good
    with pytest.raises(OutputUnparsable):
        check_output(tool, {**good, "breakdown": {"host": "six"}})
    with pytest.raises(OutputUnparsable):
        check_output(tool, [good])


@pytest.mark.parametrize("parser", ["lines", "json", "jsonlines", "regex", "kv", "text", "none"])
@given(text=st.text(max_size=200))
def test_no_output_makes_a_parser_raise_anything_else(parser: str, text: str) -> None:
    try:
        value = PARSERS[parser](text, {"pattern": "(?P<a>x+)", "field": "rows"})
    except OutputUnparsable:
        return
    json.dumps(value)


def test_long_lists_are_cut_and_say_so() -> None:
    value = PARSERS["lines"]("x" * 1000 + "\n" + "y\n" * 100_000, {})
    assert value["truncated"] is True
    assert value["total_count"] == 100_001
    assert len(json.dumps(value)) < 2 * MAX_BYTES


def test_a_wrong_exit_code_fails_with_the_last_line_of_stderr() -> None:
    tool = REGISTRY.get("restart_service")
    reason = failure_reason(
        tool, exit_code=5, output={}, inputs={}, stderr=b"x\nUnit a not found.\x1b[0m\n"
    )
    assert reason == "exit code 5: Unit a not found.\\x1b[0m"
    assert failure_reason(tool, exit_code=0, output={}, inputs={}) is None


def test_a_disk_check_without_file_systems_failed() -> None:
    tool = REGISTRY.get("check_disk_space")
    full = {"filesystems": [{"use_percent": 1}]}
    assert failure_reason(tool, exit_code=1, output=full, inputs={}) is None
    reason = failure_reason(
        tool, exit_code=1, output={"filesystems": []}, inputs={}, stderr=b"df: /x: No such file"
    )
    assert reason is not None
    assert "No such file" in reason


@pytest.mark.parametrize(
    ("output", "inputs", "good"),
    [
        ({"status": 200}, {}, True),
        ({"status": 404}, {}, False),
        ({"status": 404}, {"expect_status": 404}, True),
        ({"status": 200, "matched": False, "body_excerpt": "x"}, {"contains": "x"}, False),
        ({"status": 200, "body_excerpt": "xyz"}, {"contains": "y"}, True),
    ],
)
def test_a_web_check_succeeds_by_status_and_text(
    output: dict[str, object], inputs: dict[str, object], good: bool
) -> None:
    tool = REGISTRY.get("http_check")
    reason = failure_reason(tool, exit_code=None, output=output, inputs=inputs)
    assert (reason is None) is good


def test_estimates_are_linear_and_unknown_when_an_input_is() -> None:
    tool = REGISTRY.get("ping")
    assert estimate(tool, {"count": 4}) == timedelta(seconds=5)
    assert estimate(tool, {"count": "${{ steps.a.output.n }}"}) is None
    assert estimate(REGISTRY.get("run_command"), {}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("1d", 86400)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "5", 5, 0.5, None, True, "5 m", "-5s", "5x", "s", "1h 3m", "\u0665s"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_duration(text)


@pytest.mark.parametrize("tool", ["check_disk_space", "list_processes"])
@pytest.mark.parametrize(
    "line",
    ["x" + " " * 5000, "1 " * 5000, "1 1 u 1 1 1 S 1 a" + " " * 5000, "1 " * 9 + " " * 4000 + "1"],
)
@pytest.mark.timeout(60)
def test_output_made_to_be_slow_is_read_in_the_end(tool: str, line: str) -> None:
    """A pattern that goes back over each of these blanks would take hours."""
    parse_output(REGISTRY.get(tool), "\n".join([line] * 1000).encode(), b"", 0)


def test_data_beyond_the_limit_is_refused() -> None:
    tool = REGISTRY.get("service_status")
    text = b"service=" + b"x" * 600_000 + b"\nactive=true\nstate=active\n"
    with pytest.raises(OutputUnparsable, match="bytes as data"):
        parse_output(tool, text, b"", 0)
