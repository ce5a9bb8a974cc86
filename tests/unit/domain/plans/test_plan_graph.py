"""Order, cycles and unknown needs."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from opsconductor.orchestrator.domain.plans.estimate import longest_path
from opsconductor.orchestrator.domain.plans.findings import Findings
from opsconductor.orchestrator.domain.plans.graph import Graph, build_graph
from opsconductor.orchestrator.domain.plans.plan import Plan, Step

if TYPE_CHECKING:
    from opsconductor.rpc.errors import Fault


def graph_plan(needs: Any, mode: Any = "graph") -> Plan:
    steps = tuple(
        Step(id=name, tool="t", needs=tuple(wanted), path=f"steps[{index}]")
        for index, (name, wanted) in enumerate(needs.items())
    )
    return Plan(steps=steps, mode=mode)


def build(needs: Any, mode: Any = "graph") -> tuple[Graph, list[Fault]]:
    findings = Findings()
    return build_graph(graph_plan(needs, mode), findings), findings.faults


def test_cycle_is_shown_as_a_path() -> None:
    _, faults = build({"a": ["b"], "b": ["a"]})
    assert [(fault.code, fault.found) for fault in faults] == [("PLAN_CYCLE", "a → b → a")]


def test_step_that_needs_itself_is_a_cycle() -> None:
    _, faults = build({"a": ["a"]})
    assert faults[0].found == "a → a"


def test_unknown_need_is_told_with_a_suggestion() -> None:
    _, faults = build({"restart": [], "check": ["restrat"]})
    assert (faults[0].code, faults[0].field) == ("UNKNOWN_STEP", "steps[1].needs[0]")
    assert faults[0].hint == "did you mean restart?"


def test_sequential_steps_need_the_one_before() -> None:
    graph, faults = build({"a": [], "b": [], "c": []}, "sequential")
    assert not faults
    assert graph.needs == {"a": (), "b": ("a",), "c": ("b",)}
    assert graph.precedes("a", "c")
    assert not graph.precedes("c", "a")


def test_parallel_steps_need_nothing() -> None:
    graph, _ = build({"a": [], "b": []}, "parallel")
    assert not graph.precedes("a", "b")


NAMES = [f"s{i}" for i in range(9)]
GRAPHS = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4), min_size=1
)


@given(GRAPHS)
def test_a_cycle_is_told_exactly_when_there_is_one(needs: Any) -> None:
    graph, faults = build(needs)
    cyclic = any(graph.precedes(name, name) for name in graph.position)
    told = [fault for fault in faults if fault.code == "PLAN_CYCLE"]
    if not told:
        assert not cyclic
    for fault in told:
        names = fault.found.split(" → ")
        assert names[0] == names[-1]
        assert all(after in needs[before] for before, after in itertools.pairwise(names))


@given(st.lists(st.lists(st.integers(0, 8), max_size=3), min_size=1, max_size=9))
def test_what_precedes_a_step_is_the_closure_of_its_needs(rows: Any) -> None:
    needs = {f"s{i}": [f"s{j}" for j in row if j < i] for i, row in enumerate(rows)}
    graph, faults = build(needs)
    assert not faults

    def closure(name: Any) -> set[str]:
        return set(needs[name]).union(*(closure(need) for need in needs[name]))

    for name in needs:
        before = {other for other in needs if graph.precedes(other, name)}
        assert before == closure(name)


def test_a_long_chain_is_no_problem() -> None:
    names = [f"s{i}" for i in range(2000)]
    needs = {name: [names[i + 1]] if i + 1 < len(names) else [] for i, name in enumerate(names)}
    graph, faults = build(needs)
    assert not faults
    assert graph.precedes("s1999", "s0")
    assert longest_path(graph.needs, dict.fromkeys(names, timedelta(seconds=1)))
