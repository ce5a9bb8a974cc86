"""Which executor a call gets, and executors that need no machine."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.agent.executors import needs, registry
from opsconductor.agent.executors.base import Call, Outcome, Refused
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.environment import local_environment
from opsconductor.agent.executors.inventory import InventoryExecutor, InventoryRequest
from opsconductor.agent.executors.mock import MockExecutor, MockReply
from opsconductor.agent.executors.registry import ExecutorInvalid, Executors
from opsconductor.agent.main import main
from opsconductor.rpc.errors import PermissionDenied, StoreUnavailable
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, InternalCall, Rendered

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Stream


class Sink:
    def __init__(self) -> None:
        self.chunks: list[tuple[Stream, bytes]] = []

    async def write(self, stream: Stream, data: bytes) -> None:
        self.chunks.append((stream, data))


def call(rendered: Rendered, seconds: float = 5, **env: str) -> Call:
    return Call("att_1", rendered, None, timedelta(seconds=seconds), env)


async def no_inventory(_request: InventoryRequest) -> dict[str, Any]:
    raise StoreUnavailable


def executors(**replacements: Any) -> Executors:
    return Executors(
        credentials=lambda _: Credential(),
        known_hosts=Path("/nonexistent"),
        inventory=no_inventory,
        replacements=replacements,
    )


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("command", None, "local-command"),
        ("command", {"connection": "local"}, "local-command"),
        ("command", {"connection": "ssh"}, "ssh"),
        ("command", {"connection": ""}, "ssh"),
        ("local-command", {"connection": "ssh"}, "local-command"),
        ("http", {"connection": "ssh"}, "http"),
        ("inventory", None, "inventory"),
    ],
)
async def test_a_call_goes_the_way_method_and_connection_say(
    method: str, target: dict[str, Any] | None, expected: str
) -> None:
    assert executors().choose(method, target).method == expected


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("command", {"connection": "telnet", "name": "web"}, "CONNECTION_UNSUPPORTED"),
        ("teleport", None, "METHOD_UNSUPPORTED"),
    ],
)
async def test_what_no_executor_can_do_is_refused_with_what_there_is(
    method: str, target: dict[str, Any] | None, code: str
) -> None:
    with pytest.raises(Refused, match="local-command") as caught:
        executors().choose(method, target)
    assert caught.value.outcome.error is not None
    assert (caught.value.outcome.error.code, caught.value.outcome.effects) == (code, "none")


async def test_a_mock_can_stand_for_every_command() -> None:
    mock = MockExecutor()
    chosen = executors(command=mock)
    assert chosen.choose("command", {"connection": "ssh"}) is mock
    assert "command" in chosen.methods


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("teleport", value, registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])


def make_teleport(offered: registry.Collaborators) -> MockExecutor:
    assert offered.grace
    return MockExecutor(method="teleport")


async def test_an_installed_distribution_adds_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "make_teleport", make_teleport, raising=False)
    offer(monkeypatch, f"{registry.__name__}:make_teleport")
    chosen = executors()
    assert "teleport" in chosen.methods
    assert chosen.choose("teleport", None).method == "teleport"


async def test_a_method_that_misses_something_is_not_offered_and_says_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(_offered: registry.Collaborators) -> MockExecutor:
        needs.library("no_such_library", "no-such-library")
        return MockExecutor()

    monkeypatch.setattr(registry, "make_teleport", make, raising=False)
    offer(monkeypatch, f"{registry.__name__}:make_teleport")
    chosen = executors()
    assert "teleport" not in chosen.methods
    assert "pip install no-such-library" in chosen.unavailable["teleport"]
    for method, target in (("teleport", None), ("command", {"connection": "teleport"})):
        with pytest.raises(Refused, match="pip install no-such-library"):
            chosen.choose(method, target)


async def test_a_method_whose_program_is_missing_says_so() -> None:
    with pytest.raises(needs.Unavailable, match=r"no program no-such-program .* apt-get"):
        needs.program("no-such-program", "apt-get install it")


async def test_the_executors_of_this_distribution_are_offered_by_entry_point() -> None:
    chosen = executors()
    offered = {*chosen.methods, *chosen.unavailable}
    assert offered >= {"database", "communication", "aws-cli", "aws-sdk", "winrm", "snmp"}
    assert all(
        chosen.choose(method, None).method == method
        for method in chosen.methods
        if method != "command"
    )
    await chosen.close()


def test_the_agents_doctor_tells_what_is_offered_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok       database" in lines
    assert any(line.startswith("missing  aws-cli: no program aws") for line in lines)


async def test_a_broken_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "no.such.module:thing")
    with pytest.raises(ExecutorInvalid, match=r"teleport.*no\.such\.module"):
        executors()


async def test_a_mock_replies_by_command_line_in_chunks() -> None:
    mock = MockExecutor({"echo 'a b'": MockReply(b"abcd", b"e", exit_code=3, chunk_size=2)})
    sink = Sink()
    outcome = await mock.run(call(ArgvCommand(("echo", "a b"))), sink, asyncio.Event())
    assert (outcome.state, outcome.exit_code) == ("completed", 3)
    assert sink.chunks == [("stdout", b"ab"), ("stdout", b"cd"), ("stderr", b"e")]


async def test_a_mock_without_a_reply_says_which_there_are() -> None:
    mock = MockExecutor({"true": MockReply()})
    outcome = await mock.run(call(ArgvCommand(("false",))), Sink(), asyncio.Event())
    assert outcome.error is not None
    assert (outcome.error.code, "true" in outcome.error.message) == ("NO_MOCK_REPLY", True)


async def test_a_mock_can_fail_time_out_and_be_cancelled() -> None:
    failure = Outcome.unreachable("UNREACHABLE", "down")
    slow = MockReply(delay=timedelta(seconds=30))
    mock = MockExecutor({"down": MockReply(outcome=failure), "slow": slow})
    cancel = asyncio.Event()
    assert await mock.run(call(ArgvCommand(("down",))), Sink(), cancel) == failure
    assert (await mock.run(call(ArgvCommand(("slow",)), 0.05), Sink(), cancel)).state == "timed_out"
    cancel.set()
    assert (await mock.run(call(ArgvCommand(("slow",))), Sink(), cancel)).state == "cancelled"


async def test_the_inventory_is_asked_with_the_filters() -> None:
    async def query(request: InventoryRequest) -> dict[str, Any]:
        return {"asked": dict(request.args)}

    asked = call(InternalCall("asset_query", {"type": "windows_workstation"}))
    outcome = await InventoryExecutor(query).run(asked, Sink(), asyncio.Event())
    assert outcome.output == {"asked": {"type": "windows_workstation"}}


@pytest.mark.parametrize(
    ("error", "state"), [(StoreUnavailable(), "unreachable"), (PermissionDenied(), "failed")]
)
async def test_an_inventory_that_does_not_answer_is_told(error: Exception, state: str) -> None:
    async def query(_request: InventoryRequest) -> dict[str, Any]:
        raise error

    asked = call(InternalCall("asset_query"))
    outcome = await InventoryExecutor(query).run(asked, Sink(), asyncio.Event())
    assert (outcome.state, outcome.effects) == (state, "none")


async def test_an_inventory_call_times_out() -> None:
    async def query(_request: InventoryRequest) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    asked = call(InternalCall("asset_query"), 0.05)
    outcome = await InventoryExecutor(query).run(asked, Sink(), asyncio.Event())
    assert outcome.state == "timed_out"


def test_variables_that_steer_loaders_never_reach_a_step() -> None:
    given = {
        "TRACEPARENT": "00",
        "LD_PRELOAD": "x",
        "PYTHONPATH": "x",
        "BASH_ENV": "x",
        "BASH_FUNC_ls%%": "x",
        "NODE_OPTIONS": "x",
        "GIT_SSH": "x",
        "PATH": "/evil",
        "HOME": "/evil",
        "OPSCONDUCTOR_ATTEMPT": "forged",
    }
    variables = local_environment(call(ArgvCommand(("true",)), 5, **given))
    assert variables.keys() == {
        "TRACEPARENT",
        "LC_ALL",
        "TZ",
        "PATH",
        "HOME",
        "OPSCONDUCTOR_ATTEMPT",
    }
    assert variables["OPSCONDUCTOR_ATTEMPT"] == "att_1"
    assert "/evil" not in variables.values()


def test_a_credential_never_shows_its_secrets() -> None:
    credential = Credential(username="u", password="pw-1234", private_key="k-1234", passphrase="p")
    shown = repr(credential)
    assert not any(secret in shown for secret in credential.secrets if len(secret) > 1)
