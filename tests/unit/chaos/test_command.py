"""What the chaos suite runs, and when it says that all is well."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING

import pytest

from chaos import command
from chaos.cells import PLACES
from chaos.inside.patches import PATCHES
from chaos.report import Tally
from chaos.scenarios import SCENARIOS, Absence

if TYPE_CHECKING:
    from chaos.command import Part


@pytest.fixture(autouse=True)
def _nothing_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "absence", lambda _: None)


def _parts(*arguments: str, seed: int = 1) -> list[Part]:
    parts, _ = command.schedules(Random(seed), command._parser().parse_args(arguments))
    return parts


def _named(parts: list[Part]) -> Counter[str]:
    return Counter(item.fault for part in parts for item in part.rounds if item.cell)


def _drawn(parts: list[Part]) -> Counter[str]:
    return Counter(item.fault for part in parts for item in part.rounds if not item.cell)


def test_the_short_form_kills_at_every_named_point_and_draws_a_hundred_injections() -> None:
    parts = _parts()
    assert _named(parts) == Counter({f"{point}:kill9": 1 for point in PLACES})
    assert _drawn(parts).total() == 100


def test_the_long_form_takes_every_action_at_every_named_point() -> None:
    parts = _parts("--count", "3000", "--failpoints", "kill9,stop,raise")
    actions = ("kill9", "stop", "raise")
    assert set(_named(parts)) == {f"{point}:{action}" for point in PLACES for action in actions}
    assert _drawn(parts).total() == 3000


def test_every_kind_of_fault_is_a_part_of_the_short_form() -> None:
    drawn = _drawn(_parts())
    for scenario in SCENARIOS.values():
        assert set(scenario.faults) <= set(drawn), scenario.name


def test_a_seed_makes_the_same_schedule_again() -> None:
    assert _parts(seed=7) == _parts(seed=7)
    assert _parts(seed=7) != _parts(seed=8)


def test_a_named_point_that_was_never_reached_fails_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = _parts()
    tally = Tally()
    tally.injections.update(_named(parts))
    assert command._verdict(tally, parts, []) == 0
    tally.injections["lease.take:kill9"] = 0
    assert command._verdict(tally, parts, []) == 1
    assert "never reached: lease.take:kill9" in capsys.readouterr().out


def test_what_a_package_would_bring_may_be_missing_on_a_desk_and_not_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = [Absence("no database server", installable=True), Absence("no rights")]
    monkeypatch.delenv("CI", raising=False)
    assert command._verdict(Tally(), [], absent) == 0
    monkeypatch.setenv("CI", "true")
    assert command._verdict(Tally(), [], absent) == 1
    assert command._verdict(Tally(), [], absent[1:]) == 0


def test_the_table_bounds_what_was_never_violated_by_the_rule_of_three() -> None:
    tally = Tally()
    tally.injections["kill_agent"] = 300
    line = next(line for line in tally.table().splitlines() if line.startswith("kill_agent"))
    assert line.split() == ["kill_agent", "300", "0", "1.00%"]


@pytest.mark.parametrize(
    "module", sorted({name for patch in PATCHES.values() for name in patch if name})
)
def test_what_a_mistake_is_planted_in_exists(module: str) -> None:
    assert find_spec(module) is not None
