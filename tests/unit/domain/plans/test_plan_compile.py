"""What a plan compiles to: bodies and digests, risk and level, gates, estimates, words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plan_steps import command, disk, restart, write
from opsconductor.orchestrator.domain.plans.approval import judge
from opsconductor.orchestrator.domain.plans.compile import compile_plan
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.orchestrator.domain.plans.plan import Plan, Step
from opsconductor.orchestrator.domain.plans.policy import (
    DEFAULT_POLICY,
    EMBEDDED_POLICY,
    Policy,
    Rule,
)
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import PlanInvalid
from opsconductor.tool_registry.expressions import interpolate

if TYPE_CHECKING:
    from opsconductor.tool_registry.registry import Registry

Assets = dict[str, dict[str, Any]]
Build = Callable[..., CompiledPlan]


BODY_KEYS = {
    *("v", "step_id", "tool", "tool_version", "tool_digest", "location", "method", "target"),
    *("segment", "agent_labels", "inputs", "late", "risk", "critical", "idempotent"),
    *("irreversible", "needs", "if", "timeout_ms", "retry", "success", "precheck", "verify"),
    *("undo", "approval", "concurrency"),
}


def test_body_holds_exactly_what_was_agreed(build: Build, registry: Registry) -> None:
    body = build(restart(timeout="2m")).step("restart").body
    assert set(body) == BODY_KEYS
    assert body["tool_digest"] == registry.get("restart_service").digest
    assert body["timeout_ms"] == 120_000
    assert body["risk"] == "modify"
    assert body["target"]["address"] == "10.0.0.5"
    assert body["target"]["credential"] == "web-admin"
    assert body["segment"] == "dmz"


def test_bare_address_is_reached_by_ssh(build: Build) -> None:
    target = build(disk(target="10.9.9.9")).step("space").body["target"]
    assert (target["name"], target["address"], target["connection"]) == (
        "10.9.9.9",
        "10.9.9.9",
        "ssh",
    )
    assert set(target) == {
        *("name", "type", "address", "port", "segment", "connection", "credential"),
        *("service_manager", "service_command", "environment", "tags", "host_keys", "labels"),
    }


def test_digests_are_of_the_bytes_that_travel(build: Build) -> None:
    compiled = build(disk(), restart())
    manifest = json.loads(compiled.manifest_bytes)
    for step, entry in zip(compiled.steps, manifest["steps"], strict=True):
        assert entry["digest"] == canonical.digest(canonical.STEP_DOMAIN, step.body_bytes)
        assert step.body_bytes == canonical.dumps(step.body)
    assert compiled.plan_digest == canonical.digest(
        canonical.MANIFEST_DOMAIN, compiled.manifest_bytes
    )
    assert set(manifest) == {
        *("v", "tenant", "plan_id", "revision", "mode", "on_failure", "timeout_ms"),
        *("environment", "inputs", "policy", "steps", "rollback"),
    }


def test_sequential_steps_need_the_one_before(build: Build) -> None:
    compiled = build(disk("a"), disk("b"))
    assert compiled.step("b").needs == ("a",)
    assert compiled.manifest["steps"][1]["needs"] == ["a"]


def test_defaults_are_filled_and_plan_inputs_resolved(build: Build) -> None:
    compiled = build(write(inputs={"path": "${{ inputs.p }}", "content": "x"}), inputs={"p": "/a"})
    assert compiled.step("write").body["inputs"] == {
        "path": "/a",
        "content": "x",
        "encoding": "text",
        "mode": "0644",
    }


def test_late_values_stay_as_text_and_are_shown_as_placeholders(build: Build) -> None:
    look: dict[str, Any] = {"id": "look", "tool": "service_status", "target": "web-01"}
    look["inputs"] = {"service": "nginx"}
    compiled = build(look, restart(inputs={"service": "${{ steps.look.output.service }}"}))
    step = compiled.step("restart")
    assert step.body["late"] == ["service"]
    assert step.body["inputs"]["service"] == "${{ steps.look.output.service }}"
    assert step.late == {"service": ("look",)}
    assert "\u2039steps.look.output.service\u203a" in step.command
    assert "${{" not in step.command


def test_plan_input_inside_a_late_value_is_bound_and_cannot_become_a_reference(
    build: Build,
) -> None:
    status: dict[str, Any] = {"id": "s", "tool": "service_status", "target": "web-01"}
    status["inputs"] = {"service": "${{ inputs.word }}${{ steps.a.output.x }}"}
    compiled = build(disk("a"), disk("b"), status, inputs={"word": "${{ steps.b.output }}"})
    text = compiled.step("s").body["inputs"]["service"]
    assert compiled.step("s").late == {"service": ("a",)}
    scope = {"steps": {"a": {"output": {"x": "1"}}, "b": {"output": "secret"}}}
    assert interpolate(text, scope) == "${{ steps.b.output }}1"


def test_commands_are_ready_to_paste(build: Build) -> None:
    assert build(restart()).step("restart").command == (
        "sudo -n -- systemctl --no-ask-password restart -- nginx"
    )


@pytest.mark.parametrize(
    ("step", "strategy", "line"),
    [
        (disk(), "not_needed", "not needed: it changes nothing"),
        (write(), "state", "restore what write_file found before the change"),
        (write(undo="none"), "none", "none"),
        (write(undo={"manual": "call bob"}), "manual", "by hand: call bob"),
        (
            write(undo={"tool": "restart_service", "inputs": {"service": "nginx"}}),
            "call",
            "restart_service on web-01: sudo -n -- systemctl --no-ask-password restart -- nginx",
        ),
    ],
)
def test_undo_is_told_before_anyone_says_yes(
    build: Build, step: Any, strategy: Any, line: Any
) -> None:
    compiled = build(step).steps[0]
    assert compiled.body["undo"]["strategy"] == strategy
    assert compiled.undo_lines == (line,)


def test_undo_call_is_bound_to_the_target_of_the_step_and_to_its_tool_definition(
    build: Build, registry: Registry
) -> None:
    step = write(undo={"tool": "restart_service", "inputs": {"service": "nginx"}})
    call = build(step).steps[0].body["undo"]["call"]
    assert call["target"]["name"] == "web-01"
    assert call["tool_digest"] == registry.get("restart_service").digest
    assert call["risk"] == "modify"


# Risk and level


def test_reading_plan_runs_at_once_and_names_its_rule(build: Build) -> None:
    compiled = build(disk())
    assert (compiled.risk.level, compiled.level.level) == ("low", 0)
    assert compiled.level.rule == "low-risk"
    assert compiled.gates.plan is None
    assert compiled.gates.steps == {}


def test_change_is_confirmed(build: Build) -> None:
    compiled = build(restart())
    assert (compiled.risk.risk_class, compiled.risk.level) == ("modify", "medium")
    assert compiled.level.level == 1
    plan = compiled.gates.plan
    assert plan is not None
    assert plan.step_ids == ("restart",)


def test_command_nobody_can_judge_counts_as_destructive(build: Build) -> None:
    compiled = build(command("sh", "-c", "$TASK"))
    assert (compiled.risk.risk_class, compiled.level.level) == ("destructive", 2)
    assert any("production" in reason for reason in compiled.risk.reasons)


def test_change_of_production_is_reviewed(build: Build) -> None:
    assert build(restart(target="db-01")).level.level == 2
    assert build(restart(), context={"environment": "production"}).level.level == 1
    bare = restart(target="10.1.1.1")
    assert build(bare, context={"environment": "production"}).level.level == 2


def test_point_of_no_return_is_critical_and_asked_step_by_step(build: Build) -> None:
    compiled = build(disk(), write(irreversible=True), restart())
    assert compiled.step("write").risk.level == "critical"
    assert compiled.step("write").body["critical"] is True
    assert compiled.level.level == 3
    found = compiled.gates
    assert found.plan is None
    assert set(found.steps) == {"write", "restart"}


def test_claim_can_raise_the_risk(build: Build) -> None:
    assert build(disk(), risk="high").level.level == 2


def test_claim_below_the_computed_risk_is_a_warning(build: Build) -> None:
    compiled = build(restart(), risk="read")
    assert compiled.risk.level == "medium"
    assert [warning.code for warning in compiled.warnings] == ["RISK_CLAIM_TOO_LOW"]


def test_undo_more_dangerous_than_its_step_counts(build: Build) -> None:
    step = write(undo={"tool": "run_command", "inputs": {"argv": ["rm", "-rf", "/srv"]}})
    assert build(step).steps[0].risk.risk_class == "destructive"


def test_step_with_an_approval_of_its_own_has_its_own_gate(build: Build) -> None:
    compiled = build(disk(), restart(approval={"all_of": [{"group": "sre", "approve": 2}]}))
    assert compiled.level.level == 2
    found = compiled.gates
    assert found.plan is not None
    assert set(found.steps) == {"restart"}
    assert found.steps["restart"].requirement.all_of[0].approve == 2
    assert compiled.step("restart").approval == "2 of group sre"


def test_approval_a_plan_asks_for_is_asked_even_where_policy_would_not(build: Build) -> None:
    lax = Policy("lax", "1", (Rule("all", 0),), groups={"sre": ("bob",)})
    compiled = build(disk(approval={"all_of": [{"group": "sre"}]}), policy=lax)
    assert compiled.level.level == 0
    assert compiled.gates.steps["space"].level == 1


def test_two_approval_points_are_asked_step_by_step(build: Build) -> None:
    ask = {"all_of": [{"group": "sre"}]}
    compiled = build(disk("a", approval=ask), restart("b", approval=ask), write("c"))
    assert compiled.level.level == 3
    assert set(compiled.gates.steps) == {"a", "b", "c"}


def test_default_policy_excludes_the_requester_where_embedded_does_not(build: Build) -> None:
    for policy, may in ((DEFAULT_POLICY, False), (EMBEDDED_POLICY, True)):
        plan = build(command("rm", "x"), policy=policy).gates.plan
        assert plan is not None
        assert plan.requirement.requester_may_approve is may
        assert judge(plan.requirement, (), requester="alice", now=None).state == "pending"  # type: ignore[arg-type]


def test_every_changing_step_and_rollback_call_is_covered_by_some_gate(build: Build) -> None:
    call = {"tool": "restart_service", "target": "web-01", "inputs": {"service": "nginx"}}
    for step in (restart(), write(irreversible=True)):
        compiled = build(step, rollback=[call])
        assert compiled.is_rollback("rollback-1")
        found = compiled.gates
        covered = {
            name for gate in (found.plan, *found.steps.values()) if gate for name in gate.step_ids
        }
        assert {step["id"], "rollback-1"} <= covered


# Run mode and estimates


def test_short_reading_plan_runs_immediately(build: Build) -> None:
    compiled = build(disk())
    assert compiled.estimate is not None
    assert compiled.run == "immediate"


def test_plan_that_waits_for_people_runs_in_the_background(build: Build) -> None:
    assert build(restart()).run == "background"


def test_plan_of_unknown_length_runs_in_the_background(build: Build) -> None:
    assert build(command("uname")).run == "background"


def test_caller_decides_when_they_say_so(build: Build) -> None:
    assert build(disk(), run="background").run == "background"
    assert build(restart(), run="immediate").run == "immediate"


def test_parallel_steps_are_estimated_along_the_longest_path(build: Build) -> None:
    together = build(disk("a"), disk("b"), mode="parallel").estimate
    in_a_row = build(disk("a"), disk("b")).estimate
    assert together is not None
    assert in_a_row == together * 2


# Storage, limits, digests


def test_compiled_plan_survives_json_byte_for_byte(build: Build) -> None:
    compiled = build(
        disk(),
        restart(approval={"any_of": [{"group": "sre"}], "expires": "4h"}),
        write(),
        rollback=[{"tool": "ping", "inputs": {"host": "a"}}],
        inputs={"x": [1, {"y": None}]},
        context={"prompt": "ä"},
    )
    restored = CompiledPlan.from_json(json.loads(json.dumps(compiled.to_json())))
    assert restored == compiled
    assert restored.manifest_bytes == compiled.manifest_bytes
    assert restored.step("write").body == compiled.step("write").body


def test_faulty_plan_is_not_compiled(registry: Registry, assets: Assets) -> None:
    broken = Plan(steps=(Step(id="a", tool="nothing"),))
    with pytest.raises(PlanInvalid):
        compile_plan(broken, registry, assets, EMBEDDED_POLICY, "acme")


def test_plan_of_two_thousand_steps_can_be_sent(build: Build) -> None:
    compiled = build(*[disk(f"step-{number}") for number in range(2000)])
    assert len(compiled.manifest_bytes) < 448 * 1024
