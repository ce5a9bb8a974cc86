"""Judges a free command through what wraps it: sudo, timeout, env, a shell with its script."""

from __future__ import annotations

import re
from typing import Any

from opsconductor.tool_registry.risk.commands import Judgement, judge_argv, program_name
from opsconductor.tool_registry.risk.shell import judge_script
from opsconductor.tool_registry.risk.shell_traps import changes_what_runs

_SHELLS = frozenset({"sh", "bash", "dash"})
_MOST_WRAPPERS = 4


def judge_command(argv: Any, depth: int = 0) -> Judgement:
    """Returns the risk of an argument list; that of the inner command where it is a plain wrapper.

    A shell is judged by its script when that stands in the arguments; one that reads its script
    from anywhere else can do anything.
    """
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        return judge_argv(argv)
    inner = _inner(argv) if depth < _MOST_WRAPPERS else None
    if inner is None:
        return judge_argv(argv)
    if isinstance(inner, str):
        return judge_shell(_interpreter(argv[0]), inner, depth + 1)
    judged = judge_command(inner, depth + 1)
    if program_name(argv[0]) in ("sudo", "runuser") and judged.risk_class == "read_only":
        return Judgement("read_only", f"{judged.reason}, as root")
    return judged


def judge_shell(interpreter: str, body: Any, depth: int = 0) -> Judgement:
    """Returns the risk of a script, with what wraps its commands looked through as well."""
    return judge_script(interpreter, body, lambda argv: judge_command(argv, depth))


def _inner(argv: list[str]) -> list[str] | str | None:
    """Returns the command or script inside a wrapper; None when it is none, or not a plain one."""
    if not argv:
        return None
    name, words = program_name(argv[0]), argv[1:]
    if name in _SHELLS:
        return _script(words)
    match name:
        case "sudo":
            return _after(words, flags={"-n", "-H", "--non-interactive"})
        case "nohup":
            return _after(words, flags=set())
        case "nice":
            return _after(words, flags=set(), joined=r"-n?\d+|--adjustment=-?\d+", pairs={"-n"})
        case "timeout":
            rest = _after(
                words,
                flags={"--preserve-status", "--foreground"},
                joined=r"--(?:signal|kill-after)=\w+",
                pairs={"-s", "-k"},
            )
            return rest[1:] if rest and re.fullmatch(r"[\d.]+[smhd]?", rest[0]) else None
        case "env":
            return _after_variables(words)
        case _:
            return None


def _interpreter(word: str) -> str:
    """Returns how the grammar reads a shell: bash's own syntax counts in bash only."""
    return "bash" if program_name(word) == "bash" else "sh"


def _script(words: list[str]) -> str | None:
    """Returns the text after -c, where only harmless options stand before it."""
    for position, word in enumerate(words):
        if re.fullmatch(r"-[eux]*c[eux]*", word):
            return words[position + 1] if len(words) > position + 1 else None
        if not re.fullmatch(r"-[eux]+", word):
            return None
    return None


def _after(
    words: list[str],
    *,
    flags: set[str],
    joined: str = r"(?!)",
    pairs: frozenset[str] | set[str] = frozenset(),
) -> list[str] | None:
    """Returns what follows the wrapper's own options; None at one that is not known."""
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            return words[position + 1 :] or None
        if word in pairs:
            position += 2
        elif word in flags or re.fullmatch(joined, word):
            position += 1
        elif word.startswith("-"):
            return None
        else:
            return words[position:]
    return None


def _after_variables(words: list[str]) -> list[str] | None:
    for position, word in enumerate(words):
        name, found, _ = word.partition("=")
        if not found or word.startswith("-"):
            return None if word.startswith("-") else words[position:]
        if changes_what_runs(name):
            return None
    return None
