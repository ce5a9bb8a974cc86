"""What the answer to an HTTP request means for a tool."""

from __future__ import annotations

import pytest

from opsconductor.agent import http_answer
from opsconductor.tool_registry.registry import Registry

TOOLS = Registry.load()


def answer(status: int, body: str = "busy") -> dict[str, object]:
    return {"status": status, "body_excerpt": body, "headers": {}}


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(400, "non_retryable"), (404, "non_retryable"), (429, "throttled"), (503, "retryable")],
)
def test_a_bad_status_is_a_failure_that_says_what_was_answered(
    status: int, error_class: str
) -> None:
    failure = http_answer.failure(TOOLS.get("grafana_search"), "command", answer(status))
    assert failure is not None
    assert (failure.code, failure.error_class) == ("HTTP_STATUS", error_class)
    assert str(status) in failure.message
    assert "busy" in failure.message


def test_a_good_status_is_none() -> None:
    assert http_answer.failure(TOOLS.get("grafana_search"), "command", answer(204)) is None


def test_a_tool_whose_success_names_the_status_judges_it() -> None:
    assert http_answer.failure(TOOLS.get("http_check"), "command", answer(503)) is None


def test_a_status_inside_the_body_is_another_one() -> None:
    tool = TOOLS.get("prometheus_query")
    assert "output.status" in tool.success.expression
    assert http_answer.failure(tool, "command", answer(503)) is not None


@pytest.mark.parametrize("section", ["capture", "undo"])
def test_captures_and_undos_fail_by_their_status_too(section: str) -> None:
    tool = TOOLS.get("vapix_daynight_set")
    failure = http_answer.failure(tool, section, answer(500))  # type: ignore[arg-type]  # a word
    assert failure is not None
    assert section in failure.message


def test_outputs_of_other_methods_are_no_answers() -> None:
    tool = TOOLS.get("asset_query")
    assert http_answer.failure(tool, "command", {"status": 500}) is None
    assert not http_answer.is_parsed(tool, "command", {"status": 500})


def test_the_body_is_read_unless_the_tool_keeps_the_answer() -> None:
    assert http_answer.is_parsed(TOOLS.get("grafana_search"), "command", answer(200))
    assert not http_answer.is_parsed(TOOLS.get("http_check"), "command", answer(200))
