"""Carries a schedule out over one world, and leaves the evidence in its folder."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chaos import diagnosis
from chaos.cells import AT_START, arm, armed_service, has_acted, provoke, reach
from chaos.evidence import Evidence, dump_postgres, dump_sqlite
from chaos.faults import FAULTS
from chaos.service import step_processes, wait_until
from chaos.special import SPECIAL
from chaos.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from chaos.cells import Cell
    from chaos.schedule import Round
    from chaos.world import World

SETTLE_SECONDS = 60.0
TRIES = 3
"""How often a fault is tried that found nothing to break."""


def carry_out(
    world: World,
    rounds: Sequence[Round],
    random: Random,
    say: Callable[[str], None],
    settle: float = SETTLE_SECONDS,
) -> None:
    """Runs a schedule round by round; the world is up before and after."""
    workload = Workload(world, random)
    number = 0
    try:
        for _ in range(TRIES):
            missed = []
            for place, item in enumerate(rounds, 1):
                number += 1
                following = rounds[place].cell if place < len(rounds) else None
                done = _round(world, workload, number, item, following, random)
                if left := workload.finish(number, settle):
                    diagnosis.write_down(world, f"not settled after {item.fault}: {left}")
                world.sample()
                say(f"{place}/{len(rounds)} {item.fault}{'' if done else ': found nothing'}")
                if not done:
                    missed.append(_at_first_passage(item))
            rounds = missed
    finally:
        workload.close()


def _at_first_passage(item: Round) -> Round:
    return replace(item, cell=replace(item.cell, nth=1)) if item.cell else item


def _round(
    world: World,
    workload: Workload,
    number: int,
    item: Round,
    following: Cell | None,
    random: Random,
) -> bool:
    """Carries out one injection; tells whether there was anything to break."""
    world.note("round", round=number, fault=item.fault)
    late = item.cell is not None and item.cell.point in AT_START
    if item.cell and not late and not has_acted(world, item.cell):
        arm(world, item.cell)
    workload.begin(item.kinds, number)
    if item.cell and late:
        wait_until(lambda: step_processes(world.ledger), 5.0)
        arm(world, item.cell)
    if item.cell:
        provoke(world, item.cell)
        done = reach(world, item.cell, random)
        _disarm(world, item.cell)
    else:
        time.sleep(random.uniform(0.05, 1.2))
        done = {**FAULTS, **SPECIAL}[item.fault](world, random)
    world.note("injected", round=number, fault=item.fault, done=done)
    began = time.monotonic()
    whole = world.heal(following)
    if not whole:
        diagnosis.write_down(world, f"not everything is connected after {item.fault}")
    seconds = round(time.monotonic() - began, 2)
    world.note("healed", round=number, fault=item.fault, whole=whole, seconds=seconds)
    return done


def _disarm(world: World, cell: Cell) -> None:
    """Ends a process whose point is still armed, so that it does not act in a later round."""
    service = armed_service(world, cell)
    if service is None:
        return
    if not service.has_fired:
        service.kill9()
    service.armed = ""


def collect(world: World) -> Evidence:
    """Stops the world and writes down everything the checker needs."""
    world.down()
    time.sleep(0.2)
    survivors = {str(pid): attempt for pid, attempt in step_processes(world.ledger).items()}
    world.take_apart()
    (world.folder / "survivors.json").write_text(json.dumps(survivors))
    shutil.copy2(world.data / "allowed_signers", world.folder / "allowed_signers")
    target = world.folder / "store.jsonl"
    if world.store.startswith("postgresql"):
        asyncio.run(dump_postgres(world.store, target))
    else:
        dump_sqlite(world.data / "store.sqlite", target)
    return Evidence.load(world.folder)
