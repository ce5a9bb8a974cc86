"""Parts of a shell script that do more than they seem: text that is run, names that steer programs.

Bash runs what stands in the text of a variable wherever it counts with it: in arithmetic, indexes,
offsets, ``[[ a -eq b ]]`` and ``-v``. And ``sh`` is often not bash: what only bash knows may mean
something else there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opsconductor.tool_registry.risk.commands import Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tree_sitter import Node

_DANGEROUS = re.compile(
    r"(?:PATH|IFS|ENV|BASH_\w+|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|EDITOR|VISUAL|PAGER|LD_\w+|"
    r"PYTHON\w*|PERL\w*|RUBY\w*|NODE_\w+|GIT_\w+|HOME|CDPATH|\w*PAGER|\w*_OPTS|\w*_OPTIONS|"
    r"\w*FUNC\w*|\w*CONFIG\w*|DOCKER_\w+|HELM_\w+|KUBE\w*|APT_\w+|DPKG_\w+|RSYNC_\w+|SUDO_\w+|"
    r"GCONV_PATH|LESS\w*|OPENSSL_\w+|SHELL|POSIXLY_CORRECT)"
)
_MAY_BE_EXPORTED = re.compile(
    r"LC_\w+|LANG|LANGUAGE|TZ|DEBIAN_FRONTEND|COLUMNS|LINES|TERM|NO_COLOR|(?!\w*proxy)[a-z_][a-z0-9_]*"
)
_CONSTANT = re.compile(r"(?:[\s\d+\-*/%()<>=!&|^~?:,]|\$[#?$])*")
_INDEX = r"(?:\[(?:[@*]|\d+)\])"
_PLAIN_EXPANSION = re.compile(
    rf"\$\{{#?(?:\w+|[@*#?!$-]){_INDEX}?"
    r"(?:\}|:?[-+?=]|##?|%%?|//?|\^|,|:\s?-?\d+(?::\d+)?\})"
)
_LATER = re.compile(r"\\\$\\?\(|\\`")
_PLAIN_ANSI = re.compile(r"\$'(?:[^\\'$`]|\\[ntre\\'\"])*'")
_COMPARES = re.compile(r"-(?:eq|ne|lt|le|gt|ge)")
_NUMBER = re.compile(r"\"?(?:\d+|\$#|\$\?|\$\{#\w+\})\"?")
_DELIMITER = re.compile(r"(['\"]?)([A-Za-z_]\w*)\1")
_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution", "concatenation")


def is_dangerous(variable: str) -> bool:
    """Returns whether a variable of a shell decides which programs run, and how."""
    return _DANGEROUS.fullmatch(variable) is not None


def changes_what_runs(variable: str) -> bool:
    """Returns whether a variable given to a program may change what it does."""
    return is_dangerous(variable) or _MAY_BE_EXPORTED.fullmatch(variable) is None


def trap(node: Node, interpreter: str) -> Judgement | None:
    """Returns what a part of a script may do beyond the commands in it; None where nothing."""
    check = _CHECKS.get(node.type)
    reason = check(node, interpreter) if check else ""
    return Judgement("destructive", reason) if reason else None


def judge_test(words: Sequence[str], *, unknown: str, split: bool) -> Judgement:
    """Judges the words behind ``test`` or a ``[`` that is an ordinary command.

    Args:
        words: Without the name and the closing bracket.
        unknown: What stands for text that only the shell knows.
        split: Whether a word may become several.
    """
    operator = {2: words[0], 3: words[1]}.get(len(words), "") if words else ""
    long = len(words) > 3 and any(unknown in word for word in words)
    if split or long or unknown in operator or {"-v", "-R"} & set(words):
        return Judgement("destructive", "a test of text that may be run")
    return Judgement("read_only", "a test only compares")


def text_of(node: Node) -> str:
    """Returns the source of a part."""
    return (node.text or b"").decode("utf-8", "replace")


def _arithmetic(node: Node, _: str) -> str:
    inner = re.sub(r"\A\$(?:\(\(|\[)|(?:\)\)|\])\Z", "", text_of(node))
    return "" if _CONSTANT.fullmatch(inner) else "arithmetic can run what stands in a variable"


def _compound(node: Node, _: str) -> str:
    return "arithmetic can run what stands in a variable" if text_of(node)[:2] == "((" else ""


def _expansion(node: Node, _: str) -> str:
    text = text_of(node)
    if not _PLAIN_EXPANSION.match(text):
        return f"{text[:60]} can run what stands in a variable"
    name = re.match(r"\$\{(\w+):?=", text)
    return f"{name[1]} is set by an expansion" if name and is_dangerous(name[1]) else ""


def _subscript(node: Node, interpreter: str) -> str:
    plain = re.fullmatch(rf"\w+{_INDEX}", text_of(node))
    return "" if plain and interpreter == "bash" else "an index can run what stands in a variable"


def _test(node: Node, interpreter: str) -> str:
    double = text_of(node).startswith("[[")
    if double and interpreter != "bash":
        return "[[ is bash's; sh may read it otherwise"
    for part in _all(node):
        if part.type == "test_operator" and text_of(part) in ("-v", "-R"):
            return "a test of a name can run what stands in it"
        if double and part.type == "binary_expression" and not _compares_numbers(part):
            return "comparing as numbers can run what stands in a variable"
        inside = part.parent is not None and part.parent.type == "string"
        if not double and part.type in _EXPANSIONS and not inside:
            return "a word without quotes may become the operator of the test"
    return ""


def _compares_numbers(node: Node) -> bool:
    """Returns whether a comparison, where it is one of numbers, names plain ones."""
    operator = node.child_by_field_name("operator")
    if operator is None or not _COMPARES.fullmatch(text_of(operator)):
        return True
    sides = [child for child in node.named_children if child != operator]
    return all(_NUMBER.fullmatch(text_of(side)) for side in sides)


def _loop_variable(node: Node, _: str) -> str:
    name = node.child_by_field_name("variable")
    found = text_of(name) if name is not None else ""
    return f"{found} decides which programs run" if is_dangerous(found) else ""


def _assignment(node: Node, _: str) -> str:
    name = text_of(node).split("=", 1)[0].rstrip("+")
    if is_dangerous(name):
        return f"{name} changes which programs run, and how"
    parent = node.parent
    of_command = parent is not None and parent.type == "command"
    exported = parent is not None and text_of(parent).startswith("export")
    if (of_command or exported) and changes_what_runs(name):
        return f"{name} may change what a program does"
    return ""


def _declaration(node: Node, _: str) -> str:
    text = text_of(node)
    if not re.match(r"(?:export|readonly|local)\s", text):
        return f"{text[:60]} can change what later words mean"
    for child in node.named_children:
        if child.type not in ("variable_name", "variable_assignment"):
            return f"{text[:60]} names what only the shell knows"
        if child.type == "variable_name" and changes_what_runs(text_of(child)):
            return f"{text_of(child)} may change what a program does"
    return ""


def _heredoc(node: Node, _: str) -> str:
    parts = {child.type: text_of(child) for child in node.children}
    found = _DELIMITER.fullmatch(parts.get("heredoc_start", ""))
    strip = "\t" if text_of(node).startswith("<<-") else ""
    lines = [line.lstrip(strip) if strip else line for line in _lines(parts)]
    if found is None or parts.get("heredoc_end", "").lstrip(strip or None) != found[2]:
        return "where the here-document ends is not plain"
    return "where the here-document ends is not plain" if found[2] in lines else ""


def _lines(parts: Mapping[str, str]) -> list[str]:
    return parts.get("heredoc_body", "").split("\n")


def _raw(node: Node, _: str) -> str:
    return (
        "quoted text of the script may be run later" if re.search(r"\$\(|`", text_of(node)) else ""
    )


def _text(node: Node, _: str) -> str:
    return "quoted text of the script may be run later" if _LATER.search(text_of(node)) else ""


def _ansi(node: Node, interpreter: str) -> str:
    plain = interpreter == "bash" and _PLAIN_ANSI.fullmatch(text_of(node))
    return "" if plain else "$'…' is not read"


def _never(node: Node, _: str) -> str:
    return f"{node.type.replace('_', ' ')} can change what later words mean"


def _only_bash(node: Node, interpreter: str) -> str:
    return "" if interpreter == "bash" else f"{node.type.replace('_', ' ')} is bash's"


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all(child)


_CHECKS: Mapping[str, Callable[[Node, str], str]] = {
    "arithmetic_expansion": _arithmetic,
    "compound_statement": _compound,
    "c_style_for_statement": lambda *_: "arithmetic can run what stands in a variable",
    "expansion": _expansion,
    "subscript": _subscript,
    "test_command": _test,
    "for_statement": _loop_variable,
    "variable_assignment": _assignment,
    "declaration_command": _declaration,
    "heredoc_redirect": _heredoc,
    "raw_string": _raw,
    "string_content": _text,
    "word": _text,
    "ansi_c_string": _ansi,
    "array": _only_bash,
    "function_definition": _never,
    "unset_command": _never,
    "coproc_statement": _never,
}
