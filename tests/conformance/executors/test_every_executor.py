"""What every executor does alike, each against a real counterpart."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.aws import aws as aws
from helpers.aws import moto as moto
from helpers.executor_subjects import SECRET, SUBJECTS, Subject
from helpers.places import MemorySink, marked_processes, new_attempt, until
from helpers.postgres import postgres as postgres
from helpers.servers import mariadb as mariadb
from helpers.servers import redis_server as redis_server
from helpers.snmp import snmpd as snmpd
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import no_credentials
from opsconductor.agent.executors.redact import Redactor
from opsconductor.agent.executors.registry import Executors
from opsconductor.agent.masking import MaskedSink
from opsconductor.rpc import canonical
from opsconductor.tool_registry.rendering.rendered import ScriptCommand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opsconductor.agent.executors.base import Sink
    from opsconductor.tool_registry.rendering.rendered import Rendered


class Trial:
    """One executor under test."""

    def __init__(self, name: str, subject: Subject, request: pytest.FixtureRequest) -> None:
        self.name = name
        self.subject = subject
        self.sink = MemorySink()
        self.cancel = asyncio.Event()
        self.attempt_id = ""
        self._request = request

    async def run(
        self,
        rendered: Rendered,
        *,
        seconds: float = 30,
        read_only: bool = True,
        sink: Sink | None = None,
        **options: Any,
    ) -> Outcome:
        target = options.pop("target", self.subject.target)
        self.attempt_id = new_attempt()
        limit = timedelta(seconds=seconds)
        call = Call(self.attempt_id, rendered, target, limit, read_only=read_only, **options)
        return await self.subject.executor.run(call, sink or self.sink, self.cancel)

    async def begun(self) -> None:
        """Waits until the slow call has arrived where it is to be carried out."""
        if self.subject.begun is not None:
            await until(self.subject.begun)
        elif isinstance(self.subject.slow, ScriptCommand):
            await until(lambda: bool(marked_processes(self.attempt_id)))
        else:
            await asyncio.sleep(1)

    def freeze(self) -> None:
        """Makes the counterpart hold back its answers, where the call itself does not take long."""
        if self.name.startswith("aws"):
            self._request.getfixturevalue("aws").fault = "hang"
        if self.name == "snmp":
            process = self._request.getfixturevalue("snmpd").process
            os.kill(process.pid, signal.SIGSTOP)
            self._request.addfinalizer(lambda: os.kill(process.pid, signal.SIGCONT))


@pytest.fixture(params=sorted(SUBJECTS))
async def trial(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Trial]:
    async with SUBJECTS[request.param](request, tmp_path) as subject:
        yield Trial(request.param, subject, request)
        await subject.executor.close()


def told(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.error_class


async def test_a_read_ends_well_without_effects_and_what_it_says_is_data(trial: Trial) -> None:
    outcome = await trial.run(trial.subject.works)
    assert (outcome.state, outcome.effects, outcome.error) == ("completed", "none", None)
    if outcome.output is None:
        assert outcome.exit_code == 0
        assert trial.sink.stdout
    else:
        assert isinstance(outcome.output, dict)
        canonical.dumps(outcome.output)


async def test_another_kind_of_call_is_refused_for_good(trial: Trial) -> None:
    outcome = await trial.run(trial.subject.wrong)
    assert told(outcome) == ("failed", "none", "non_retryable")
    assert outcome.error is not None
    assert outcome.error.message


async def test_what_cannot_be_sent_is_refused_for_good_with_a_reason(trial: Trial) -> None:
    outcome = await trial.run(trial.subject.bad, read_only=False)
    assert told(outcome) == ("failed", "none", "non_retryable")
    assert outcome.error is not None
    assert len(outcome.error.message) > 20


async def test_a_cancel_before_the_start_does_nothing(trial: Trial) -> None:
    trial.cancel.set()
    outcome = await trial.run(trial.subject.works, read_only=False)
    assert told(outcome) == ("cancelled", "none", "non_retryable")


async def test_a_read_that_takes_too_long_is_ended_and_can_be_tried_again(trial: Trial) -> None:
    trial.freeze()
    outcome = await trial.run(trial.subject.slow, seconds=1.5)
    assert told(outcome) == ("timed_out", "none", "retryable")
    assert outcome.survivors == ()
    assert outcome.error is not None
    assert "1.5 s" in outcome.error.message


async def test_a_read_is_cancelled_with_evidence(trial: Trial) -> None:
    trial.freeze()
    running = asyncio.create_task(trial.run(trial.subject.slow))
    await trial.begun()
    assert not running.done()
    trial.cancel.set()
    outcome = await running
    assert told(outcome) == ("cancelled", "none", "non_retryable")
    assert outcome.survivors == ()


async def test_a_change_that_is_cancelled_is_ended_or_unknown_but_never_without_effects(
    trial: Trial,
) -> None:
    trial.freeze()
    running = asyncio.create_task(trial.run(trial.subject.slow, read_only=False))
    await trial.begun()
    trial.cancel.set()
    outcome = await running
    assert outcome.state == ("cancelled" if trial.subject.change_is_ended else "unknown")
    # What a database was told only to read has no effects, whoever asks.
    reads = trial.name in ("postgresql", "mysql", "sqlite")
    assert outcome.effects == ("none" if reads else "possible")


async def test_a_target_that_is_not_there_is_unreachable(trial: Trial) -> None:
    if trial.subject.nowhere is None:
        return
    outcome = await trial.run(trial.subject.works, read_only=False, target=trial.subject.nowhere)
    assert told(outcome) == ("unreachable", "none", "unreachable")
    assert outcome.error is not None
    assert str(trial.subject.nowhere["port"]) in outcome.error.message
    assert (await trial.run(trial.subject.works)).state == "completed"


async def test_a_dry_run_has_no_effects(trial: Trial) -> None:
    if trial.subject.dry_run is None:
        return
    outcome = await trial.run(trial.subject.dry_run, read_only=False)
    assert (outcome.state, outcome.effects, outcome.error) == ("completed", "none", None)


async def test_secrets_are_masked_in_what_is_stored(trial: Trial) -> None:
    if trial.subject.echo is None:
        return
    masked = MaskedSink(trial.sink, Redactor([SECRET]))
    outcome = await trial.run(trial.subject.echo, sink=masked)
    await masked.flush()
    assert outcome.state == "completed", outcome.error
    assert SECRET.encode() not in trial.sink.stdout + trial.sink.stderr
    if trial.sink.stdout:
        assert b"[REDACTED]" in trial.sink.stdout


async def test_no_failure_tells_a_secret(trial: Trial) -> None:
    for call in (trial.subject.bad, trial.subject.wrong):
        outcome = await trial.run(call)
        assert SECRET not in repr(outcome)
    if trial.subject.nowhere is not None:
        outcome = await trial.run(trial.subject.works, target=trial.subject.nowhere)
        assert SECRET not in repr(outcome)


async def test_large_output_is_limited_and_says_so(trial: Trial) -> None:
    if trial.subject.large is None:
        return
    outcome = await trial.run(trial.subject.large, max_output_bytes=50_000)
    assert outcome.state == "completed", outcome.error
    assert 0 < len(trial.sink.stdout) <= 50_000
    assert outcome.output.get("truncated") or outcome.output.get("body_truncated")
    assert len(canonical.dumps(outcome.output)) < 65_536


async def test_calls_run_side_by_side(trial: Trial) -> None:
    outcomes = await asyncio.gather(
        *(trial.run(trial.subject.works, sink=MemorySink()) for _ in range(5))
    )
    assert {outcome.state for outcome in outcomes} == {"completed"}


async def test_closing_twice_does_no_harm(trial: Trial) -> None:
    await trial.run(trial.subject.works)
    await trial.subject.executor.close()
    await trial.subject.executor.close()


async def test_every_method_of_an_agent_is_tried_here() -> None:
    async def no_inventory(_filters: Any) -> dict[str, Any]:
        return {}

    executors = Executors(
        credentials=no_credentials, known_hosts=Path("none"), inventory=no_inventory
    )
    offered = {*executors.methods, *executors.unavailable} - {"command"}
    await executors.close()
    databases = {"postgresql", "mysql", "sqlite", "redis"}
    assert offered == {*SUBJECTS, "database"} - databases - {"mock"}
