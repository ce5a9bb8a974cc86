"""SNMP against a real snmpd: v2c and v3, reading, walking, setting, and silence."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.places import MemorySink
from helpers.snmp import snmpd as snmpd
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.snmp import SnmpExecutor
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, Rendered, SnmpRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.servers import Server
SYSTEM, NAME, CONTACT, UPTIME = (f"1.3.6.1.2.1.1{end}" for end in ("", ".5.0", ".4.0", ".3.0"))
V2 = Credential("snmp", settings=(("version", "2c"),), hidden=(("community", "private-community"),))
V3 = Credential(
    "snmp",
    "ops",
    settings=(("version", "3"), ("auth_protocol", "sha"), ("privacy_protocol", "aes")),
    hidden=(("auth_password", "auth-password"), ("privacy_password", "privacy-password")),
)


class Device:
    """A device as the executor sees it."""

    def __init__(self, port: int, credential: Credential = V2) -> None:
        self.executor = SnmpExecutor(lambda _: credential)
        self.target = {"name": "switch-01", "address": "127.0.0.1", "port": port}
        self.sink = MemorySink()
        self.cancel = asyncio.Event()

    async def run(self, rendered: Rendered, *, seconds: float = 30, read_only: bool = True) -> Any:
        call = Call("a", rendered, self.target, timedelta(seconds=seconds), read_only=read_only)
        return await self.executor.run(call, self.sink, self.cancel)

    async def ask(self, operation: Any, *oids: str, **options: Any) -> Outcome:
        values = options.pop("values", ())
        rows = options.pop("max_rows", 1000)
        outcome: Outcome = await self.run(SnmpRequest(operation, oids, values, rows), **options)
        return outcome


def told(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code


@pytest.fixture(params=["2c", "3"])
async def device(request: pytest.FixtureRequest, snmpd: Server) -> AsyncIterator[Device]:
    made = Device(snmpd.port, V2 if request.param == "2c" else V3)
    yield made
    await made.executor.close()


async def test_values_are_read_with_their_types(device: Device) -> None:
    outcome = await device.ask("get", NAME, UPTIME, "1.3.6.1.2.1.1.99.0")
    assert (outcome.state, outcome.effects) == ("completed", "none"), outcome.error
    name, uptime, nothing = outcome.output["values"]
    assert name == {"oid": NAME, "type": "OctetString", "value": "device-01"}
    assert (uptime["type"], uptime["value"] >= 0) == ("TimeTicks", True)
    assert (nothing["type"], nothing["value"]) == ("NoSuchObject", None)
    assert [json.loads(line) for line in device.sink.stdout.splitlines()] == outcome.output[
        "values"
    ]


async def test_a_walk_stays_in_its_tree_and_within_its_limit(device: Device) -> None:
    outcome = await device.ask("walk", SYSTEM)
    assert outcome.state == "completed", outcome.error
    oids = [value["oid"] for value in outcome.output["values"]]
    assert NAME in oids
    assert all(oid.startswith(SYSTEM + ".") for oid in oids)
    assert len(oids) == len(set(oids)) > 5
    cut = await device.ask("walk", "1.3.6.1.2.1", max_rows=3)
    assert (len(cut.output["values"]), cut.output["truncated"]) == (3, True)


async def test_a_value_is_set(device: Device) -> None:
    for text in ("ops@example.com", "'; reboot; \"$(x)"):
        outcome = await device.ask("set", CONTACT, values=(f"s:{text}",), read_only=False)
        assert (outcome.state, outcome.effects) == ("completed", "done"), outcome.error
        seen = await device.ask("get", CONTACT)
        assert seen.output["values"][0]["value"] == text


async def test_what_the_device_refuses_is_told(device: Device) -> None:
    outcome = await device.ask("set", UPTIME, values=("i:1",), read_only=False)
    assert told(outcome) == ("failed", "none", "SNMP_ERROR")
    assert outcome.error is not None
    assert UPTIME in outcome.error.message


async def test_a_set_is_refused_in_a_step_that_may_only_read(device: Device) -> None:
    outcome = await device.ask("set", CONTACT, values=("s:x",))
    assert told(outcome) == ("failed", "none", "READ_ONLY")


@pytest.mark.parametrize("oid", ["", "sysDescr.0", "1", "1.3.6; id", "-v2c", "1.3." + "9" * 40])
async def test_what_is_no_oid_is_refused(device: Device, oid: str) -> None:
    outcome = await device.ask("get", oid)
    assert told(outcome) == ("failed", "none", "REQUEST_INVALID")


@pytest.mark.parametrize("value", ["x", "z:1", "i:one", "a:host", "x:zz"])
async def test_what_is_no_value_is_refused(device: Device, value: str) -> None:
    outcome = await device.ask("set", CONTACT, values=(value,), read_only=False)
    assert told(outcome) == ("failed", "none", "VALUE_INVALID")


async def test_a_wrong_login_is_told_without_its_secret(snmpd: Server) -> None:
    hidden = (("auth_password", "wrong-password"), ("privacy_password", "privacy-password"))
    device = Device(snmpd.port, Credential("snmp", "ops", settings=V3.settings, hidden=hidden))
    outcome = await device.ask("get", NAME)
    assert told(outcome) == ("failed", "none", "AUTH_FAILED")
    assert "wrong-password" not in repr(outcome)
    await device.executor.close()


async def test_silence_is_unreachable_for_reads_and_unknown_for_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("opsconductor.agent.executors.snmp._ANSWER_WITHIN", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        device = Device(silent.getsockname()[1])
        assert told(await device.ask("get", NAME)) == ("unreachable", "none", "NO_ANSWER")
        outcome = await device.ask("set", CONTACT, values=("s:x",), read_only=False)
        assert told(outcome) == ("unknown", "possible", "OUTCOME_UNKNOWN")
        outcome = await device.ask("walk", SYSTEM, seconds=0.1)
        assert told(outcome) == ("timed_out", "none", "TIMEOUT")
        await device.executor.close()


async def test_a_cancel_ends_a_walk(snmpd: Server) -> None:
    device = Device(snmpd.port)
    device.sink.gate = asyncio.Event()
    running = asyncio.create_task(device.ask("walk", "1.3.6.1.2.1"))
    await asyncio.sleep(0.2)
    device.cancel.set()
    assert told(await running) == ("cancelled", "none", "CANCELLED")
    await device.executor.close()


async def test_another_kind_of_call_target_or_library_is_told(
    snmpd: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(snmpd.port)
    assert told(await device.run(ArgvCommand(("true",))))[2] == "METHOD_MISMATCH"
    device.target = {}
    assert told(await device.ask("get", NAME))[2] == "TARGET_INVALID"
    monkeypatch.setattr("opsconductor.agent.executors.snmp.find_spec", lambda _: None)
    assert told(await device.ask("get", NAME))[2] == "LIBRARY_MISSING"
