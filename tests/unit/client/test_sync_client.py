"""The synchronous client asks for the right things and understands the answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING, Any

import grpc
import grpc_testing
import pytest

from opsconductor.client import SyncClient
from opsconductor.rpc.errors import (
    Fault,
    InvalidArgument,
    NotFound,
    OpsConductorError,
    PlanInvalid,
    StoreUnavailable,
)
from opsconductor.rpc.status import fault_to_wire, to_status
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import agent_admin_service_pb2 as agents
from opsconductor.v1 import approval_service_pb2 as approvals
from opsconductor.v1 import execution_service_pb2 as executions
from opsconductor.v1 import inventory_service_pb2 as inventory
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1 import tool_service_pb2 as tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULES = {
    "Plan": plans,
    "Execution": executions,
    "Approval": approvals,
    "Tool": tools,
    "Inventory": inventory,
    "AgentAdmin": agents,
}
SERVICES = {
    name: module.DESCRIPTOR.services_by_name[f"{name}Service"] for name, module in MODULES.items()
}


class Bench:
    """A client in one thread and the server's side of its channel in this one."""

    def __init__(self) -> None:
        clock = grpc_testing.strict_real_time()
        self.channel = grpc_testing.channel(list(SERVICES.values()), clock)
        self.client = SyncClient(channel=self.channel)
        self.threads = ThreadPoolExecutor(1)
        self.received: Queue[Any] = Queue()

    def during(self, call: Callable[[SyncClient], Any]) -> Any:
        """Starts a call of the client; its future gives the outcome."""
        return self.threads.submit(call, self.client)

    def answer(self, method: str, response: Any) -> Any:
        """Waits for a unary call, answers it, and returns its request."""
        _, request, rpc = self.channel.take_unary_unary(self._method(method))
        rpc.send_initial_metadata(())
        if isinstance(response, OpsConductorError):
            code, message, metadata = to_status(response)
            rpc.terminate(None, metadata, code, message)
        elif isinstance(response, grpc.StatusCode):
            rpc.terminate(None, (), response, "connection lost")
        else:
            rpc.terminate(response, (), grpc.StatusCode.OK, "")
        return request

    def stream(self, method: str, messages: list[Any], code: grpc.StatusCode) -> Any:
        """Waits for a streaming call, answers it, and returns its request.

        Before a failure the messages must have been received: the stand-in drops those that wait.
        """
        _, request, rpc = self.channel.take_unary_stream(self._method(method))
        rpc.send_initial_metadata(())
        for message in messages:
            rpc.send_response(message)
            if code is not grpc.StatusCode.OK:
                assert self.received.get(timeout=10) == message
        rpc.terminate((), code, "")
        return request

    def collect(self, messages: Iterator[Any]) -> list[Any]:
        """Reads a stream to its end."""
        result = []
        for message in messages:
            result.append(message)
            self.received.put(message)
        return result

    def _method(self, name: str) -> Any:
        service, _, method = name.partition(".")
        return SERVICES[service].methods_by_name[method]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.threads.shutdown()


RUN = executions.Execution(execution_id="exec_1")
APPROVAL = approvals.ApprovalRequest(approval_id="appr_1")
TOOL = tools.Tool(name="ping")
AGENT = agents.Agent(name="agent-1")

