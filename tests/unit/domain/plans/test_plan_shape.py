"""What a plan document may look like, and how its mistakes are told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.findings import Findings
from opsconductor.orchestrator.domain.plans.parse import read_plan

if TYPE_CHECKING:
    from opsconductor.orchestrator.domain.plans.plan import Plan
    from opsconductor.rpc.errors import Fault


@dataclass(frozen=True)
class Parsed:
    plan: Plan | None
    faults: tuple[Fault, ...]


def parse_plan(document: object, lines: dict[str, int] | None = None) -> Parsed:
    findings = Findings(lines or {})
    plan = read_plan(document, findings)
    return Parsed(plan, findings.all_faults())


def plan(*steps: Any, **top: Any) -> dict[str, Any]:
    return {"steps": list(steps) or [{"id": "a", "tool": "ping"}], **top}


def step(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "tool": "ping", **fields}


def faults_of(document: Any, lines: Any = None) -> set[tuple[str, str]]:
    return {(fault.code, fault.field) for fault in parse_plan(document, lines).faults}


def test_smallest_plan_is_an_id_and_a_tool() -> None:
    parsed = parse_plan(plan())
    assert parsed.faults == ()
    assert parsed.plan is not None
    assert parsed.plan.mode == "sequential"
    assert parsed.plan.steps[0].tool == "ping"


def test_everything_of_the_documented_shape_is_read() -> None:
    parsed = parse_plan(
        {
            "version": "opsconductor/v1",
            "name": "rolling restart",
            "plan_id": "plan-42",
            "mode": "graph",
            "on_failure": "rollback",
            "run": "background",
            "priority": 1,
            "risk": "medium",
            "rollback": [{"tool": "ping", "inputs": {"host": "a"}}],
            "timeout": "30m",
            "context": {"environment": "production", "prompt": "do it"},
            "inputs": {"service": "nginx"},
            "segment": "dmz",
            "agent": {"labels": {"role": "web"}},
            "steps": [
                step(id="first", description="why", target="web-01", success="exit_code == 0"),
                {
                    "id": "second",
                    "tool": "restart_service",
                    "needs": ["first"],
                    "if": "steps.first.output.ok",
                    "timeout": "1h30m",
                    "retry": {
                        "max_attempts": 3,
                        "backoff": "linear",
                        "base": "2s",
                        "increment": "5s",
                        "max": "30s",
                        "on": ["unreachable"],
                    },
                    "concurrency": {"key": "host:web-01", "max_runs": 2, "on_conflict": "fail"},
                    "approval": {"all_of": [{"group": "sre", "approve": 2}], "expires": "4h"},
                    "precheck": {"tool": "service_status", "inputs": {"service": "nginx"}},
                    "verify": {"tool": "http_check", "success": "output.status == 200"},
                    "undo": {"manual": "call the operator"},
                    "irreversible": True,
                    "segment": "dmz",
                },
            ],
        }
    )
    assert parsed.faults == ()
    assert parsed.plan is not None
    second = parsed.plan.steps[1]
    assert second.timeout == timedelta(minutes=90)
    assert second.retry is not None
    assert second.retry.increment == timedelta(seconds=5)
    assert second.undo is not None
    assert second.undo.strategy == "manual"
    assert second.approval is not None
    assert second.approval.all_of[0].approve == 2
    assert second.condition == "steps.first.output.ok"
    assert parsed.plan.environment == "production"
    assert parsed.plan.agent_labels == {"role": "web"}
    assert parsed.plan.rollback[0].tool == "ping"


def test_needs_without_a_mode_make_a_graph() -> None:
    parsed = parse_plan(plan(step(), step(id="b", needs=["a"])))
    assert parsed.faults == ()
    assert parsed.plan is not None
    assert parsed.plan.mode == "graph"


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_needs_in_another_mode_than_graph_are_a_fault(mode: Any) -> None:
    document = plan(step(), step(id="b", needs=["a"]), mode=mode)
    assert faults_of(document) == {("NEEDS_WITHOUT_GRAPH", "steps[1].needs")}


def test_unknown_keys_are_told_with_a_suggestion() -> None:
    (fault,) = parse_plan(plan(step(timout="5s"))).faults
    assert (fault.code, fault.found, fault.step) == ("UNKNOWN_KEY", "timout", "a")
    assert fault.hint == "did you mean timeout?"


@pytest.mark.parametrize("number", [30, 0, -5, 2.5, 0.001, 90_000, 1e9, -0.5, 1e-9])
def test_a_number_without_unit_is_told_a_duration_that_is_taken(number: float) -> None:
    (fault,) = parse_plan(plan(step(timeout=number))).faults
    assert fault.code == "TIMEOUT"
    advice = fault.hint.rpartition(" ")[2]
    assert parse_plan(plan(step(timeout=advice))).faults == ()


@pytest.mark.parametrize("word", ["for_each", "max_parallel", "batches", "max_failures", "capture"])
def test_words_of_later_versions_say_that_they_are_not_supported(word: Any) -> None:
    (fault,) = parse_plan(plan(step(**{word: 1}))).faults
    assert fault.code == "NOT_SUPPORTED"
    assert word in fault.hint


@pytest.mark.parametrize(
    "value", [-1, 0, 0.0001, 1e12, None, True, "", "5", "0s", "25h", "999999999d", "-5s", [], "5 m"]
)
def test_bad_timeouts_are_told_with_the_bounds(value: Any) -> None:
    (fault,) = parse_plan(plan(step(timeout=value))).faults
    assert (fault.code, fault.field) == ("TIMEOUT", "steps[0].timeout")
    assert "1s..24h" in fault.expected


def test_bare_number_as_a_duration_says_what_to_write() -> None:
    (fault,) = parse_plan(plan(step(timeout=5))).faults
    assert "unit" in fault.hint
    assert "5s" in fault.hint


@pytest.mark.parametrize("bad", ["", "..", "a/b", "x" * 65, "-a", "ä", 7, None, "a b", "a\n"])
def test_bad_ids_are_refused(bad: Any) -> None:
    assert faults_of(plan({"id": bad, "tool": "ping"})) == {("BAD_ID", "steps[0].id")}


def test_duplicate_ids_name_the_other_step() -> None:
    (fault,) = parse_plan(plan(step(), step())).faults
    assert (fault.code, fault.hint) == ("DUPLICATE_STEP", "steps[0] has it too")


@pytest.mark.parametrize("document", [{}, {"steps": []}])
def test_plan_without_steps_is_empty(document: Any) -> None:
    assert faults_of(document) == {("EMPTY_PLAN", "steps")}


@pytest.mark.parametrize("document", [None, [], "x", 3, True])
def test_document_that_is_no_mapping_is_refused(document: Any) -> None:
    parsed = parse_plan(document)
    assert parsed.plan is None
    assert parsed.faults[0].code == "TYPE"


def test_too_many_steps_are_refused_quickly() -> None:
    document = plan(*[{"id": f"s{i}", "tool": "ping"} for i in range(2001)])
    assert faults_of(document) == {("PLAN_TOO_LARGE", "steps")}


def test_deep_nesting_is_refused() -> None:
    value: object = "x"
    for _ in range(5000):
        value = [value]
    assert [fault.code for fault in parse_plan(plan(inputs={"a": value})).faults] == [
        "PLAN_TOO_LARGE"
    ]


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**20])
def test_numbers_no_json_reader_agrees_on_are_refused(number: Any) -> None:
    assert ("NUMBER", "inputs.n") in faults_of(plan(inputs={"n": number}))


@pytest.mark.parametrize("attempts", [0, -1, 10**9, True, "3"])
def test_attempts_out_of_bounds_are_refused(attempts: Any) -> None:
    document = plan(step(retry={"max_attempts": attempts}))
    assert ("RETRY_NOT_ALLOWED", "steps[0].retry.max_attempts") in faults_of(document)


@pytest.mark.parametrize("undo", ["state", "none", {"manual": "do x"}, {"tool": "ping"}])
def test_every_form_of_undo_is_read(undo: Any) -> None:
    parsed = parse_plan(plan(step(undo=undo)))
    assert parsed.faults == ()
    assert parsed.plan is not None
    assert parsed.plan.steps[0].undo is not None


@pytest.mark.parametrize("undo", [None, 3, "nothing", [], {"command": "rm"}])
def test_other_forms_of_undo_are_refused(undo: Any) -> None:
    assert parse_plan(plan(step(undo=undo))).faults


@pytest.mark.parametrize(("claim", "level"), [("read", "low"), ("destructive", "high")])
def test_risk_classes_are_accepted_as_claims(claim: Any, level: Any) -> None:
    parsed = parse_plan(plan(risk=claim))
    assert parsed.plan is not None
    assert parsed.plan.risk == level


def test_all_mistakes_of_shape_are_told_at_once_with_their_lines() -> None:
    lines = {"mode": 1, "steps[0]": 3, "steps[0].timeout": 5}
    parsed = parse_plan(
        plan(step(timeout=-1, needs="b", irreversible="yes"), mode="both", priority=9), lines
    )
    found = {fault.field: fault.line for fault in parsed.faults}
    assert found == {
        "mode": 1,
        "priority": 0,
        "steps[0].timeout": 5,
        "steps[0].needs": 3,
        "steps[0].irreversible": 3,
    }


KEYS = st.sampled_from(
    [
        *("id", "tool", "needs", "if", "timeout", "retry", "undo", "approval", "inputs", "steps"),
        *("mode", "rollback", "context", "agent", "on", "all_of", "group", "max_attempts"),
        *("manual", "risk", "precheck", "target", "segment", "version"),
    ]
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["a", "ping", "graph", "state", "5s", "${{ steps.a.output }}"]),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(KEYS | st.text(), children, max_size=6)
    ),
    max_leaves=40,
)


@given(st.dictionaries(KEYS, JUNK, max_size=8))
def test_no_document_makes_the_reader_raise_and_every_fault_says_what_and_where(
    document: Any,
) -> None:
    for fault in parse_plan(document).faults:
        assert fault.code
        assert fault.field


@given(st.lists(st.dictionaries(KEYS, JUNK, max_size=8), max_size=4))
def test_no_steps_make_the_reader_raise(steps: Any) -> None:
    parse_plan({"steps": steps})
