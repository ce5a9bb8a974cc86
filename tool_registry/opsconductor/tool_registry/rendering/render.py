"""Renders a tool's command, dry run, capture or undo for one call; pure, without any shell."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from opsconductor.rpc.errors import Fault
from opsconductor.tool_registry.formats import mismatch
from opsconductor.tool_registry.rendering.rendered import ArgvCommand as ArgvCommand
from opsconductor.tool_registry.rendering.rendered import HttpRequest as HttpRequest
from opsconductor.tool_registry.rendering.rendered import InternalCall as InternalCall
from opsconductor.tool_registry.rendering.rendered import Rendered as Rendered
from opsconductor.tool_registry.rendering.rendered import ScriptCommand as ScriptCommand
from opsconductor.tool_registry.rendering.rendered import as_data as as_data
from opsconductor.tool_registry.rendering.rendered import command_line as command_line
from opsconductor.tool_registry.rendering.rendered import script_argv as script_argv
from opsconductor.tool_registry.rendering.structured import (
    is_one_placeholder,
    structured_call,
    tree,
)
from opsconductor.tool_registry.rendering.template import RenderError as RenderError
from opsconductor.tool_registry.rendering.template import Scope, arguments, as_word, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import Tool

Section = Literal["command", "dry_run", "capture", "undo"]


def render(
    tool: Tool,
    inputs: Mapping[str, Any],
    target: Mapping[str, Any] | None,
    *,
    captured: Mapping[str, Any] | None = None,
    section: Section = "command",
) -> Rendered:
    """Returns what a section of the tool becomes for typed inputs (from check_inputs) and a target.

    Raises:
        RenderError: The section does not exist, a target field is missing, or a value cannot be
            carried.
    """
    source = tool.risk_from
    is_command = source is not None and source.parser == "argv"
    free = frozenset({source.parameter}) if source and is_command else frozenset[str]()
    scope = Scope(inputs, target, captured, free_words=free)
    template = _section(tool, section)
    case = _case(template, scope)
    rendered = _rendered(template["cases"][case] if case else template, scope, tool.name)
    elevated = tool.elevate or case in tool.elevated_cases
    if section == "dry_run" and tool.dry_run is not None and tool.dry_run.unprivileged:
        return rendered
    if elevated and isinstance(rendered, ArgvCommand | ScriptCommand):
        return replace(rendered, elevated=True, capabilities=tool.requires_capabilities)
    return rendered


def _section(tool: Tool, section: Section) -> Mapping[str, Any]:
    template: Mapping[str, Any] | None
    match section:
        case "command":
            template = tool.command
        case "dry_run":
            template = tool.dry_run.command if tool.dry_run else None
        case "capture":
            template = tool.capture.command if tool.capture else None
        case "undo":
            template = tool.undo.command
    if template is None:
        raise RenderError(f"{tool.name} has no {section.replace('_', ' ')}")
    return template


def _case(template: Mapping[str, Any], scope: Scope) -> str:
    """Follows ``by``: the case named by a value, or the default when the value is absent."""
    if "by" not in template:
        return ""
    value = scope.value(template["by"])
    name: str = template["default"] if value is None else as_word(value)
    if name not in template["cases"]:
        known = ", ".join(sorted(template["cases"]))
        raise RenderError(f"{template['by']} is {name!r}; this tool knows {known}")
    return name


def _rendered(template: Mapping[str, Any], scope: Scope, name: str) -> Rendered:
    if "argv" in template:
        argv = arguments(template["argv"], scope)
        if not argv or not argv[0]:
            raise RenderError(f"{name}: the command is empty")
        return ArgvCommand(argv)
    if "script" in template:
        return _script(template["script"], scope)
    if "http" in template:
        return _http(template["http"], scope)
    if (call := structured_call(template, scope)) is not None:
        return call
    internal = template["internal"]
    args = {key: tree(value, scope) for key, value in internal.get("args", {}).items()}
    return InternalCall(
        internal["handler"], {key: value for key, value in args.items() if value is not None}
    )


def _script(template: Mapping[str, Any], scope: Scope) -> ScriptCommand:
    args = arguments(["--", *template.get("args", [])], scope)[1:]
    if "body" in template:
        return ScriptCommand(template["interpreter"], template["body"], args)
    body = as_word(scope.value(template["body_from"]))
    return ScriptCommand(as_word(scope.value(template["interpreter_from"])), body, args)


def _http(template: Mapping[str, Any], scope: Scope) -> HttpRequest:
    url = _url(template["url"], scope)
    query = {key: tree(value, scope) for key, value in template.get("query", {}).items()}
    if present := {key: as_word(value) for key, value in query.items() if value is not None}:
        url += ("&" if "?" in url else "?") + urlencode(present)
    headers = [
        (key, text)
        for key, value in template.get("headers", {}).items()
        if (text := substitute(value, scope, lambda _, found: as_word(found))) is not None
    ]
    body, kind = _body(template, scope)
    headers += [("Content-Type", kind)] if kind else []
    _refuse_line_breaks(headers)
    return HttpRequest(
        method=substitute(template["method"], scope, lambda _, value: as_word(value)) or "GET",
        url=url,
        headers=tuple(headers),
        body=body,
        follow_redirects=_flag(template.get("follow_redirects", False), scope),
        verify_tls=_flag(template.get("verify_tls", True), scope),
        max_body_bytes=template.get("max_body_bytes", 65536),
        contains=substitute(template.get("contains", ""), scope, lambda _, v: as_word(v)) or "",
        credential=_credential(template, scope),
    )


def _credential(template: Mapping[str, Any], scope: Scope) -> str:
    """Returns the login a request is made with: its own, or that of the target it goes to."""
    if "credential" in template:
        return substitute(template["credential"], scope, lambda _, v: as_word(v)) or ""
    # A target that is reached otherwise names a login for that.
    by_http = scope.value("target.connection") in (None, "", "http", "https")
    if template["url"].startswith("/") and by_http:
        return as_word(scope.value("target.credential") or "")
    return ""


def _body(template: Mapping[str, Any], scope: Scope) -> tuple[bytes | None, str]:
    """Returns a request's body and its media type; a body given as text keeps its own headers."""
    if "json" in template:
        text = json.dumps(tree(template["json"], scope), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8"), "application/json"
    if "form" in template:
        fields = {key: tree(value, scope) for key, value in template["form"].items()}
        present = {key: as_word(value) for key, value in fields.items() if value is not None}
        return urlencode(present).encode("ascii"), "application/x-www-form-urlencoded"
    text = substitute(template.get("body", ""), scope, lambda _, value: as_word(value)) or ""
    return (text.encode("utf-8") if text else None), ""


def _url(template: str, scope: Scope) -> str:
    """Returns the address: one whole-text placeholder as it is, others percent-encoded.

    One that begins with ``/`` is of the target, over TLS unless its connection is ``http``.
    """
    if template.startswith("/"):
        port = "" if scope.value("target.port") is None else ":{target.port}"
        scheme = "http" if scope.value("target.connection") == "http" else "https"
        template = f"{scheme}://{{target.address}}{port}{template}"
    whole = is_one_placeholder(template)

    def show(name: str, value: Any) -> str:
        word = as_word(value)
        if whole:
            return word
        if name == "target.address":
            return _authority(word)
        if word in ("", ".", "..") and f"{{{name}}}" in template.partition("?")[0]:
            raise RenderError(f"{name} is {word!r}, which would name another address")
        return quote(word, safe="")

    url = substitute(template, scope, show)
    if not url:
        raise RenderError("the address of the request is empty")
    return url


def _authority(address: str) -> str:
    if wrong := mismatch("host", address):
        fault = Fault(wrong.code, "target.address", wrong.found, wrong.expected)
        raise RenderError(f"the target's address is {wrong.found}", faults=[fault])
    return f"[{address}]" if ":" in address else address


def _flag(value: Any, scope: Scope) -> bool:
    return bool(tree(value, scope))


def _refuse_line_breaks(headers: list[tuple[str, str]]) -> None:
    for name, value in headers:
        if "\r" in value or "\n" in value:
            raise RenderError(f"header {name} holds a line break")