CALLS: list[tuple[str, Callable[[SyncClient], Any], dict[str, Any], Any, Any]] = [
    (
        "Execution.Get",
        lambda c: c.get("exec_1"),
        {"execution_id": "exec_1"},
        executions.GetResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.List",
        lambda c: c.list(states=["success"], text="web", page_size=2, page_token="t"),
        {"states": [executions.EXECUTION_STATE_COMPLETED], "text": "web", "page_size": 2},
        executions.ListResponse(executions=[RUN]),
        executions.ListResponse(executions=[RUN]),
    ),
    (
        "Execution.Cancel",
        lambda c: c.cancel("exec_1", "why", request_id="r"),
        {"execution_id": "exec_1", "reason": "why", "request_id": "r"},
        executions.CancelResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.Pause",
        lambda c: c.pause("exec_1", "why"),
        {"execution_id": "exec_1", "reason": "why"},
        executions.PauseResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.Resume",
        lambda c: c.resume("exec_1"),
        {"execution_id": "exec_1"},
        executions.ResumeResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.Rollback",
        lambda c: c.rollback("exec_1", "why"),
        {"execution_id": "exec_1", "reason": "why"},
        executions.RollbackResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.Probe",
        lambda c: c.probe("exec_1", "restart", wait=True, request_id="r"),
        {"step_id": "restart", "wait": True, "request_id": "r"},
        executions.ProbeResponse(execution=RUN),
        RUN,
    ),
    (
        "Execution.ResolveUnknown",
        lambda c: c.resolve_unknown("exec_1", "restart", "failed", "looked"),
        {"step_id": "restart", "resolution": executions.UNKNOWN_RESOLUTION_FAILED},
        executions.ResolveUnknownResponse(execution=RUN),
        RUN,
    ),
    (
        "Approval.List",
        lambda c: c.list_approvals(state="pending", execution_id="exec_1"),
        {"state": approvals.APPROVAL_STATE_PENDING, "execution_id": "exec_1"},
        approvals.ListApprovalsResponse(approvals=[APPROVAL]),
        approvals.ListApprovalsResponse(approvals=[APPROVAL]),
    ),
    (
        "Approval.Decide",
        lambda c: c.decide("appr_1", "reject", reason="no"),
        {"approval_id": "appr_1", "kind": approvals.DECISION_KIND_REJECT, "reason": "no"},
        approvals.DecideResponse(approval=APPROVAL),
        APPROVAL,
    ),
    (
        "Tool.List",
        lambda c: c.list_tools(category="linux"),
        {"category": "linux"},
        tools.ListToolsResponse(tools=[TOOL]),
        tools.ListToolsResponse(tools=[TOOL]),
    ),
    (
        "Tool.Get",
        lambda c: c.get_tool("ping"),
        {"name": "ping"},
        tools.GetToolResponse(tool=TOOL),
        TOOL,
    ),
    (
        "Tool.Search",
        lambda c: c.search_tools("disk"),
        {"query": "disk"},
        tools.SearchToolsResponse(tools=[TOOL]),
        tools.SearchToolsResponse(tools=[TOOL]),
    ),
    (
        "Tool.Render",
        lambda c: c.render_tool("ping", {"count": 3}, target="web-01"),
        {"name": "ping", "target": "web-01"},
        tools.RenderResponse(command="ping -c 3"),
        tools.RenderResponse(command="ping -c 3"),
    ),
    (
        "Tool.Export",
        lambda c: c.export_tools(tools.EXPORT_FORMAT_FUNCTIONS, category="linux", names=["ping"]),
        {"format": tools.EXPORT_FORMAT_FUNCTIONS, "category": "linux", "names": ["ping"]},
        tools.ExportToolsResponse(document="[]"),
        "[]",
    ),
    (
        "AgentAdmin.List",
        lambda c: c.list_agents(),
        {},
        agents.ListAgentsResponse(agents=[AGENT]),
        agents.ListAgentsResponse(agents=[AGENT]),
    ),
    (
        "AgentAdmin.Get",
        lambda c: c.get_agent("agent-1"),
        {"agent_id": "agent-1"},
        agents.GetAgentResponse(agent=AGENT),
        AGENT,
    ),
    (
        "AgentAdmin.Drain",
        lambda c: c.drain_agent("agent-1", undo=True),
        {"agent_id": "agent-1", "undo": True},
        agents.DrainAgentResponse(agent=AGENT),
        AGENT,
    ),
    (
        "AgentAdmin.Retire",
        lambda c: c.retire_agent("agent-1", "the host burnt"),
        {"agent_id": "agent-1", "reason": "the host burnt"},
        agents.RetireAgentResponse(agent=AGENT),
        agents.RetireAgentResponse(agent=AGENT),
    ),
    (
        "AgentAdmin.CreateJoinToken",
        lambda c: c.create_join_token("agent-2", "dmz"),
        {"name": "agent-2", "segment": "dmz"},
        agents.CreateJoinTokenResponse(token_file="x"),
        agents.CreateJoinTokenResponse(token_file="x"),
    ),
    (
        "Inventory.List",
        lambda c: c.list_assets(page_size=5),
        {"page_size": 5},
        inventory.ListAssetsResponse(),
        inventory.ListAssetsResponse(),
    ),
    (
        "Inventory.Query",
        lambda c: c.query_assets(),
        {"limit": 1000},
        inventory.QueryAssetsResponse(total_count=6),
        inventory.QueryAssetsResponse(total_count=6),
    ),
    (
        "Inventory.Import",
        lambda c: c.import_assets(document="assets: []"),
        {"document": b"assets: []"},
        inventory.ImportAssetsResponse(created=1),
        inventory.ImportAssetsResponse(created=1),
    ),
    (
        "Inventory.Delete",
        lambda c: c.delete_asset("web-01"),
        {"name": "web-01"},
        inventory.DeleteAssetResponse(),
        None,
    ),
]


