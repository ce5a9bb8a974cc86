"""Attempts whose command outlived the agent that began it.

What is needed to judge the end is kept beside the run before it begins: the calls as they were
verified then, with the tool definitions they were verified against. So an agent that comes back
with other definitions judges by those people approved.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opsconductor.agent import verify
from opsconductor.agent.calls import Circumstances, PreparedCall
from opsconductor.agent.execution import Ongoing, Work
from opsconductor.agent.executors.base import Refused, SurvivingExecutor
from opsconductor.agent.refusal import Refusal
from opsconductor.agent.report import Failure
from opsconductor.rpc import failpoints
from opsconductor.tool_registry.loader import read_tool
from opsconductor.tool_registry.rendering.rendered import ArgvCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsconductor.agent.attempt import Workshop
    from opsconductor.agent.executors.local.run_folder import RunFolders
    from opsconductor.agent.journal import Entry
    from opsconductor.agent.report import Report
    from opsconductor.tool_registry.model import Tool
    from opsconductor.tool_registry.registry import Registry
    from opsconductor.tool_registry.rendering.render import Section


class NotAdoptable(Exception):
    """What is left of a run is not enough to judge its end."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the end of a supervised call is judged by."""

    execution_id: str
    step_id: str
    traceparent: str
    env: Mapping[str, str]
    timeout_ms: int
    section: Section
    call: verify.VerifiedCall
    check: verify.VerifiedCall | None
    """The verification to make after it."""

    def to_bytes(self) -> bytes:
        """Returns it for the run folder."""
        data = {
            "v": 1,
            "execution_id": self.execution_id,
            "step_id": self.step_id,
            "traceparent": self.traceparent,
            "env": dict(self.env),
            "timeout_ms": self.timeout_ms,
            "section": self.section,
            "call": _call_data(self.call),
            "check": _call_data(self.check) if self.check else None,
        }
        return json.dumps(data).encode()

    @classmethod
    def from_bytes(cls, data: bytes, registry: Registry) -> Kept:
        """Restores it; raises NotAdoptable."""
        try:
            values = json.loads(data)
            if values.pop("v") != 1:
                raise NotAdoptable("another version of this software has begun it")
            call, check = values.pop("call"), values.pop("check")
            return cls(
                **values,
                call=_call(call, registry),
                check=_call(check, registry) if check else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise NotAdoptable(f"what was kept for its end cannot be read: {exc!r}") from exc


class Adopted(Ongoing):
    """An attempt that an earlier process of this agent has begun."""

    def __init__(self, entry: Entry, shop: Workshop, publish: Callable[[Report], None]) -> None:
        super().__init__(entry.report, shop, publish)
        self._entry = entry

    async def run(self) -> Report:
        """Follows the command to its end and returns the final, journalled report."""
        runs = self._shop.runs
        try:
            if runs is None:
                raise NotAdoptable("this agent keeps no supervised runs")
            kept = Kept.from_bytes(runs.kept(self.attempt_id), self._shop.trust.registry)
            return await self._follow(kept, runs)
        except (NotAdoptable, OSError) as exc:
            return await self._unjudged(str(exc))

    async def _follow(self, kept: Kept, runs: RunFolders) -> Report:
        facts = {
            "opsconductor.execution_id": kept.execution_id,
            "opsconductor.step_id": kept.step_id,
            "opsconductor.attempt_id": self.attempt_id,
            "opsconductor.adopted": True,
        }
        span = self._shop.spans.attempt(f"attempt {kept.step_id}", kept.traceparent, facts)
        work = Work(
            prepared=self._prepared(kept, runs),
            check=kept.check,
            around=Circumstances(self.attempt_id, self.cancel, kept.env),
            timeout=timedelta(milliseconds=kept.timeout_ms),
            entry=self._entry,
            spool=self._shop.spools.find(self.attempt_id)
            or self._shop.spools.open(self.attempt_id),
        )
        failpoints.hit("adopt.mid")
        self.report = await self._execute(work, span)
        error = self.report.error
        span.end(self.report.state, f"{error.code}: {error.message}" if error else "")
        return self.report

    def _prepared(self, kept: Kept, runs: RunFolders) -> PreparedCall:
        try:
            executor = self._shop.caller.choose(kept.call.tool.method, kept.call.target)
        except Refused as refused:
            raise NotAdoptable(str(refused)) from refused
        if not isinstance(executor, SurvivingExecutor):
            raise NotAdoptable(f"method {kept.call.tool.method} of this agent adopts nothing")
        return PreparedCall(
            kept.call,
            ArgvCommand(()),  # it was begun with its own
            executor.adopting(),
            kept.section,
            runs.of(self.attempt_id),
        )

    async def _unjudged(self, why: str) -> Report:
        """Ends as unknown: whether it did what it should cannot be told any more."""
        message = f"the agent was restarted while this ran, and its end cannot be judged: {why}"
        self.report = replace(
            self.report,
            state="unknown",
            effects="possible",
            error=Failure("ADOPTION_FAILED", message, "unknown"),
            end_time=self._shop.clock(),
        )
        await self._shop.journal.final(replace(self._entry, report=self.report))
        return self.report

    def _crashed(self, exc: Exception) -> Refusal:
        return Refusal("AGENT_DEFECT", f"the agent itself failed: {exc!r}; its log has the details")


def _call_data(call: verify.VerifiedCall) -> dict[str, Any]:
    return {
        "tool": call.tool.name,
        "digest": call.tool.digest,
        "source": call.tool.source.decode(),
        "inputs": dict(call.inputs),
        "target": dict(call.target) if call.target is not None else None,
        "success": call.success,
        "section": call.section,
    }


def _call(data: Mapping[str, Any], registry: Registry) -> verify.VerifiedCall:
    tool = _tool(data["tool"], data["digest"], data["source"], registry)
    section = data.get("section", "command")
    return verify.VerifiedCall(tool, data["inputs"], data["target"], data["success"], section)


def _tool(name: str, digest: str, source: str, registry: Registry) -> Tool:
    """Returns the definition as it was verified: this agent's own, or the kept one."""
    own = registry.find(name)
    if own is not None and own.digest == digest:
        return own
    kept, faults = read_tool(source.encode())
    if kept is None or kept.digest != digest:
        said = "; ".join(map(str, faults)) or "it is another one"
        raise NotAdoptable(f"the definition of {name} at that time cannot be read: {said}")
    return kept
