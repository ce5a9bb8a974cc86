"""Method "snmp": values of a device read, walked or set, with SNMP v2c or v3."""

from __future__ import annotations

import ipaddress
import json
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors import needs
from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.credential import Credential, Credentials, resolve
from opsconductor.agent.executors.exchange import Progress, follow
from opsconductor.tool_registry.rendering.rendered import SnmpRequest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.executors.registry import Collaborators

LIBRARY = "pysnmp"
_PORT = 161
# One datagram may be lost; what a device does not answer in this time it does not answer.
_ANSWER_WITHIN = 2.0
_TRIES_OF_READS = 3
_BULK = 20
_MOST_OIDS = 100
_OID = re.compile(r"\.?[0-9]+(?:\.[0-9]+){1,127}")
_MOST_ARC = 2**32


def make(offered: Collaborators) -> SnmpExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    needs.library(LIBRARY, "pysnmp")
    return SnmpExecutor(offered.credentials)


class SnmpExecutor:
    """Asks one device; the outcome's output is ``{values: [{oid, type, value}], truncated}``."""

    method = "snmp"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._engine: Any = None

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Asks the device. See Executor."""
        request = call.rendered
        if not isinstance(request, SnmpRequest):
            kind = type(request).__name__
            return Outcome.refused("METHOD_MISMATCH", f"the snmp executor cannot send a {kind}")
        if find_spec(LIBRARY) is None:
            message = "SNMP needs the Python library pysnmp on the agent: pip install pysnmp"
            return Outcome.refused("LIBRARY_MISSING", message)
        try:
            _require_sense(call, request)
            address, port, credential = self._device(call)
        except Refused as refused:
            return refused.outcome
        progress = Progress()
        exchange = self._exchange(call, request, address, port, credential, sink, progress)
        return await follow(call, exchange, progress, cancel, f"SNMP {request.operation}")

    async def close(self) -> None:
        """Closes the socket."""
        if self._engine is not None:
            self._engine.close_dispatcher()
            self._engine = None

    def _device(self, call: Call) -> tuple[str, int, Credential]:
        target = call.target or {}
        address = str(target.get("address") or "")
        if not address:
            message = "an SNMP request needs a target with an address"
            raise Refused(Outcome.refused("TARGET_INVALID", message))
        reference = str(target.get("credential") or "snmp")
        name = str(target.get("name") or address)
        credential = resolve(self._credentials, reference, "snmp", f"SNMP on {name}", address)
        carried_by_ssh = target.get("connection") in ("ssh", "winrm")
        port = 0 if carried_by_ssh else int(target.get("port") or 0)
        return address, port or _PORT, credential

    async def _exchange(
        self,
        call: Call,
        request: SnmpRequest,
        address: str,
        port: int,
        credential: Credential,
        sink: Sink,
        progress: Progress,
    ) -> Outcome:
        from pysnmp.error import PySnmpError

        values: list[dict[str, Any]] = []
        truncated = False
        try:
            asking = await self._asking(request, address, port, credential, progress)
            async for name, value in asking:
                if len(values) >= request.max_rows:
                    truncated = True
                    break
                values.append(_shown(name, value))
                line = json.dumps(values[-1], ensure_ascii=False) + "\n"
                await sink.write("stdout", line.encode("utf-8", "replace"))
        except _Answer as answer:
            return _told(call, request, credential, call.where, answer, sent=progress.sent)
        except (PySnmpError, OSError, ValueError) as error:
            message = f"SNMP {request.operation} on {call.where}: {error}"
            if progress.sent and request.operation == "set":
                return Outcome.lost(call, "OUTCOME_UNKNOWN", message)
            return Outcome.refused("REQUEST_INVALID", message)
        return Outcome.ended(call, None, {"values": values, "truncated": truncated})

    async def _asking(
        self,
        request: SnmpRequest,
        address: str,
        port: int,
        credential: Credential,
        progress: Progress,
    ) -> AsyncIterator[tuple[Any, Any]]:
        import pysnmp.hlapi.v3arch.asyncio as api

        if self._engine is None:
            self._engine = api.SnmpEngine()
        login = _login(credential)
        tries = _TRIES_OF_READS if request.operation != "set" else 1
        place = api.Udp6TransportTarget if ":" in address else api.UdpTransportTarget
        try:
            transport = await place.create(
                (address, port), timeout=_ANSWER_WITHIN, retries=tries - 1
            )
        except Exception as error:
            raise _Answer("unreachable", str(error)) from error
        route = (self._engine, login, transport, api.ContextData())
        progress.sent = True
        if request.operation == "walk":
            return _walked(route, request)
        return _asked(route, request)


class _Answer(Exception):
    """The device answered with an error, or did not answer."""

    def __init__(self, kind: str, said: str) -> None:
        self.kind, self.said = kind, said
        super().__init__(said)


async def _asked(route: Any, request: SnmpRequest) -> AsyncIterator[tuple[Any, Any]]:
    import pysnmp.hlapi.v3arch.asyncio as api

    if request.operation == "set":
        pairs = zip(request.oids, request.values, strict=True)
        objects = [api.ObjectType(api.ObjectIdentity(oid), _typed(text)) for oid, text in pairs]
        answer = await api.set_cmd(*route, *objects, lookupMib=False)
    else:
        objects = [api.ObjectType(api.ObjectIdentity(oid)) for oid in request.oids]
        answer = await api.get_cmd(*route, *objects, lookupMib=False)
    for found in _checked(answer, request.oids):
        yield found[0], found[1]


async def _walked(route: Any, request: SnmpRequest) -> AsyncIterator[tuple[Any, Any]]:
    import pysnmp.hlapi.v3arch.asyncio as api
    from pysnmp.proto.rfc1905 import EndOfMibView

    for root in request.oids:
        prefix = root.lstrip(".") + "."
        last = root
        while last:
            start = api.ObjectType(api.ObjectIdentity(last))
            answer = await api.bulk_cmd(*route, 0, _BULK, start, lookupMib=False)
            last = ""
            for name, value in _checked(answer, request.oids):
                if isinstance(value, EndOfMibView) or not f"{name}.".startswith(prefix):
                    last = ""
                    break
                last = str(name)
                yield name, value


def _checked(answer: Any, oids: tuple[str, ...]) -> Any:
    """Returns the values of an answer; raises _Answer for an error in it."""
    failure, status, index, values = answer
    if failure is not None:
        text = str(failure)
        kind = "silent" if "No SNMP response" in text else "login"
        raise _Answer(kind, text)
    if status:
        at = oids[int(index) - 1] if 0 < int(index) <= len(oids) else ""
        raise _Answer("refused", f"{status.prettyPrint()} {at}".strip())
    return values


def _told(
    call: Call,
    request: SnmpRequest,
    credential: Credential,
    where: str,
    answer: _Answer,
    *,
    sent: bool,
) -> Outcome:
    name = f"SNMP {request.operation} on {where}"
    match answer.kind:
        case "unreachable":
            return Outcome.unreachable("UNREACHABLE", f"{name}: {answer.said}")
        case "login":
            return Outcome.refused("AUTH_FAILED", f"{name} as {_who(credential)}: {answer.said}")
        case "refused":
            error = StepFailure("SNMP_ERROR", f"{name}: {answer.said}", "non_retryable")
            return Outcome("failed", error=error)
    message = f"{name}: no answer; is it there, and does it know {_who(credential)}?"
    # A community that is wrong is not answered at all, so a set may as well have arrived.
    if request.operation == "set" and sent:
        return Outcome.lost(call, "OUTCOME_UNKNOWN", message)
    return Outcome.unreachable("NO_ANSWER", message)


def _who(credential: Credential) -> str:
    user = credential.username
    return f"user {user}" if credential.setting("version") == "3" else "the community"


def _login(credential: Credential) -> Any:
    import pysnmp.hlapi.v3arch.asyncio as api

    if credential.setting("version") != "3":
        community = credential.setting("community", "public")
        return api.CommunityData(community, mpModel=1)  # noqa: S508 - many know nothing better
    auth = {
        "md5": api.USM_AUTH_HMAC96_MD5,
        "sha": api.USM_AUTH_HMAC96_SHA,
        "sha256": api.USM_AUTH_HMAC192_SHA256,
        "sha512": api.USM_AUTH_HMAC384_SHA512,
    }
    privacy = {
        "des": api.USM_PRIV_CBC56_DES,
        "aes": api.USM_PRIV_CFB128_AES,
        "aes256": api.USM_PRIV_CFB256_AES,
    }
    options: dict[str, Any] = {}
    if key := credential.setting("auth_password"):
        options["authKey"] = key
        options["authProtocol"] = auth[credential.setting("auth_protocol", "sha256")]
    if key := credential.setting("privacy_password"):
        options["privKey"] = key
        options["privProtocol"] = privacy[credential.setting("privacy_protocol", "aes")]
    return api.UsmUserData(credential.username, **options)  # noqa: S509 - as the entry says


def _typed(text: str) -> Any:
    """Returns a value to set from ``type:value``, with snmpset's types; raises Refused."""
    from pyasn1.error import PyAsn1Error
    from pysnmp.proto import rfc1902

    kinds = {
        "i": rfc1902.Integer32,
        "u": rfc1902.Unsigned32,
        "s": lambda value: rfc1902.OctetString(value.encode()),
        "x": lambda value: rfc1902.OctetString(bytes.fromhex(value)),
        "a": lambda value: rfc1902.IpAddress(str(ipaddress.IPv4Address(value))),
        "o": rfc1902.ObjectIdentifier,
    }
    kind, found, value = text.partition(":")
    try:
        if found and kind in kinds:
            return kinds[kind](value)
        problem = f"types are {', '.join(kinds)}"
    except (PyAsn1Error, ValueError, OSError) as error:
        problem = str(error)[:200]
    message = f"{text[:40]!r} is no type:value: {problem}"
    raise Refused(Outcome.refused("VALUE_INVALID", message))