@pytest.mark.parametrize(
    ("method", "call", "asked", "response", "result"), CALLS, ids=[call[0] for call in CALLS]
)
def test_each_method_asks_its_question_and_returns_its_answer(
    bench: Bench,
    method: str,
    call: Callable[[SyncClient], Any],
    asked: dict[str, Any],
    response: Any,
    result: Any,
) -> None:
    outcome = bench.during(call)
    request = bench.answer(method, response)
    assert outcome.result(10) == result
    assert {name: getattr(request, name) for name in asked} == asked
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        assert request.request_id


def test_a_refusal_is_raised_as_the_class_the_server_raised(bench: Bench) -> None:
    outcome = bench.during(lambda c: c.get("exec_9"))
    bench.answer("Execution.Get", NotFound("no execution exec_9"))
    with pytest.raises(NotFound, match="no execution exec_9"):
        outcome.result(10)


def test_a_submission_carries_all_it_was_given(bench: Bench) -> None:
    plan = {"name": "restart", "steps": []}
    outcome = bench.during(
        lambda c: c.submit(plan, request_id="r", external_id="e", actor="ann", wait=True)
    )
    request = bench.answer("Execution.Submit", executions.SubmitResponse(execution=RUN))
    assert outcome.result(10).execution == RUN
    assert json.loads(request.plan.document) == plan
    assert (request.request_id, request.external_id, request.actor, request.wait) == (
        ("r", "e", "ann", True)
    )


def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_key(bench: Bench) -> None:
    outcome = bench.during(lambda c: (c.get_tool("ping"), c.submit("name: a"))[1])
    bench.answer("Tool.Get", tools.GetToolResponse(tool=TOOL))
    first = bench.answer("Execution.Submit", grpc.StatusCode.UNAVAILABLE)
    again = bench.answer("Execution.Submit", StoreUnavailable())
    last = bench.answer("Execution.Submit", executions.SubmitResponse(execution=RUN))
    assert outcome.result(10).execution == RUN
    assert first.request_id == again.request_id == last.request_id


def test_a_server_that_is_not_there_is_reported_at_once(bench: Bench) -> None:
    outcome = bench.during(lambda c: c.submit("name: a"))
    bench.answer("Execution.Submit", grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unreachable, match="cannot be reached"):
        outcome.result(10)


def test_faults_that_had_no_room_in_the_refusal_are_fetched(bench: Bench) -> None:
    faults = [Fault("TYPE", field=f"steps[{n}].inputs.x", found="abc") for n in range(200)]
    outcome = bench.during(lambda c: c.preview("name: a"))
    bench.answer("Plan.Preview", PlanInvalid("200 faults", faults=faults))
    answer = plans.ValidateResponse(faults=[fault_to_wire(fault) for fault in faults])
    bench.answer("Plan.Validate", answer)
    with pytest.raises(PlanInvalid, match="200 faults") as refused:
        outcome.result(10)
    assert refused.value.faults == tuple(faults)


def test_a_watch_goes_on_after_lost_connections(bench: Bench) -> None:
    outcome = bench.during(lambda c: bench.collect(c.watch("exec_1", 2)))
    events = [executions.WatchResponse(seq=seq) for seq in range(7)]
    asked = [
        bench.stream("Execution.Watch", events[2:4], grpc.StatusCode.UNAVAILABLE),
        bench.stream("Execution.Watch", [], grpc.StatusCode.CANCELLED),
        bench.stream("Execution.Watch", [events[3], events[4], events[6]], grpc.StatusCode.OK),
        bench.stream("Execution.Watch", events[5:7], grpc.StatusCode.OK),
    ]
    assert [event.seq for event in outcome.result(10)] == [2, 3, 4, 5, 6]
    assert [request.from_seq for request in asked] == [2, 4, 4, 5]


def test_output_goes_on_after_the_last_byte(bench: Bench) -> None:
    out, err = executions.OUTPUT_STREAM_STDOUT, executions.OUTPUT_STREAM_STDERR
    outcome = bench.during(lambda c: bench.collect(c.read_output("exec_1", stdout_offset=3)))
    first = [
        executions.ReadOutputResponse(stream=out, offset=3, data=b"abc"),
        executions.ReadOutputResponse(stream=err, data=b"de"),
    ]
    bench.stream("Execution.ReadOutput", first, grpc.StatusCode.UNAVAILABLE)
    rest = [*first, executions.ReadOutputResponse(stream=out, offset=6, data=b"f")]
    request = bench.stream("Execution.ReadOutput", rest, grpc.StatusCode.OK)
    assert [piece.data for piece in outcome.result(10)] == [b"abc", b"de", b"f"]
    assert (request.stdout_offset, request.stderr_offset) == (3, 0)


def test_a_client_needs_a_way_to_the_server() -> None:
    with pytest.raises(InvalidArgument, match="context or a channel"):
        SyncClient()
