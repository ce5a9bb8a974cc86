"""Carries out one call of a tool: render, run, parse, judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from opsconductor.agent import http_answer
from opsconductor.agent.executors import elevation
from opsconductor.agent.executors.base import Call, Executor, Outcome, Refused, Sink
from opsconductor.agent.report import Failure
from opsconductor.rpc import canonical
from opsconductor.tool_registry import expressions
from opsconductor.tool_registry.outputs.reading import OutputUnparsable, check_output, parse_output
from opsconductor.tool_registry.outputs.success import criteria, failure_reason
from opsconductor.tool_registry.rendering.render import (
    HttpRequest,
    RenderError,
    command_line,
    render,
)
from opsconductor.tool_registry.rendering.rendered import is_elevated

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import timedelta

    from opsconductor.agent.executors.base import State, Stream
    from opsconductor.agent.executors.local.run_folder import RunFolder
    from opsconductor.agent.policy import Policy
    from opsconductor.agent.verify import VerifiedCall
    from opsconductor.tool_registry.rendering.render import Rendered, Section

ChooseExecutor = Callable[[str, "Mapping[str, Any] | None"], Executor]
"""Finds the executor for a method and a target; raises Refused when there is none."""
MAX_COMMAND_CHARACTERS = 16 * 1024
MAX_COLLECTED_BYTES = 1024 * 1024
"""Most output of a side call (precheck, capture, verification) that is kept."""


class OutputStore(Sink, Protocol):
    """A sink that can be read back."""

    def content(self, stream: Stream) -> bytes:
        """Returns everything stored of a stream."""


class Flushing(Sink, Protocol):
    """A sink that holds back bytes until it knows more."""

    async def flush(self, *, whole: bool) -> None:
        """Lets go of everything held back.

        Args:
            whole: Whether the output is all there was to be; of one that was cut off, an end that
                could be the beginning of a secret is masked.
        """


class Collected:
    """Keeps the output of a side call in memory, up to a limit."""

    def __init__(self) -> None:
        self._data: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    async def write(self, stream: Stream, data: bytes) -> None:
        """Stores output up to the limit."""
        room = MAX_COLLECTED_BYTES - len(self._data[stream])
        self._data[stream] += data[: max(room, 0)]

    def content(self, stream: Stream) -> bytes:
        """Returns everything stored of a stream."""
        return bytes(self._data[stream])


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all calls of one attempt have in common."""

    attempt_id: str
    cancel: asyncio.Event
    env: Mapping[str, str]
    captured: Any = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a call, judged."""

    state: State
    outcome: Outcome
    failure: Failure | None = None
    output: Any = None


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A rendered call and the executor that will carry it out."""

    call: VerifiedCall
    rendered: Rendered
    executor: Executor
    section: Section = "command"
    folder: RunFolder | None = None
    """Where it is supervised, so that it outlives the agent."""

    @property
    def command(self) -> str:
        """The command as people may paste it."""
        return command_line(self.rendered)[:MAX_COMMAND_CHARACTERS]


class Caller:
    """Renders calls and has them carried out."""

    def __init__(self, choose: ChooseExecutor, policy: Policy) -> None:
        self.choose = choose
        self._policy = policy

    def prepare(
        self, call: VerifiedCall, *, section: Section = "command", captured: Any = None
    ) -> PreparedCall:
        """Renders a call and finds its executor; raises Refused when it cannot be carried out."""
        try:
            rendered = render(
                call.tool, call.inputs, call.target, captured=captured, section=section
            )
        except RenderError as exc:
            raise Refused(Outcome.refused("RENDER_FAILED", f"{call.tool.name}: {exc}")) from exc
        if isinstance(rendered, HttpRequest):
            host = urlsplit(rendered.url).hostname or ""
            objection = self._policy.objection_to_host(host)
            if rendered.follow_redirects and self._policy.limits_hosts:
                objection = objection or "redirects could lead to hosts this agent may not reach"
            if objection:
                raise Refused(Outcome.refused("POLICY_DENIED", objection))
        return PreparedCall(call, rendered, self.choose(call.tool.method, call.target), section)

    async def carry_out(
        self,
        prepared: PreparedCall,
        store: OutputStore,
        around: Circumstances,
        *,
        timeout: timedelta,
        read_only: bool,
        sink: Flushing | None = None,
    ) -> Result:
        """Runs a prepared call and judges its end; ``sink`` may mask what goes to ``store``."""
        call = Call(
            attempt_id=around.attempt_id,
            rendered=prepared.rendered,
            target=prepared.call.target,
            timeout=timeout,
            env=around.env,
            read_only=read_only,
            folder=prepared.folder,
        )
        try:
            outcome = await prepared.executor.run(call, sink or store, around.cancel)
        except Refused as refused:
            outcome = refused.outcome
        if sink is not None:
            await sink.flush(whole=outcome.state == "completed")
        return judge(prepared, outcome, store)


def judge(prepared: PreparedCall, outcome: Outcome, store: OutputStore) -> Result:
    """Returns whether a call did what it should, by the tool's and the step's criteria."""
    streams = store.content("stdout"), store.content("stderr")
    if outcome.state != "completed":
        value = outcome.output or (_parsed(prepared, None, *streams) if any(streams) else None)
        return Result(outcome.state, outcome, _failure_of(outcome), value)
    tool = prepared.call.tool
    if is_elevated(prepared.rendered) and (
        refusal := elevation.refusal(
            tool.name, outcome.exit_code, *streams, tool.requires_capabilities
        )
    ):
        return Result("failed", refusal, _failure_of(refusal))
    refused = http_answer.failure(prepared.call.tool, prepared.section, outcome.output)
    if refused is not None:
        return Result("failed", outcome, refused, outcome.output)
    if outcome.error is not None:
        return _judge_by_exit_code(prepared, outcome)
    try:
        value = _output(prepared, outcome, *streams)
    except OutputUnparsable as exc:
        where = f"the output of {prepared.call.tool.name} is not what its definition says: {exc}"
        return Result("failed", outcome, Failure("OUTPUT_UNPARSABLE", where))
    failure = _tool_failure(prepared, outcome, value, *streams) or _step_failure(
        prepared, outcome, value
    )
    return Result("failed" if failure else "completed", outcome, failure, value)


