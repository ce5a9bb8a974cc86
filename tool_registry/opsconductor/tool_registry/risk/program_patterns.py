"""Programs whose arguments decide what they do: exact forms known to read, or to change little.

A form is matched against the whole argument list, joined by spaces, and only where no argument
holds a space or anything else that could hide a second one. What matches nothing is not guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opsconductor.tool_registry.risk.dry_run_forms import DRY_RUN_FORMS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opsconductor.tool_registry.model import RiskClass

_PLAIN = re.compile(r"[\w.,:/@=+%^~!?*()\[\]{}-]+")
_WORD = r"(?!-)[\w.,:/@=+%^~!?*()\[\]{}-]+"
_NAME = r"(?!-)[\w.@:-]+"
_OPTION = r"-{1,2}[A-Za-z][\w-]*(?:=[\w.,:/@=+%^~!?*()\[\]{}-]+)?"
_ANY = rf"(?: (?:{_OPTION}|{_WORD}))*"
_UNIT = r"(?!-)[\w.@:\\-]+"
_CLI = r"(?: --(?:no-pager|no-ask-password|quiet|now|no-block))*"

_FORMS: Mapping[str, tuple[tuple[RiskClass, str], ...]] = {
    "sort": (("read_only", rf"(?: ?(?:-[nrufhVbdims]+|-k[\d.,nrfhVbdi]+|-t[,:;]|{_WORD}))*"),),
    "uniq": (("read_only", r"(?:-[cdui]+)?"),),
    "column": (("read_only", r"(?:-t)?"),),
    "find": (
        (
            "read_only",
            rf"{_WORD}(?: (?:-(?:i?name|i?path|type|size|mtime|mmin|atime|ctime|maxdepth|mindepth"
            r"|user|group|perm|newer) [-+]?[\w./*?\[\]:-]+"
            r"|-(?:empty|print0?|ls|prune|o|a|not|xdev|mount)|!))*",
        ),
    ),
    "ip": (
        (
            "read_only",
            r"(?:-(?:j|s|br|4|6|d|o) ?)*(?:addr|address|a|route|r|link|l|neigh|n|rule|maddr)"
            rf"(?: (?:show|list|ls)(?: {_WORD})*)?",
        ),
    ),
    "ping": (
        ("read_only", rf"(?:-(?:n|4|6|q) )*-c ?[1-9]\d?(?: -[WiIsw] ?[\w.]+)*(?: --)? {_WORD}"),
    ),
    "dig": (("read_only", r"(?:[@+]?[\w.:=-]+(?: |\Z))+"),),
    "host": (("read_only", rf"(?:-t \w+ )?{_NAME}(?: {_NAME})?"),),
    "nslookup": (("read_only", rf"(?:-type=\w+ )?{_NAME}(?: {_NAME})?"),),
    "traceroute": (("read_only", rf"(?:-n )?(?:-m \d+ )?{_NAME}"),),
    "lsof": (("read_only", r"(?:-[nPitUlp]+(?: [\w:.,]+)?(?: |\Z))*"),),
    "mount": (("read_only", r""),),
    "ifconfig": (("read_only", r"(?:-a)?"),),
    "vmstat": (("read_only", r"(?:\d+(?: \d+)?)?"),),
    "iostat": (("read_only", r"(?:-x)?(?: ?\d+(?: \d+)?)?"),),
    "last": (("read_only", r"(?:-n \d+)?"),),
    "env": (("modify", r""),),
    "top": (("read_only", r"-b -n ?\d+"),),
    "dpkg": (("read_only", rf"(?:-l|-s|-L|-S|--list|--status)(?: {_WORD})*"),),
    "dpkg-query": (("read_only", rf"(?:-W|-l|-s|-L)(?: {_WORD})*"),),
    "rpm": (("read_only", rf"-q[ail]*(?: {_WORD})*"),),
    "apt-cache": (("read_only", rf"(?:show|search|policy|depends)(?: {_WORD})+"),),
    "apt": (
        ("read_only", rf"(?:list|show|search|policy)(?: (?:--installed|--upgradable|{_WORD}))*"),
        ("modify", r"(?:-[yq]+ )*update"),
        ("modify", r"(?:-[yq]+ )*install(?: -[yq]+)*(?: (?!-)[\w.:+~=-]*[\w.:~])+"),
    ),
    "apt-get": (
        ("modify", r"(?:-[yq]+ )*update"),
        ("modify", r"(?:-[yq]+ )*install(?: -[yq]+)*(?: (?!-)[\w.:+~=-]*[\w.:~])+"),
    ),
    "systemctl": (
        (
            "modify",
            rf"(?:--(?:no-pager|no-ask-password|quiet) )*(?:start|restart|reload|try-restart|enable"
            rf"|reload-or-restart|reset-failed|unmask){_CLI}(?: --)?(?: {_UNIT})+",
        ),
        ("modify", r"daemon-reload"),
    ),
    "service": (
        ("read_only", rf"{_UNIT} status"),
        ("modify", rf"{_UNIT} (?:start|restart|reload)"),
    ),
    "mkdir": (
        ("modify", rf"(?:-p |--parents )?(?:-m \d+ )?(?:-- )?(?!/etc){_WORD}(?: (?!/etc){_WORD})*"),
    ),
    "touch": (("modify", rf"(?:-- )?(?!/etc){_WORD}(?: (?!/etc){_WORD})*"),),
    "logger": (("modify", rf"(?:-t {_NAME} )?{_WORD}(?: {_WORD})*"),),
    "docker": (
        (
            "read_only",
            r"(?:ps|images|logs|stats --no-stream|top|version|info|port|diff|history"
            rf"|(?:container|image|network|volume) ls|system df){_ANY}",
        ),
        ("modify", rf"inspect{_ANY}"),
        ("modify", rf"(?:start|restart|pull|pause|unpause|tag){_ANY}"),
    ),
    "kubectl": (
        (
            "read_only",
            r"(?:get|describe) (?!(?:\S*,)?(?:secret|configmap|cm\b|all\b|-))[\w,./-]+"
            rf"(?: (?:-n|-o|-l|{_OPTION}|{_WORD}))*",
        ),
        ("read_only", rf"(?:logs|top|version|api-resources|events|cluster-info|explain){_ANY}"),
        ("read_only", rf"rollout (?:status|history){_ANY}"),
        ("modify", rf"(?:get|describe){_ANY}"),
        ("modify", rf"(?:scale|cordon|uncordon|label|annotate|rollout restart|rollout undo){_ANY}"),
    ),
    "helm": (
        ("read_only", rf"(?:list|ls|status|history|version){_ANY}"),
        ("modify", rf"get{_ANY}"),
    ),
    "crontab": (("read_only", r"-l"),),
}
_COMPILED = {
    program: tuple(
        (risk, re.compile(pattern))
        for risk, pattern in (
            *(("read_only", form) for form in DRY_RUN_FORMS.get(program, ())),
            *_FORMS.get(program, ()),
        )
    )
    for program in _FORMS.keys() | DRY_RUN_FORMS.keys()
}


def has_forms(program: str) -> bool:
    """Returns whether it is known of a program what its arguments make of it."""
    return program in _COMPILED


def known_form(program: str, arguments: Sequence[str]) -> RiskClass | None:
    """Returns what a form of a program does; None when it is not one of those known."""
    if not all(_PLAIN.fullmatch(word) for word in arguments):
        return None
    line = " ".join(arguments)
    for risk, pattern in _COMPILED.get(program, ()):
        if pattern.fullmatch(line):
            return risk
    return None
