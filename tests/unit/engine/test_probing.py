"""A probe reads what an unknown step did, as a run of its own, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.plans import registry, restart, write
from opsconductor.orchestrator.domain.executions import commands
from opsconductor.orchestrator.engine.fleet import Fleet
from opsconductor.orchestrator.engine.planning import Planner
from opsconductor.orchestrator.engine.probing import Probing
from opsconductor.orchestrator.engine.submission import Submission, Submissions
from opsconductor.orchestrator.store.base import PutAsset
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import (
    InvalidTransition,
    NoAgent,
    NoProbe,
    NotFound,
    RequestIdReused,
    UnknownTool,
)
from opsconductor.tool_registry.model import Probe
from opsconductor.tool_registry.registry import Registry

if TYPE_CHECKING:
    from helpers.engines import House
    from opsconductor.orchestrator.domain.executions.execution import Execution

WEB = "10.0.0.9"
ASKED = Submission(source={}, tenant="default", requester="olga", submitted_by="olga")


def probing(house: House, tools: Registry | None = None) -> Probing:
    planner = Planner(house.store, tools or registry(), house.policy, house.fleet, house.clock)
    return Probing(planner, Submissions(house.store, planner, house.engine, house.clock))


async def unknown(house: House, step: dict[str, Any], **more: Any) -> Execution:
    """Runs a plan to where the outcome of its step is unknown."""
    run = await house.submit(step, **more)
    lost = {"code": "AGENT_RESTARTED", "message": "killed meanwhile", "error_class": "unknown"}
    await house.end(run, step["id"], "unknown", effects="possible", error=lost)
    return await house.until(run, lambda state: state.state == "attention_required")


async def test_a_probe_is_a_run_of_its_own_and_the_step_stays_unknown(house: House) -> None:
    run = await unknown(house, restart("a", target=WEB))
    probe = (await probing(house).probe(run, "a", ASKED)).execution
    assert probe.execution_id != run.execution_id
    attempt = await house.live(probe, "probe")
    (sent,) = [item for item in house.lines["a1"].assigned if item.step_id == "probe"]
    assert attempt.agent_id == "a1"
    assert b'"tool":"service_status"' in sent.body
    assert b'"service":"nginx"' in sent.body
    assert (await house.state(run)).steps["a"].state == "unknown"
    assert probe.compiled.name == f"probe of a in {run.execution_id}"
    assert probe.requester == "olga"


async def test_the_same_key_asks_once(house: House) -> None:
    run = await unknown(house, restart("a", target=WEB))
    asked = replace(ASKED, request_id="once")
    first = await probing(house).probe(run, "a", asked)
    again = await probing(house).probe(run, "a", asked)
    assert again.already
    assert again.execution.execution_id == first.execution.execution_id


async def test_a_probe_that_is_asked_for_again_after_a_decision_is_still_the_same(
    house: House,
) -> None:
    run = await unknown(house, restart("a", target=WEB))
    asked = replace(ASKED, request_id="once")
    first = await probing(house).probe(run, "a", asked)
    await house.engine.command(
        run.execution_id,
        lambda state, _: commands.resolve_unknown(state, "a", "failed", "otto", "saw it"),
    )
    decided = await house.state(run)
    again = await probing(house).probe(decided, "a", asked)
    assert again.execution.execution_id == first.execution.execution_id
    with pytest.raises(InvalidTransition):
        await probing(house).probe(decided, "a", replace(ASKED, request_id="another"))
    other = await unknown(house, restart("a", target=WEB))
    with pytest.raises(RequestIdReused):
        await probing(house).probe(other, "a", asked)


async def test_the_environment_of_the_plan_is_that_of_its_probe(house: House) -> None:
    context = {"environment": "production", "ticket": 7}
    run = await unknown(house, restart("a", target=WEB), context=context)
    probe = (await probing(house).probe(run, "a", ASKED)).execution
    assert probe.compiled.context == {"environment": "production"}


async def test_what_ran_on_an_agents_host_is_asked_of_that_agent(house: House) -> None:
    run = await unknown(house, write("a"))
    await house.enrol("a2")
    await house.connect("a2", capacity=100)
    house.hang_up("a1")
    probe = (await probing(house).probe(run, "a", ASKED)).execution
    assert probe.compiled_step("probe").body["agent_labels"] == {"name": "a1"}
    assert not list((await house.state(probe)).live_attempts())
    await house.connect("a1")
    assert (await house.live(probe, "probe")).agent_id == "a1"


@pytest.mark.parametrize(
    ("probe", "error", "words"),
    [
        (None, NoProbe, "restart_service declares no probe: look at the target yourself"),
        (Probe("start_service", {"service": "x"}), NoProbe, "does more than read"),
        (Probe("gone", {}), UnknownTool, "gone"),
    ],
)
async def test_a_tool_without_a_usable_probe_says_so(
    house: House, probe: Probe | None, error: type[Exception], words: str
) -> None:
    tools = Registry(
        [
            replace(tool, probe=probe) if tool.name == "restart_service" else tool
            for tool in registry().tools
        ]
    )
    run = await unknown(house, restart("a", target=WEB))
    with pytest.raises(error, match=words):
        await probing(house, tools).probe(run, "a", ASKED)


async def test_an_agent_that_is_kept_out_or_gone_is_not_waited_for(house: House) -> None:
    run = await unknown(house, write("a"))
    house.member().quarantined = "RETIRED: its host burnt"
    with pytest.raises(NoAgent, match=r"agent a1, on whose own host .* is kept out: RETIRED"):
        await probing(house).probe(run, "a", ASKED)
    house.fleet = Fleet()
    with pytest.raises(NoAgent, match="agent a1, on whose own host the step ran, is not known"):
        await probing(house).probe(run, "a", ASKED)


async def test_another_host_of_the_same_name_is_not_asked(house: House) -> None:
    run = await unknown(house, restart("a"))
    asset = canonical.dumps({"name": "web-01", "address": "10.9.9.9", "connection": "ssh"})
    await house.store.commit(PutAsset("default", "web-01", "linux_server", "", asset))
    with pytest.raises(NoProbe, match="web-01 is not what it was when the step ran"):
        await probing(house).probe(run, "a", ASKED)


async def test_only_an_unknown_step_is_probed(house: House) -> None:
    run = await house.submit(restart("a", target=WEB))
    await house.live(run, "a")
    with pytest.raises(InvalidTransition, match="step a is running, not unknown"):
        await probing(house).probe(await house.state(run), "a", ASKED)
    with pytest.raises(NotFound, match="has no step b"):
        await probing(house).probe(await house.state(run), "b", ASKED)


async def test_a_probe_no_agent_could_run_is_refused(house: House) -> None:
    run = await unknown(house, restart("a", target=WEB))
    house.member().methods = frozenset()
    with pytest.raises(NoAgent):
        await probing(house).probe(run, "a", ASKED)
