"""What templates of databases, clouds, messages, Windows and devices render to: values stay values.

None of these is a line of text with values in it. A statement or script is what the tool's author
wrote; what callers give travels beside it.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Dialect = Literal["postgresql", "mysql", "sqlite"]
Channel = Literal["smtp", "slack", "teams", "webhook"]
SnmpOperation = Literal["get", "walk", "set"]


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """One SQL statement; its values are bound by the server or the driver's binary protocol."""

    dialect: Dialect
    statement: str
    """Holds ``?`` for each value; ``??`` is a question mark (PostgreSQL's operators)."""
    binds: tuple[Any, ...] = ()
    database: str = ""
    """Name of the database; for SQLite the path of its file."""
    read_only: bool = True
    row_limit: int = 1000
    most_changed: int | None = None
    """With more changed rows than this the statement is rolled back."""
    dry_run: bool = False
    """Whether the statement is carried out and then rolled back."""
    autocommit: bool = False
    """Whether it runs outside a transaction, as VACUUM and CREATE DATABASE must."""


@dataclass(frozen=True, slots=True)
class RedisCommand:
    """One Redis command; its protocol carries each argument with its length."""

    args: tuple[str, ...]
    database: int = 0


@dataclass(frozen=True, slots=True)
class PowerShellScript:
    """A script of the tool's author and its named parameters, sent as base64 JSON beside it."""

    body: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AwsCall:
    """One operation of an AWS service."""

    service: str
    operation: str
    """As boto3 names it: ``stop_instances``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    region: str = ""
    credential: str = ""
    """Reference on the agent; empty means its default for AWS."""
    dry_run: bool = False
    """Whether the service is asked with DryRun what would happen."""
    paginate: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message to people or to another system."""

    channel: Channel
    credential: str = ""
    """Reference on the agent to where and as whom it is sent; empty means the channel's name."""
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str = ""
    text: str = ""
    data: Any = None
    """JSON a webhook gets instead of the text."""


@dataclass(frozen=True, slots=True)
class SnmpRequest:
    """Values read from a device, or set on it."""

    operation: SnmpOperation
    oids: tuple[str, ...]
    values: tuple[str, ...] = ()
    """For set: what each OID gets, as ``type:value`` (i, u, s, x, a, o)."""
    max_rows: int = 1000


StructuredCall = SqlStatement | RedisCommand | PowerShellScript | AwsCall | Message | SnmpRequest


def structured_line(call: StructuredCall) -> str:
    """Returns the call as people read it; a command of the usual client where there is one."""
    match call:
        case SqlStatement():
            return _sql_line(call)
        case RedisCommand(args, database):
            return shlex.join(["redis-cli", *(["-n", str(database)] if database else []), *args])
        case PowerShellScript(body, parameters):
            shown = " ".join(f"-{name} {_json(value)}" for name, value in parameters.items())
            return f"powershell {shown} {{\n{body.rstrip()}\n}}" if shown else body
        case AwsCall():
            return _aws_line(call)
        case Message():
            return _message_line(call)
        case SnmpRequest(operation, oids, values):
            words = [*oids, *values] if operation == "set" else oids
            return shlex.join([f"snmp{operation}", *words])


def structured_data(call: StructuredCall) -> dict[str, Any]:
    """Returns the call as ``examples[].renders`` has it; what is not given is left out."""
    match call:
        case SqlStatement():
            kind, always = "sql", {"dialect", "statement", "read_only"}
        case RedisCommand():
            kind, always = "redis", {"args"}
        case PowerShellScript(_, parameters):
            return {"powershell": dict(parameters)}
        case AwsCall():
            kind, always = "aws", {"service", "operation", "arguments"}
        case Message():
            kind, always = "message", {"channel"}
        case SnmpRequest():
            kind, always = "snmp", {"operation", "oids"}
    return {kind: _plain(call, always)}


def _plain(call: StructuredCall, always: set[str]) -> dict[str, Any]:
    blank = type(call).__dataclass_fields__
    data = {}
    for name, spec in blank.items():
        value = getattr(call, name)
        if name in always or value not in (spec.default, (), {}, None):
            data[name] = list(value) if isinstance(value, tuple) else value
    return data


def _sql_line(call: SqlStatement) -> str:
    where = f" in {call.database}" if call.database else ""
    ending = " (rolled back)" if call.dry_run else ""
    values = f" with {_json(list(call.binds))}" if call.binds else ""
    return f"{call.statement.strip()}{values} -- {call.dialect}{where}{ending}"


def _aws_line(call: AwsCall) -> str:
    region = ["--region", call.region] if call.region else []
    given = {**call.arguments, **({"DryRun": True} if call.dry_run else {})}
    words = ["aws", call.service, call.operation.replace("_", "-"), *region]
    return shlex.join([*words, "--cli-input-json", _json(given)] if given else words)


def _message_line(call: Message) -> str:
    to = f" to {', '.join((*call.to, *call.cc))}" if call.to or call.cc else ""
    via = f" through {call.credential}" if call.credential else ""
    subject = f" {_json(call.subject)}" if call.subject else ""
    content = call.text if call.data is None else _json(call.data)
    return f"send {call.channel} message{to}{via}{subject}: {content}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
