"""What a plan's dry runs compile to: harmless where that is known, refused where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plan_steps import disk, restart
from opsconductor.orchestrator.domain.plans.check import check_plan
from opsconductor.orchestrator.domain.plans.compiled import CompiledPlan
from opsconductor.orchestrator.servicers.wire_plans import plan_document
from opsconductor.v1 import plan_service_pb2 as pb

if TYPE_CHECKING:
    from opsconductor.tool_registry.registry import Registry

Assets = dict[str, dict[str, Any]]
Build = Callable[..., CompiledPlan]


def install(**fields: Any) -> dict[str, Any]:
    inputs = {"package": "htop"}
    return {"id": "add", "tool": "install_package", "target": "web-01", "inputs": inputs, **fields}


def codes(registry: Registry, assets: Assets, *steps: Any, **top: Any) -> list[str]:
    checked = check_plan({"steps": list(steps), **top}, None, registry, assets)
    return [fault.code for fault in checked.faults]


def test_a_dry_run_is_another_step_that_only_reads_and_needs_no_approval(build: Build) -> None:
    real, dry = build(install()), build(install(dry_run=True))
    assert (real.level.level, dry.level.level) == (1, 0)
    step, body = dry.step("add"), dry.step("add").body
    assert body["dry_run"] is True
    assert "dry_run" not in real.step("add").body
    assert step.digest != real.step("add").digest
    assert (body["risk"], step.risk.level) == ("read_only", "low")
    assert step.command == "apt-get -s -q --no-install-recommends install -- htop"
    assert step.risk.reasons == ("a dry run: apt-get only reads",)
    assert step.undo_lines == ("not needed: a dry run leaves nothing to undo",)


def test_what_follows_a_change_falls_away_and_what_precedes_it_stays(build: Build) -> None:
    body = (
        build(
            install(
                dry_run=True,
                success="output.installed",
                irreversible=True,
                approval={"all_of": [{"group": "sre", "approve": 2}]},
                precheck={"tool": "check_disk_space", "inputs": {"path": "/"}},
                verify={"tool": "check_disk_space", "inputs": {"path": "/"}},
                undo={"tool": "remove_package", "inputs": {"package": "htop"}},
            )
        )
        .step("add")
        .body
    )
    assert body["precheck"]["tool"] == "check_disk_space"
    assert (body["success"], body["verify"], body["irreversible"]) == ("", None, False)
    assert (body["undo"]["strategy"], body["undo"]["call"]) == ("not_needed", None)
    assert body["approval"] is None


def test_a_plan_of_dry_runs_reads_as_it_is_and_rolls_nothing_back(build: Build) -> None:
    rollback = [{"tool": "restart_service", "inputs": {"service": "nginx"}, "target": "web-01"}]
    plan = build(disk(), install(), dry_run=True, on_failure="rollback", rollback=rollback)
    assert "dry_run" not in plan.step("space").body
    assert plan.step("add").body["dry_run"] is True
    assert plan.rollback == ()
    assert (plan.level.level, plan.risk.risk_class) == (0, "read_only")


def test_a_change_without_a_dry_run_is_refused_not_carried_out(
    registry: Registry, assets: Assets
) -> None:
    assert codes(registry, assets, restart(dry_run=True)) == ["DRY_RUN_NOT_SUPPORTED"]
    assert codes(registry, assets, restart(), dry_run=True) == ["DRY_RUN_NOT_SUPPORTED"]
    assert codes(registry, assets, restart(), disk(), dry_run=False) == []
    assert codes(registry, assets, restart(dry_run="yes")) == ["TYPE"]


def test_a_dry_run_no_parser_knows_is_approved_like_the_change(build: Build) -> None:
    step = {
        "id": "add",
        "tool": "docker_compose_up",
        "target": "web-01",
        "inputs": {"project": "shop", "file": "/srv/shop.yaml"},
    }
    real, dry = build(step), build({**step, "dry_run": True})
    assert dry.step("add").risk.risk_class == real.step("add").risk.risk_class == "destructive"
    assert dry.level.level == real.level.level >= 1
    assert "counts as the call itself" in dry.step("add").risk.reasons[0]


def test_its_own_approval_stays_with_a_dry_run_that_may_change(build: Build) -> None:
    ask = {"all_of": [{"group": "sre", "approve": 1}]}
    statement = {"database": "shop", "sql": "delete from t where id = 1", "expect_max_rows": 1}
    step = {"id": "q", "tool": "postgres_execute", "target": "db-01", "inputs": statement}
    body = build({**step, "dry_run": True, "approval": ask}).step("q").body
    assert body["dry_run"] is True
    assert body["risk"] != "read_only"
    assert body["approval"]["all_of"] == [{"group": "sre", "approve": 1}]


def test_a_statement_that_only_reads_runs_as_it_is(build: Build) -> None:
    inputs = {"database": "shop", "sql": "select 1", "expect_max_rows": 0}
    step = {"id": "q", "tool": "postgres_execute", "target": "db-01", "inputs": inputs}
    assert "dry_run" not in build({**step, "dry_run": True}).step("q").body


@pytest.mark.parametrize("whole", [True, False])
def test_a_plan_message_says_it_too(whole: bool) -> None:
    step = pb.Step(id="add", tool="install_package", dry_run=not whole)
    document = plan_document(pb.Plan(steps=[step], dry_run=whole))
    assert document.get("dry_run", False) is whole
    assert document["steps"][0].get("dry_run", False) is not whole
