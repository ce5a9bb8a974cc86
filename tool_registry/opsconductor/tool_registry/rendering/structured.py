"""Renders the templates of databases, clouds, messages, Windows and devices for one call; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from opsconductor.tool_registry.rendering.structured_calls import (
    AwsCall,
    Message,
    PowerShellScript,
    RedisCommand,
    SnmpRequest,
    SqlStatement,
    StructuredCall,
)
from opsconductor.tool_registry.rendering.template import (
    RenderError,
    Scope,
    arguments,
    as_word,
    substitute,
)

_QUOTES = {"postgresql": '"', "sqlite": '"', "mysql": "`"}
_MAX_IDENTIFIER = 128


def structured_call(template: Mapping[str, Any], scope: Scope) -> StructuredCall | None:
    """Returns what a template renders to, None when it is of another kind; raises RenderError."""
    for kind, make in _KINDS.items():
        if kind in template:
            return make(template[kind], scope)
    return None


def tree(value: Any, scope: Scope) -> Any:
    """Fills a structure: a text that is one placeholder keeps the type, absent ones vanish."""
    if isinstance(value, Mapping):
        filled = {key: tree(item, scope) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item is not None}
    if isinstance(value, list):
        return [item for item in (tree(item, scope) for item in value) if item is not None]
    if not isinstance(value, str):
        return value
    if is_one_placeholder(value):
        return scope.value(value[1:-1])
    return substitute(value, scope, lambda _, found: as_word(found))


def is_one_placeholder(text: str) -> bool:
    """Returns whether a text is nothing but one placeholder."""
    return text.startswith("{") and text.endswith("}") and text.count("{") == 1


def _sql(template: Mapping[str, Any], scope: Scope) -> SqlStatement:
    dialect = template["dialect"]
    if "statement_from" in template:
        statement = as_word(scope.value(template["statement_from"]))
    else:
        statement = _statement(template["statement"], dialect, scope)
    if "binds_from" in template:
        binds = scope.value(template["binds_from"]) or ()
    else:
        # An absent value is NULL: leaving it out would shift the others.
        binds = [_bind(item, scope) for item in template.get("binds", [])]
    return SqlStatement(
        dialect=dialect,
        statement=statement,
        binds=tuple(binds),
        database=_text(template, "database", scope),
        read_only=template.get("read_only", False),
        row_limit=int(_given(template, "row_limit", scope, 1000)),
        most_changed=_given(template, "most_changed", scope, None),
        dry_run=bool(_given(template, "dry_run", scope, default=False)),
        autocommit=template.get("autocommit", False),
    )


def _statement(template: str, dialect: str, scope: Scope) -> str:
    """Returns a statement whose placeholders are names of tables and columns, quoted as such."""
    quote = _QUOTES[dialect]

    def show(name: str, value: Any) -> str:
        word = as_word(value)
        if not word or len(word) > _MAX_IDENTIFIER or not word.isprintable():
            raise RenderError(f"{name} is no name of a database object")
        parts = word.split(".")
        if not all(parts):
            raise RenderError(f"{name} is no name of a database object: {word!r}")
        return ".".join(quote + part.replace(quote, quote * 2) + quote for part in parts)

    statement = substitute(template, scope, show)
    if statement is None:
        raise RenderError("the statement needs a name that is not given")
    return statement


def _bind(item: Any, scope: Scope) -> Any:
    value = tree(item, scope)
    if isinstance(value, list | Mapping):
        raise RenderError(f"{item} holds a {type(value).__name__}, which is not one value")
    return value


def _redis(template: Mapping[str, Any], scope: Scope) -> RedisCommand:
    args = arguments(template["args"], scope, carries_options=False)
    if not args or not args[0]:
        raise RenderError("the Redis command is empty")
    return RedisCommand(args, int(_given(template, "database", scope, 0)))


def _powershell(template: Mapping[str, Any], scope: Scope) -> PowerShellScript:
    if "body_from" in template:
        body = as_word(scope.value(template["body_from"]))
    else:
        body = template["body"]
    if "parameters_from" in template:
        parameters = dict(scope.value(template["parameters_from"]) or {})
    else:
        parameters = tree(template.get("parameters", {}), scope)
    for name in parameters:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
            raise RenderError(f"{name!r} is no name of a PowerShell parameter")
    return PowerShellScript(body, parameters)


def _aws(template: Mapping[str, Any], scope: Scope) -> AwsCall:
    service, operation = _text(template, "service", scope), _text(template, "operation", scope)
    for word in (service, operation):
        if not re.fullmatch(r"[a-z][a-z0-9_-]{1,80}", word):
            raise RenderError(f"{word!r} is no name of an AWS service or operation")
    given = template.get("arguments", {})
    filled = scope.value(template["arguments_from"]) if "arguments_from" in template else None
    return AwsCall(
        service=service,
        operation=operation.replace("-", "_"),
        arguments={**tree(given, scope), **(filled or {})},
        region=_text(template, "region", scope),
        credential=_text(template, "credential", scope),
        dry_run=bool(_given(template, "dry_run", scope, default=False)),
        paginate=template.get("paginate", False),
    )


def _message(template: Mapping[str, Any], scope: Scope) -> Message:
    message = Message(
        channel=template["channel"],
        credential=_text(template, "credential", scope),
        to=_texts(template.get("to"), scope),
        cc=_texts(template.get("cc"), scope),
        subject=_text(template, "subject", scope),
        text=_text(template, "text", scope),
        data=tree(template["data"], scope) if "data" in template else None,
    )
    for name, lines in (("to", message.to), ("cc", message.cc), ("subject", (message.subject,))):
        # Every header of a mail is one line; a second one would be a header of the caller's own.
        if any(set("\r\n\0\x0b\x0c\x85\u2028\u2029") & set(line) for line in lines):
            raise RenderError(f"{name} holds a line break, which would begin another header")
    return message


def _snmp(template: Mapping[str, Any], scope: Scope) -> SnmpRequest:
    oids = _texts(template["oids"], scope)
    if not oids:
        raise RenderError("the request names no OID")
    values = _texts(template.get("values"), scope)
    if template["operation"] == "set" and len(values) != len(oids):
        raise RenderError(f"{len(oids)} OIDs are to be set to {len(values)} values")
    rows = int(_given(template, "max_rows", scope, 1000))
    return SnmpRequest(template["operation"], oids, values, rows)


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Scope], StructuredCall]] = {
    "sql": _sql,
    "redis": _redis,
    "powershell": _powershell,
    "aws": _aws,
    "message": _message,
    "snmp": _snmp,
}


def _text(template: Mapping[str, Any], name: str, scope: Scope) -> str:
    return substitute(template.get(name, ""), scope, lambda _, value: as_word(value)) or ""


def _texts(template: Any, scope: Scope) -> tuple[str, ...]:
    """Returns a list of texts; one placeholder may hold the whole list."""
    values = tree(template, scope)
    if values is None:
        return ()
    flat: list[str] = []
    for value in values if isinstance(values, list | tuple) else [values]:
        flat += [as_word(item) for item in (value if isinstance(value, list) else [value])]
    return tuple(flat)


def _given(template: Mapping[str, Any], name: str, scope: Scope, default: Any) -> Any:
    value = tree(template.get(name), scope)
    return default if value is None else value
