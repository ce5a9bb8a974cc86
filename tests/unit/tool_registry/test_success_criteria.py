"""An answer that says "I could not" is no success, whatever the exit code; an empty one may be."""

from __future__ import annotations

import json

import pytest

from opsconductor.tool_registry.outputs.reading import parse_output
from opsconductor.tool_registry.outputs.success import failure_reason
from opsconductor.tool_registry.registry import Registry

REGISTRY = Registry.load()
CHECKED = json.dumps({"ExecutedVersion": "$LATEST", "StatusCode": 200, "Payload": "null"})


def failed(name: str, code: int | None, stdout: str = "", stderr: str = "") -> bool:
    tool = REGISTRY.get(name)
    out, errors = stdout.encode(), stderr.encode()
    output = parse_output(tool, out, errors, code)
    return (
        failure_reason(
            tool, exit_code=code, output=output, inputs={}, stdout=out, stderr=errors
        )
        is not None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "stdout", "stderr"),
    [
        ("disk_usage", 1, "", "du: cannot access '/nope': No such file or directory\n"),
        ("find_files", 1, "", "find: '/nope': No such file or directory\n"),
        ("list_open_files", 1, "", ""),
        ("user_info", 1, "", "id: 'nobody2': no such user\n"),
        ("list_cron", 1, "", "crontab:  user `nobody2' unknown\n"),
        ("journal_query", 1, "", "Failed to add match: Invalid argument\n"),
        ("host_lookup", 1, ";; connection timed out; no servers could be reached\n", ""),
        ("host_lookup", 1, "Host shop.example.net not found: 2(SERVFAIL)\n", ""),
        ("nslookup", 1, ";; connection timed out; no servers could be reached\n", ""),
        ("pg_isready", 2, "10.0.0.5:5432 - no response\n", ""),
        ("pg_isready", 1, "10.0.0.5:5432 - rejecting connections\n", ""),
        ("rsyslog_check_config", 1, "rsyslogd: error during parsing file /etc/rsyslog.conf\n", ""),
        ("kubectl_rollout_status", 1, "", "error: timed out waiting for the condition\n"),
        (
            "mysqlcheck",
            0,
            "shop.orders\nwarning  : Table is marked as crashed\nerror    : Corrupt\n",
            "",
        ),
        ("top_processes", 0, "", "sh: 1: top: not found\n"),
    ],
)
def test_what_could_not_be_done_is_no_success(
    name: str, code: int, stdout: str, stderr: str
) -> None:
    assert failed(name, code, stdout, stderr)


@pytest.mark.parametrize(
    ("name", "code", "stdout", "stderr"),
    [
        ("disk_usage", 1, "4096\t/srv\n", "du: cannot read directory '/srv/x': Permission denied"),
        ("find_files", 0, "", ""),
        ("find_files", 1, "/srv/a\t1\t1.5\tf\troot\t644\n", "find: '/srv/x': Permission denied"),
        ("find_process", 1, "", ""),
        ("search_file", 1, "", ""),
        ("list_cron", 1, "", "no crontab for guest\n"),
        ("journal_query", 1, "", ""),
        ("host_lookup", 1, "Host shop.example.net not found: 3(NXDOMAIN)\n", ""),
        ("nslookup", 1, "** server can't find shop.example.net: NXDOMAIN\n", ""),
        ("user_info", 0, "uid=0(root) gid=0(root) groups=0(root)\n", ""),
        ("pg_isready", 0, "10.0.0.5:5432 - accepting connections\n", ""),
        ("mysqlcheck", 0, "shop.orders    OK\nshop.log\nnote     : no check for it\n", ""),
    ],
)
def test_an_answer_is_a_success_also_when_it_is_empty(
    name: str, code: int, stdout: str, stderr: str
) -> None:
    assert not failed(name, code, stdout, stderr)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("vapix_recording_stop", '<root><stop result="OK"/></root>',
         '<root><stop result="ERROR"/></root>'),
        ("vapix_recording_delete", '<root><remove result="OK"/></root>',
         '<root><remove result="ERROR"/></root>'),
        ("vapix_applications", '<reply result="ok"/>', '<reply result="error"/>'),
        ("vapix_ptz_position", "pan=1.5\ntilt=0\nzoom=1\n", "Error:\nNo such camera\n"),
    ],
)  # fmt: skip
def test_a_camera_that_answers_with_an_error_did_nothing(name: str, good: str, bad: str) -> None:
    assert not failed(name, 0, good)
    assert failed(name, 0, bad)


def test_a_function_that_failed_is_no_success() -> None:
    tool = REGISTRY.get("aws_lambda_invoke")
    answer = json.loads(CHECKED)
    assert failure_reason(tool, exit_code=None, output=answer, inputs={}) is None
    broken = {**answer, "FunctionError": "Unhandled"}
    assert failure_reason(tool, exit_code=None, output=broken, inputs={}) is not None
