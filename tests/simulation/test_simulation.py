"""The product's own programs in a simulated world: repeatable, clean, and able to fail."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulation import mutants
from simulation import shrink as shrinking
from simulation.main import main, show
from simulation.running import run
from simulation.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.mutants import Mutant

REPEATED = 7
LOST = (1, 2)
"""Seeds in which an agent's journal is lost for good after a restore."""
TREE = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keeps what the programs log about their misfortunes out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_seed_gives_the_same_events_twice() -> None:
    first, second = run(Scenario(REPEATED)), run(Scenario(REPEATED))
    assert first.events > 100
    assert first.hash == second.hash


@pytest.mark.parametrize("hash_seed", ["1", "2024"])
def test_a_seed_gives_the_same_events_in_another_process(hash_seed: str) -> None:
    code = (
        "import logging; logging.disable(50); from simulation.running import run; "
        "from simulation.scenario import Scenario; "
        f"print(run(Scenario({REPEATED})).hash)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    environment["PYTHONPATH"] = os.pathsep.join([str(TREE), *sys.path])
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == run(Scenario(REPEATED)).hash


@pytest.mark.parametrize("orchestrators", [1, 3])
@pytest.mark.parametrize("seed", range(1, 6))
def test_no_invariant_is_violated(seed: int, orchestrators: int) -> None:
    verdict = run(Scenario(seed, orchestrators=orchestrators))
    assert verdict.violation is None
    assert verdict.plans > 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_invariant_is_violated_by_a_store_that_goes_back(seed: int) -> None:
    verdict = run(Scenario(seed, kinds=("restore",), swarm=False, orchestrators=1, span=40.0))
    assert verdict.violation is None


@pytest.mark.parametrize("seed", [4, 6, 100, 101])
def test_no_invariant_is_violated_when_everything_goes_wrong_at_once(seed: int) -> None:
    verdict = run(Scenario(seed, swarm=False, span=40.0, orchestrators=2))
    assert verdict.violation is None


@pytest.mark.parametrize("seed", LOST)
def test_a_restore_without_an_agents_journal_starts_nothing_twice(seed: int) -> None:
    """The operator gives the journal up, and looks at what is paused before it goes on."""
    kinds = ("restore", "journal_lost")
    verdict = run(Scenario(seed, kinds=kinds, swarm=False, span=40.0, orchestrators=1))
    assert verdict.violation is None
    assert any("gives up on the journal" in line for _, line in verdict.trace)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_taken_out_is_noticed(mutant: Mutant) -> None:
    caught = mutants.hunt(mutant)
    assert caught.verdict is not None, f"{mutant.name} escaped {caught.seeds} seeds"
    sound = run(caught.verdict.scenario)
    assert sound.violation is None


def test_a_violation_is_shown_with_what_it_takes_to_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "TRIES", 12)
    mutant = next(item for item in mutants.MUTANTS if item.name == "record not synced")
    caught = mutants.hunt(mutant)
    assert caught.verdict is not None
    with mutant.apply():
        show(caught.verdict, shrink_it=True)
    told = capsys.readouterr().out
    assert "VIOLATION I2" in told
    assert f"make simulate SEED={caught.verdict.scenario.seed}" in told
    struck, left = re.findall(r"(\d+) faults struck; with these (\d+)", told)[0]
    assert 0 < int(left) < int(struck)


def test_a_run_says_what_it_did_and_several_processes_say_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for jobs in ("1", "2"):
        arguments = ["simulate", "--seed", "5", "--events", "1", "--jobs", jobs, "--verbose"]
        monkeypatch.setattr(sys, "argv", arguments)
        assert main() == 0
        told.append(capsys.readouterr().out)
    assert told[0].splitlines()[:2] == told[1].splitlines()[:2]
    assert re.search(r"[\d,]+ random plans, .* under 1 seeds \(5 to 5\): 0 violations", told[0])
    assert "I2 at most once" in told[0]
