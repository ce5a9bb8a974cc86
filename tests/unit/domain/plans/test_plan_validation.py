"""What a plan has to fulfil beyond its shape, judged against the shipped tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.check import CheckedPlan, check_plan
from opsconductor.orchestrator.domain.plans.policy import DEFAULT_POLICY, EMBEDDED_POLICY

if TYPE_CHECKING:
    from opsconductor.tool_registry.registry import Registry

Assets = dict[str, dict[str, Any]]
Check = Callable[..., CheckedPlan]


@pytest.fixture
def check(registry: Registry, assets: Assets) -> Check:
    def run(
        *steps: Any, segments: Any = (), policy: Any = None, lines: Any = None, **top: Any
    ) -> CheckedPlan:
        return check_plan({"steps": list(steps), **top}, lines, registry, assets, segments, policy)

    return run


def disk(id: Any = "space", **fields: Any) -> dict[str, Any]:
    return {"id": id, "tool": "check_disk_space", "target": "web-01", **fields}


def restart(id: Any = "restart", **fields: Any) -> dict[str, Any]:
    fields = {"target": "web-01", "inputs": {"service": "nginx"}, **fields}
    return {"id": id, "tool": "restart_service", **fields}


def codes(checked: Any) -> list[str]:
    return [fault.code for fault in checked.faults]


def test_good_plan_has_no_faults(check: Check) -> None:
    checked = check(disk(), restart())
    assert checked.faults == ()
    assert checked.plan is not None


def test_cycle_unknown_tool_wrong_type_and_negative_timeout_get_one_answer(check: Check) -> None:
    checked = check(
        disk("a", needs=["b"]),
        disk("b", needs=["a"]),
        {"id": "c", "tool": "restart_servic", "target": "web-01"},
        {"id": "d", "tool": "ping", "inputs": {"host": "web-01", "count": "three"}},
        restart("e", timeout=-1),
    )
    assert checked.plan is None
    by_code = {fault.code: fault for fault in checked.faults}
    assert by_code["PLAN_CYCLE"].found == "a → b → a"
    assert by_code["UNKNOWN_TOOL"].step == "c"
    assert "restart_service" in by_code["UNKNOWN_TOOL"].hint
    assert (by_code["TYPE"].step, by_code["TYPE"].field) == ("d", "steps[3].inputs.count")
    assert by_code["TIMEOUT"].field == "steps[4].timeout"
    assert len(checked.faults) == 4


def test_faults_carry_their_line(check: Check) -> None:
    lines = {"steps[0]": 2, "steps[0].tool": 3}
    (fault,) = check({"id": "a", "tool": "dfk"}, lines=lines).faults
    assert (fault.code, fault.line) == ("UNKNOWN_TOOL", 3)


def test_missing_target_is_told(check: Check) -> None:
    assert codes(check({"id": "a", "tool": "restart_service", "inputs": {"service": "x"}})) == [
        "MISSING_TARGET"
    ]


def test_target_of_a_tool_that_takes_none_is_refused(check: Check) -> None:
    assert codes(check({"id": "a", "tool": "asset_query", "target": "web-01"})) == [
        "TARGET_NOT_TAKEN"
    ]


def test_target_among_the_inputs_is_understood_unless_it_contradicts(check: Check) -> None:
    one = restart(target="", inputs={"service": "nginx", "target_host": "web-01"})
    assert check(one).faults == ()
    two = restart(target="web-01", inputs={"service": "nginx", "target_host": "db-01"})
    assert codes(check(two)) == ["TARGET_CONFLICT"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("-oProxyCommand=x", "LEADING_DASH"),
        ("web 01", "BAD_TARGET"),
        ("2130706433", "BAD_TARGET"),
        ("0x7f.1", "BAD_TARGET"),
        ("\u0430dmin", "CONFUSABLE"),
    ],
)
def test_what_is_no_host_is_refused(check: Check, target: Any, code: Any) -> None:
    assert codes(check(disk(target=target))) == [code]


@pytest.mark.parametrize("target", ["10.1.2.3", "fe80::1", "host.example.org", "localhost"])
def test_bare_addresses_are_targets(check: Check, target: Any) -> None:
    assert check(disk(target=target)).faults == ()


def test_name_close_to_an_asset_gets_a_warning(check: Check) -> None:
    checked = check(disk(target="web-1"))
    assert checked.faults == ()
    assert [(warning.code, warning.hint) for warning in checked.warnings] == [
        ("UNKNOWN_ASSET", "did you mean web-01?")
    ]


def test_command_that_cannot_be_made_for_a_target_is_told_before_anything_runs(
    check: Check,
) -> None:
    (fault,) = check(restart(target="odd-01")).faults
    assert fault.code == "NOT_RENDERABLE"
    assert "runit" in fault.found


# References


def test_plan_inputs_are_resolved_typed(check: Check) -> None:
    step = restart(inputs={"service": "${{ inputs.service }}"})
    assert check(step, inputs={"service": "nginx"}).faults == ()
    assert codes(check(step, inputs={"service": 5})) == ["TYPE"]


def test_unknown_plan_input_is_told_with_a_suggestion(check: Check) -> None:
    (fault,) = check(
        restart(inputs={"service": "${{ inputs.servce }}"}), inputs={"service": "nginx"}
    ).faults
    assert (fault.code, fault.hint) == ("UNKNOWN_INPUT", "did you mean service?")


def test_target_may_come_from_the_plan_inputs(check: Check) -> None:
    assert check(disk(target="${{ inputs.host }}"), inputs={"host": "web-01"}).faults == ()
    assert codes(check(disk(target="${{ inputs.hst }}"))) == ["REFERENCE"]


def test_result_of_an_earlier_step_may_be_used(check: Check) -> None:
    first: dict[str, Any] = {"id": "look", "tool": "service_status", "target": "web-01"}
    first["inputs"] = {"service": "nginx"}
    second = restart(inputs={"service": "${{ steps.look.output.service }}"})
    assert check(first, second).faults == ()
    assert codes(check(first, second, mode="parallel")) == ["LATE_BOUND_UNCONSTRAINED"]


def test_step_not_among_the_needs_cannot_be_read(check: Check) -> None:
    (fault,) = check(
        disk("a"),
        disk("b"),
        restart(needs=["a"], inputs={"service": "${{ steps.b.output.x }}"}),
    ).faults
    assert (fault.code, fault.hint) == ("LATE_BOUND_UNCONSTRAINED", "add b to its needs")


def test_unknown_step_in_a_reference_is_told(check: Check) -> None:
    (fault,) = check(disk("look"), restart(inputs={"service": "${{ steps.lok.output.x }}"})).faults
    assert (fault.code, fault.hint) == ("UNKNOWN_STEP", "did you mean look?")


def test_late_value_of_a_change_needs_a_constrained_parameter(check: Check) -> None:
    write = {
        "id": "write",
        "tool": "write_file",
        "target": "web-01",
        "inputs": {"path": "/srv/a", "content": "${{ steps.space.output.x }}"},
    }
    (fault,) = check(disk(), write).faults
    assert (fault.code, fault.field) == ("LATE_BOUND_UNCONSTRAINED", "steps[1].inputs.content")


def test_calls_beside_a_step_see_no_results(check: Check) -> None:
    verify = {"tool": "ping", "inputs": {"host": "${{ steps.space.output.x }}"}}
    assert codes(check(disk(), restart(verify=verify))) == ["LATE_BOUND_NOT_ALLOWED"]


def test_malformed_reference_is_told(check: Check) -> None:
    assert codes(check(restart(inputs={"service": "${{ 1 + 1 }}"}))) == ["EXPRESSION"]


# Conditions


def test_condition_reads_earlier_steps(check: Check) -> None:
    good = "steps.space.output.filesystems[0].use_percent < 95"
    assert check(disk(), restart(needs=["space"], **{"if": good})).faults == ()


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("steps.space.output <", "EXPRESSION"),
        ("nothing.here", "EXPRESSION"),
        ("steps.spce.output.x == 1", "UNKNOWN_STEP"),
        ("steps.restart.output.x == 1", "STEP_NOT_BEFORE"),
    ],
)
def test_bad_conditions_are_told(check: Check, condition: Any, code: Any) -> None:
    assert codes(check(disk(), restart(needs=["space"], **{"if": condition}))) == [code]


def test_success_is_a_condition_over_the_outcome(check: Check) -> None:
    assert check(disk(success="exit_code == 0 && output.filesystems.size() > 0")).faults == ()
    assert codes(check(disk(success="steps.a.output"))) == ["EXPRESSION"]


# Retries


def test_step_that_is_not_idempotent_is_not_repeated(check: Check) -> None:
    assert codes(check(restart(retry={"max_attempts": 3}))) == ["RETRY_NOT_ALLOWED"]


def test_retry_is_allowed_where_nothing_can_have_happened(check: Check) -> None:
    retry = {"max_attempts": 3, "on": ["unreachable", "throttled"]}
    assert check(restart(retry=retry)).faults == ()
    assert codes(check(restart(retry={**retry, "on": ["unreachable", "failed"]}))) == [
        "RETRY_NOT_ALLOWED"
    ]


def test_reads_may_be_repeated(check: Check) -> None:
    assert check(disk(retry={"max_attempts": 5})).faults == ()


def test_misspelt_error_class_gets_a_warning(check: Check) -> None:
    checked = check(disk(retry={"max_attempts": 2, "on": ["unreachabel"]}))
    assert [warning.hint for warning in checked.warnings] == ["did you mean unreachable?"]


# Undo, precheck, verify, rollback


def test_undo_from_state_needs_a_tool_that_captures(check: Check) -> None:
    assert codes(check(restart(undo="state"))) == ["UNDO_NOT_SUPPORTED"]
    write = {"id": "w", "tool": "write_file", "inputs": {"path": "/srv/a", "content": "x"}}
    assert check({**write, "undo": "state"}).faults == ()


@pytest.mark.parametrize("what", ["precheck", "verify"])
def test_checks_may_only_read(check: Check, what: Any) -> None:
    call = {"tool": "restart_service", "inputs": {"service": "nginx"}}
    assert codes(check(restart(**{what: call}))) == ["NOT_READ_ONLY"]
    call = {"tool": "service_status", "inputs": {"service": "nginx"}}
    assert check(restart(**{what: call})).faults == ()


@pytest.mark.parametrize("part", ["undo", "precheck", "verify"])
def test_calls_beside_a_step_are_checked_like_it(check: Check, part: Any) -> None:
    checked = check(restart(**{part: {"tool": "pingg"}}))
    assert [(fault.code, fault.field) for fault in checked.faults] == [
        ("UNKNOWN_TOOL", f"steps[0].{part}.tool")
    ]


def test_rollback_calls_are_checked(check: Check) -> None:
    assert codes(check(disk(), rollback=[{"tool": "restart_service", "target": "web-01"}])) != []


def test_step_cannot_be_called_like_a_rollback_call(check: Check) -> None:
    checked = check(disk("rollback-1"), rollback=[{"tool": "ping", "inputs": {"host": "a"}}])
    assert codes(checked) == ["BAD_ID"]


# Placement


def local(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "tool": "run_command", "inputs": {"argv": ["uname"]}, **fields}


def test_step_without_a_place_is_ambiguous_when_there_are_several_segments(check: Check) -> None:
    assert codes(check(local(), segments=("dmz", "office"))) == ["PLACEMENT_AMBIGUOUS"]


@pytest.mark.parametrize(
    ("fields", "top"),
    [
        ({"segment": "dmz"}, {}),
        ({"agent": {"labels": {"role": "web"}}}, {}),
        ({"target": "web-01"}, {}),
        ({}, {"segment": "dmz"}),
    ],
)
def test_any_hint_settles_the_placement(check: Check, fields: Any, top: Any) -> None:
    assert check(local(**fields), segments=("dmz", "office"), **top).faults == ()


def test_calls_that_may_run_anywhere_are_never_ambiguous(check: Check) -> None:
    anywhere = {"id": "a", "tool": "http_check", "inputs": {"url": "https://example.org/"}}
    assert check(anywhere, segments=("dmz", "office")).faults == ()


def test_segment_that_contradicts_the_asset_is_refused(check: Check) -> None:
    assert codes(check(disk(segment="office"))) == ["SEGMENT_CONFLICT"]


def test_unknown_segment_is_a_warning_because_its_agent_may_still_come(check: Check) -> None:
    checked = check(local(segment="dmzz"), segments=("dmz",))
    assert checked.faults == ()
    assert checked.warnings[0].code == "UNKNOWN_SEGMENT"


# Policy


def test_group_the_policy_does_not_know_is_refused(check: Check) -> None:
    step = restart(approval={"all_of": [{"group": "sre"}]})
    assert codes(check(step, policy=DEFAULT_POLICY)) == ["UNKNOWN_GROUP"]
    assert check(step, policy=EMBEDDED_POLICY).faults == ()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "web-01",
            "ping",
            "write_file",
            "restart_service",
            "${{ steps.a.output.x }}",
            "${{ inputs.a }}",
            "${{",
            "steps.a.output",
            "5s",
            "state",
            "graph",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["tool", "target", "inputs", "host", "service", "path", "content", "argv", "manual"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
STEP_KEYS = st.sampled_from(
    [
        *("target", "inputs", "needs", "if", "success", "timeout", "retry", "approval"),
        *("precheck", "verify", "undo", "segment", "agent", "irreversible"),
    ]
)
STEPS = st.builds(
    lambda name, tool, rest: {**rest, "id": name, "tool": tool},
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["ping", "write_file", "run_command", "restart_service", "asset_query"]),
    st.dictionaries(STEP_KEYS, VALUES, max_size=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=4), st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
def test_no_plan_makes_the_judge_raise_and_every_fault_says_what_and_where(
    check: Check, steps: Any, inputs: Any
) -> None:
    checked = check(*steps, inputs=inputs, segments=("x", "y"), policy=DEFAULT_POLICY)
    assert (checked.plan is None) == bool(checked.faults)
    for fault in checked.faults:
        assert fault.code
        assert fault.field
