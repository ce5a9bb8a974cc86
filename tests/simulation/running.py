"""Runs seeds: puts the simulation where programs ask for luck, time and files, for one run."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import sys
import time
import warnings
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

from opsconductor.agent import attempt as agent_attempt
from opsconductor.agent import execution as agent_execution
from opsconductor.agent import journal as agent_journal
from opsconductor.agent import output as agent_output
from opsconductor.agent.session import control as agent_control
from simulation import plans
from simulation.database import empty_database
from simulation.disk import DiskLog, DiskStream, RunSink
from simulation.people import signers
from simulation.programs import BEGIN, Clocks
from simulation.weather import CallContext
from simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.scenario import Scenario, Verdict


@cache
def _certificate() -> bytes:
    """Returns some certificate; only its end date is looked at, which never comes."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulated")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + timedelta(days=3650))
        .sign(key, None)
    )
    return made.public_bytes(serialization.Encoding.PEM)


@contextmanager
def _substitutes(seed: int) -> Iterator[None]:
    """Puts the seed where programs ask for luck, and the simulation where they ask the system."""
    rng = random.Random(seed)
    random.seed(seed)

    def token_hex(count: int = 32) -> str:
        return rng.randbytes(count).hex()

    with ExitStack() as stack:
        for target, name, substitute in (
            (secrets, "randbits", rng.getrandbits),
            (secrets, "token_hex", token_hex),
            (secrets, "token_bytes", rng.randbytes),
            (agent_journal, "RecordLog", DiskLog),
            (agent_output, "SpooledStream", DiskStream),
            (agent_execution, "TakingSink", RunSink),
            (agent_control, "time", Clocks),
            (agent_attempt, "boottime", Clocks.boottime),
            (agent_execution, "boottime", Clocks.boottime),
        ):
            stack.enter_context(mock.patch.object(target, name, substitute))
        yield


@cache
def _prepare() -> None:
    """Makes what is made once a process; the first run must not draw its luck before."""
    for make in (empty_database, _certificate, plans.registry, signers):
        make()
    # None of it is ever garbage: looking through it after every run took a quarter of the time.
    gc.collect()
    gc.freeze()


def run(scenario: Scenario) -> Verdict:
    """Runs one seed; nothing of it is left afterwards."""
    begin = time.perf_counter()
    _prepare()
    gc.disable()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        CallContext.certificate = _certificate()
        with _substitutes(scenario.seed):
            world = World(scenario)
            verdict = world.run()
            _bury(world)
            del world
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
    finally:
        sys.unraisablehook = hook
        gc.enable()
    verdict.seconds = time.perf_counter() - begin
    return verdict


def _bury(world: World) -> None:
    """Makes everything inert before it is collected: its ``finally`` blocks then reach nobody."""
    loop: Any = world.loop
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    world.checker.committed = lambda *_: None  # type: ignore[method-assign]
    loop._ready.clear()
    loop._scheduled.clear()
    # gRPC keeps every loop it has seen; with it goes what the loop knows.
    loop._kept.clear()
    loop._last = None
    loop.close()
