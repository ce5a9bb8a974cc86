"""A real gRPC server that answers from a script: what opsctl sees without an orchestrator."""

# ruff: noqa: N802 - methods are named as gRPC names them
from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from helpers.scripted_fleet import Agents, Answers, Inventory, abort
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import NoProbe, NotFound, OpsConductorError, UnknownTool
from opsconductor.v1 import (
    agent_admin_service_pb2 as agents,
)
from opsconductor.v1 import (
    agent_admin_service_pb2_grpc,
    approval_service_pb2_grpc,
    execution_service_pb2_grpc,
    inventory_service_pb2_grpc,
    plan_service_pb2_grpc,
    tool_service_pb2_grpc,
)
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1 import tool_service_pb2 as tools

if TYPE_CHECKING:
    from collections.abc import Iterator

EXECUTION = "exec_00000000000000000000000001"
APPROVAL = "appr_00000000000000000000000001"

RUNNING = (executions.EXECUTION_STATE_RUNNING, executions.STEP_STATE_RUNNING)

_KINDS: dict[int, str] = {
    executions.STEP_STATE_RUNNING: "attempt_granted",
    executions.STEP_STATE_COMPLETED: "step_finished",
    executions.STEP_STATE_UNKNOWN: "step_finished",
}
_DETAILS: dict[str, dict[str, Any]] = {
    "attempt_granted": {
        "kind": "forward",
        "number": 1,
        "routing_reason": "local serves segment local and has 32 of 32 places free",
    },
    "approval_requested": {"requirement_text": "1 person"},
    "step_finished": {"state": "completed"},
}


@dataclass
class Script:
    """What the server knows and what it was asked."""

    execution: executions.Execution = field(
        default_factory=lambda: executions.Execution(
            execution_id=EXECUTION,
            plan_id="plan-1",
            name="a plan",
            state=executions.EXECUTION_STATE_COMPLETED,
            requester="alice",
            trace_id="ab" * 16,
            steps=[
                executions.StepStatus(
                    step_id="one", tool="ping", state=executions.STEP_STATE_COMPLETED
                )
            ],
        )
    )
    events: list[executions.WatchResponse] = field(default_factory=list)
    pieces: list[executions.ReadOutputResponse] = field(default_factory=list)
    tools: list[tools.Tool] = field(default_factory=list)
    agents: list[agents.Agent] = field(default_factory=list)
    approval: approvals.GetApprovalResponse | None = None
    preview: plans.PreviewResponse = field(default_factory=plans.PreviewResponse)
    faults: list[plans.Fault] = field(default_factory=list)
    probe: executions.Execution | None = None
    """What reads the outcome of a step; None: its tool declares nothing that does."""
    error: OpsConductorError | None = None
    """Raised by whatever is called next."""
    after_approval: list[executions.WatchResponse] = field(default_factory=list)
    final_state: int = executions.EXECUTION_STATE_COMPLETED
    lose_answers: bool = False
    """Whether Submit takes plans and the connection is lost before its answer."""
    hold: bool = False
    """Whether Watch stays open after its events."""
    submitted: list[executions.SubmitRequest] = field(default_factory=list)
    decisions: list[approvals.DecideRequest] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    decided: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def known(self, execution_id: str) -> executions.Execution | None:
        """Returns an execution by its id."""
        found = [self.execution, self.probe]
        return next((item for item in found if item and item.execution_id == execution_id), None)

    def document(self) -> dict[str, Any]:
        """Returns the plan that was submitted last."""
        value: dict[str, Any] = json.loads(self.submitted[-1].plan.document)
        return value

    def happened(
        self, states: tuple[int, int], step: str = "one", kind: str = "", progress: int = 0
    ) -> None:
        """Adds an event; without a kind the one that fits a step's state."""
        kind = kind or _KINDS.get(states[1], "approval_requested")
        self.events.append(self._event(len(self.events) + 1, states, step, kind, progress))

    def asks_for_approval(self) -> None:
        """Makes the execution wait for an approval of its one step."""
        body = canonical.dumps({"v": 1, "step_id": "one", "tool": "x", "inputs": {"a": 1}})
        manifest = canonical.dumps(
            {
                "v": 1,
                "tenant": "default",
                "plan_id": "plan-1",
                "steps": [
                    {"id": "one", "digest": canonical.digest(canonical.STEP_DOMAIN, body)},
                ],
                "rollback": [],
            }
        )
        self.approval = approvals.GetApprovalResponse(
            approval=approvals.ApprovalRequest(
                approval_id=APPROVAL,
                execution_id=EXECUTION,
                level=2,
                state=approvals.APPROVAL_STATE_PENDING,
                plan_digest=canonical.digest(canonical.MANIFEST_DOMAIN, manifest),
                step_ids=["one"],
                plan_name="a plan",
                requester="alice",
                requirement="one person",
            ),
            manifest=manifest,
            step_bodies=[body],
            steps=[plans.StepPreview(step_id="one", tool="x", command="x --go")],
        )
        self.execution.state = executions.EXECUTION_STATE_APPROVAL_REQUIRED
        self.execution.steps[0].state = executions.STEP_STATE_PENDING
        self.execution.pending_approval_ids.append(APPROVAL)
        self.happened((executions.EXECUTION_STATE_APPROVAL_REQUIRED, 0), step="")
        self.hold = True

    def approve(self) -> None:
        """Lets the execution run to its end."""
        del self.execution.pending_approval_ids[:]
        self.execution.state = self.final_state  # type: ignore[assignment]
        self.execution.steps[0].state = executions.STEP_STATE_COMPLETED
        states = (self.final_state, executions.STEP_STATE_COMPLETED)
        self.after_approval.append(
            self._event(len(self.events) + 1, states, "one", "step_finished", 100)
        )
        self.decided.set()

    @staticmethod
    def _event(
        seq: int, states: tuple[int, int], step: str, kind: str, progress: int
    ) -> executions.WatchResponse:
        event = executions.WatchResponse(
            seq=seq,
            type=kind,
            step_id=step,
            execution_state=states[0],  # type: ignore[arg-type]
            step_state=states[1],  # type: ignore[arg-type]
            progress=progress,
        )
        event.detail.update(_DETAILS.get(kind, {}))
        return event