def _judge_by_exit_code(prepared: PreparedCall, outcome: Outcome) -> Result:
    """Judges a call of whose output some is lost; never as if there had been no more."""
    tool, code, lost = prepared.call.tool, outcome.exit_code, _failure_of(outcome)
    value = {"omitted": True, "note": lost.message}
    expected = _expected_codes(prepared)
    if code is not None and code not in expected:
        message = f"{tool.name}{_where(prepared.call)}: exit code {code}; {lost.message}"
        return Result("failed", outcome, Failure("EXIT_CODE", message, "retryable"), value)
    if _needs_output(prepared):
        message = f"whether it did what it should cannot be told: {lost.message}"
        return Result("failed", outcome, replace(lost, message=message), value)
    return Result("completed", outcome, lost, value)


def _needs_output(prepared: PreparedCall) -> bool:
    section = prepared.section
    if section not in ("command", "dry_run"):
        return section == "capture"
    success = criteria(prepared.call.tool, section)
    wanted = (success.expression, success.stdout_regex, success.stderr_not_regex)
    return any((*wanted, prepared.call.success))


def _expected_codes(prepared: PreparedCall) -> tuple[int, ...]:
    section = prepared.section
    if section not in ("command", "dry_run"):
        return (0,)
    return criteria(prepared.call.tool, section).exit_codes


def _failure_of(outcome: Outcome) -> Failure:
    error = outcome.error
    if error is None:
        return Failure(outcome.state.upper(), f"the call ended as {outcome.state}", "unknown")
    return Failure(error.code, error.message, error.error_class)


def _output(prepared: PreparedCall, outcome: Outcome, stdout: bytes, stderr: bytes) -> Any:
    tool, section = prepared.call.tool, prepared.section
    if section == "undo":
        return None
    if http_answer.is_parsed(tool, section, outcome.output):
        value = _parsed(prepared, 0, stdout, stderr)
    elif outcome.output is None:
        value = _parsed(prepared, outcome.exit_code, stdout, stderr)
    else:
        value = check_output(tool, outcome.output, section=section)
    return {**(value or {}), "dry_run": True} if section == "dry_run" else value


def _parsed(prepared: PreparedCall, exit_code: int | None, stdout: bytes, stderr: bytes) -> Any:
    if prepared.section == "undo":
        return None
    tool = prepared.call.tool
    if prepared.section == "capture":
        # What a failed capture printed is not the state before.
        if exit_code != 0:
            return None
        return parse_output(tool, stdout, stderr, exit_code, section="capture")
    if prepared.section == "dry_run":
        stdout = stdout or stderr  # many programs tell there what they would do
    return parse_output(tool, stdout, stderr, exit_code, section=prepared.section)


def _tool_failure(
    prepared: PreparedCall, outcome: Outcome, value: Any, stdout: bytes, stderr: bytes
) -> Failure | None:
    tool, code = prepared.call.tool, outcome.exit_code
    section = prepared.section
    if section in ("command", "dry_run"):
        reason = failure_reason(
            tool,
            exit_code=code,
            output=value or {},
            inputs=prepared.call.inputs,
            stdout=stdout,
            stderr=stderr,
            section=section,
        )
    else:
        lines = stderr.decode("utf-8", "replace").strip().splitlines() or [""]
        reason = f"exit code {code} of its {section}: {lines[-1][:300]}" if code else None
    if reason is None:
        return None
    by_code = code is not None and code not in _expected_codes(prepared)
    message = f"{tool.name}{_where(prepared.call)}: {reason}"
    return Failure("EXIT_CODE" if by_code else "SUCCESS_CRITERIA", message, "retryable")


def _step_failure(prepared: PreparedCall, outcome: Outcome, value: Any) -> Failure | None:
    call = prepared.call
    if not call.success or prepared.section != "command":
        return None
    scope = {"output": value, "exit_code": outcome.exit_code, "inputs": dict(call.inputs)}
    try:
        met = expressions.evaluate_bool(call.success, scope)
    except expressions.ExpressionError as exc:
        message = f"success: {call.success} cannot be judged: {exc}"
        return Failure("SUCCESS_CRITERIA", message)
    if met:
        return None
    message = f"{call.tool.name}{_where(call)}: not true: {call.success}"
    return Failure("SUCCESS_CRITERIA", message, "retryable")


def _where(call: VerifiedCall) -> str:
    return f" on {call.target['name']}" if call.target else ""


def as_json(value: Any, limit: int) -> str:
    """Returns JSON text of an output; what cannot be carried is replaced by a note saying so."""
    if value is None:
        return ""
    try:
        data = canonical.dumps(value)
    except canonical.CanonicalError as exc:
        # The other side reads strictly; a report it cannot read would be sent again for ever.
        return json.dumps({"omitted": True, "note": f"not portable JSON ({exc}); see the output"})
    if len(data) > limit:
        note = f"over {limit} bytes; see the raw output"
        return json.dumps({"omitted": True, "bytes": len(data), "note": note})
    return data.decode()