def _shown(name: Any, value: Any) -> dict[str, Any]:
    kind = type(value).__name__
    if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
        return {"oid": str(name), "type": kind, "value": None}
    if hasattr(value, "asOctets") and kind == "OctetString":
        data = bytes(value.asOctets())
        text = data.decode("utf-8", "replace")
        plain = text.isprintable() or all(char.isprintable() or char in "\r\n\t" for char in text)
        shown = text if plain and "\ufffd" not in text else data.hex(":")
        return {"oid": str(name), "type": kind, "value": shown}
    if kind in ("ObjectIdentifier", "ObjectIdentity", "IpAddress"):
        return {"oid": str(name), "type": kind, "value": value.prettyPrint()}
    number = int(value)
    return {"oid": str(name), "type": kind, "value": number if number < 2**53 else str(number)}


def _require_sense(call: Call, request: SnmpRequest) -> None:
    if not 0 < len(request.oids) <= _MOST_OIDS:
        message = f"{len(request.oids)} OIDs; one request has 1 to {_MOST_OIDS}"
        raise Refused(Outcome.refused("REQUEST_INVALID", message))
    for oid in request.oids:
        arcs = oid.lstrip(".").split(".")
        if not _OID.fullmatch(oid) or any(int(arc) >= _MOST_ARC for arc in arcs):
            message = f"{oid[:80]!r} is no OID such as 1.3.6.1.2.1.1.1.0"
            raise Refused(Outcome.refused("REQUEST_INVALID", message))
    if request.operation == "set" and call.read_only:
        message = "this step may only read, but SNMP set changes the device"
        raise Refused(Outcome.refused("READ_ONLY", message))
    for text in request.values:
        _typed(text)