class ScriptedOrchestrator:
    """Serves a script on a free loopback port, without TLS."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        plan_service_pb2_grpc.add_PlanServiceServicer_to_server(_Plans(script), self._server)
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(
            _Executions(script), self._server
        )
        approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(
            _Approvals(script), self._server
        )
        tool_service_pb2_grpc.add_ToolServiceServicer_to_server(_Tools(script), self._server)
        agent_admin_service_pb2_grpc.add_AgentAdminServiceServicer_to_server(
            Agents(script), self._server
        )
        inventory_service_pb2_grpc.add_InventoryServiceServicer_to_server(
            Inventory(script), self._server
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        """Stops serving."""
        self.script.closing.set()
        self._server.stop(None).wait()


class _Plans(Answers, plan_service_pb2_grpc.PlanServiceServicer):
    def Validate(self, request: Any, context: grpc.ServicerContext) -> plans.ValidateResponse:
        self.called(request, context)
        return plans.ValidateResponse(faults=self.script.faults)

    def Preview(self, request: Any, context: grpc.ServicerContext) -> plans.PreviewResponse:
        self.called(request, context)
        return self.script.preview


class _Executions(Answers, execution_service_pb2_grpc.ExecutionServiceServicer):
    def Submit(self, request: Any, context: grpc.ServicerContext) -> executions.SubmitResponse:
        self.called(request, context)
        self.script.submitted.append(request)
        if self.script.lose_answers:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return executions.SubmitResponse(execution=self.script.execution)

    def Get(self, request: Any, context: grpc.ServicerContext) -> executions.GetResponse:
        self.called(request, context)
        if found := self.script.known(request.execution_id):
            return executions.GetResponse(execution=found)
        return abort(context, NotFound(f"there is no execution {request.execution_id}"))

    def List(self, request: Any, context: grpc.ServicerContext) -> executions.ListResponse:
        self.called(request, context)
        return executions.ListResponse(executions=[self.script.execution])

    def Watch(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[executions.WatchResponse]:
        self.called(request, context)
        yield from self.script.events
        while self.script.hold and not self.script.closing.is_set() and context.is_active():
            if self.script.decided.wait(0.05):
                yield from self.script.after_approval
                return

    def ReadOutput(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[executions.ReadOutputResponse]:
        self.called(request, context)
        skip = {
            executions.OUTPUT_STREAM_STDOUT: request.stdout_offset,
            executions.OUTPUT_STREAM_STDERR: request.stderr_offset,
        }
        position: Counter[tuple[str, str, int]] = Counter()
        for piece in self.script.pieces:
            key = (piece.step_id, piece.attempt_id, piece.stream)
            passed = min(skip[piece.stream], len(piece.data))
            skip[piece.stream] -= passed
            if piece.data[passed:] or piece.gap_bytes:
                answer = executions.ReadOutputResponse()
                answer.CopyFrom(piece)
                answer.data = piece.data[passed:]
                answer.offset = position[key] + passed
                yield answer
            position[key] += len(piece.data)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> executions.CancelResponse:
        self.called(request, context)
        return executions.CancelResponse(execution=self.script.known(request.execution_id))

    def Pause(self, request: Any, context: grpc.ServicerContext) -> executions.PauseResponse:
        self.called(request, context)
        return executions.PauseResponse(execution=self.script.execution)

    def Resume(self, request: Any, context: grpc.ServicerContext) -> executions.ResumeResponse:
        self.called(request, context)
        return executions.ResumeResponse(execution=self.script.execution)

    def Rollback(self, request: Any, context: grpc.ServicerContext) -> executions.RollbackResponse:
        self.called(request, context)
        return executions.RollbackResponse(execution=self.script.execution)

    def Probe(self, request: Any, context: grpc.ServicerContext) -> executions.ProbeResponse:
        self.called(request, context)
        if self.script.probe is None:
            abort(context, NoProbe("ping declares no probe"))
        return executions.ProbeResponse(execution=self.script.probe)

    def ResolveUnknown(
        self, request: Any, context: grpc.ServicerContext
    ) -> executions.ResolveUnknownResponse:
        self.called(request, context)
        return executions.ResolveUnknownResponse(execution=self.script.execution)


class _Approvals(Answers, approval_service_pb2_grpc.ApprovalServiceServicer):
    def List(self, request: Any, context: grpc.ServicerContext) -> approvals.ListApprovalsResponse:
        self.called(request, context)
        found = [self.script.approval.approval] if self.script.approval else []
        return approvals.ListApprovalsResponse(approvals=found)

    def Get(self, request: Any, context: grpc.ServicerContext) -> approvals.GetApprovalResponse:
        self.called(request, context)
        if self.script.approval is None:
            abort(context, NotFound("there is no such approval"))
        return self.script.approval

    def Decide(self, request: Any, context: grpc.ServicerContext) -> approvals.DecideResponse:
        self.called(request, context)
        self.script.decisions.append(request)
        assert self.script.approval is not None
        if request.kind == approvals.DECISION_KIND_APPROVE:
            self.script.approval.approval.state = approvals.APPROVAL_STATE_APPROVED
        else:
            self.script.approval.approval.state = approvals.APPROVAL_STATE_REJECTED
            self.script.final_state = executions.EXECUTION_STATE_REJECTED
        self.script.approve()
        return approvals.DecideResponse(approval=self.script.approval.approval)


class _Tools(Answers, tool_service_pb2_grpc.ToolServiceServicer):
    def List(self, request: Any, context: grpc.ServicerContext) -> tools.ListToolsResponse:
        self.called(request, context)
        return tools.ListToolsResponse(tools=self.script.tools)

    def Get(self, request: Any, context: grpc.ServicerContext) -> tools.GetToolResponse:
        self.called(request, context)
        named = (tool for tool in self.script.tools if request.name in (tool.name, *tool.aliases))
        if (tool := next(named, None)) is None:
            abort(context, UnknownTool(f"no tool is named {request.name}; did you mean ping?"))
        return tools.GetToolResponse(tool=tool)

    def Search(self, request: Any, context: grpc.ServicerContext) -> tools.SearchToolsResponse:
        self.called(request, context)
        return tools.SearchToolsResponse(tools=self.script.tools)

    def Render(self, request: Any, context: grpc.ServicerContext) -> tools.RenderResponse:
        self.called(request, context)
        return tools.RenderResponse(command="ping -c 1 host")

    def Export(self, request: Any, context: grpc.ServicerContext) -> tools.ExportToolsResponse:
        self.called(request, context)
        return tools.ExportToolsResponse(document='{"tools": []}')
