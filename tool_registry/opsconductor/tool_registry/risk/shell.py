"""Judges a shell script by parsing it; what cannot be read without running it counts as worst.

The grammar is tree-sitter's for bash, of which POSIX shell is a part. A script is as risky as its
riskiest command. Words count as the text the shell would make of them (quotes and backslashes taken
off), so that hiding a name hides nothing; what only the shell knows (variables, globs) is unknown.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.risk.commands import Judgement, judge_written_path
from opsconductor.tool_registry.risk.shell_traps import judge_test, trap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tree_sitter import Node

UNKNOWN = "${{ known only to the shell }}"
"""Stands for a word, or a part of one, that only a running shell knows."""
MAX_SCRIPT = 65_536
_ORDER = {"read_only": 0, "modify": 1, "destructive": 2}
_PARSERS: list[Any] = []

_TRANSPARENT = frozenset(
    [
        "program",
        "list",
        "pipeline",
        "subshell",
        "compound_statement",
        "if_statement",
        "elif_clause",
        "else_clause",
        "while_statement",
        "do_group",
        "case_statement",
        "case_item",
        "negated_command",
        "redirected_statement",
        "command_substitution",
        "process_substitution",
        "for_statement",
        "string",
        "concatenation",
    ]
)
"""Nodes that do nothing but hold others."""
_HARMLESS = frozenset(
    [
        "comment",
        "heredoc_body",
        "heredoc_start",
        "heredoc_end",
        "word",
        "raw_string",
        "number",
        "string_content",
        "simple_expansion",
        "expansion",
        "variable_name",
        "special_variable_name",
        "arithmetic_expansion",
        "command_name",
        "test_operator",
        "regex",
        "extglob_pattern",
        "file_descriptor",
        "array",
    ]
)
_BUILTINS_THAT_ONLY_STEER = frozenset(["shift", "break", "continue", "exit", "return", ":"])
_SET_OPTIONS = re.compile(r"[-+][eux]+|[-+]?(?:[eux]*o) (?:errexit|nounset|xtrace|pipefail)")
_PLACES = re.compile(
    r"/(?:srv|opt|tmp|data|mnt|media|var/(?:log|tmp|lib|www)|home/[^/]+/[^/.][^/]*)(?:/[^/]+)*"
)
"""Where relative names mean files of no special kind."""


def judge_script(interpreter: str, body: Any, judge: Callable[[list[str]], Judgement]) -> Judgement:
    """Returns the risk of a script for ``sh`` or ``bash``; any other interpreter is not read.

    ``judge`` says what one command may do, given its words.
    """
    if interpreter not in ("sh", "bash"):
        return Judgement("destructive", f"{interpreter} can do anything; its text is not read")
    if not isinstance(body, str) or "${{" in body:
        return Judgement("destructive", "the script is not known yet")
    if problem := _unreadable(body):
        return Judgement("destructive", problem)
    try:
        return _worst(body, _Reader(judge, interpreter))
    except RecursionError:
        return Judgement("destructive", "the script is nested too deeply to be read")


def _unreadable(body: str) -> str:
    """Returns why a script is not even parsed; empty where it is."""
    if len(body) > MAX_SCRIPT:
        return "the script is too long to be read"
    if any(ord(character) < 32 and character not in "\t\n" for character in body):
        return "the script holds control characters"
    if any("\ud800" <= character <= "\udfff" for character in body):
        return "the script is no text"
    # An unquoted here-document expands commands, which the grammar keeps as plain text.
    if re.search(r"<<-?\s*[^\s'\"\\<]", body) and re.search(r"\$[({\[]|`", body):
        return "a here-document of the script may run commands"
    return ""


def _worst(body: str, reader: _Reader) -> Judgement:
    root = _parser().parse(body.encode()).root_node
    if root.has_error:
        return Judgement("destructive", "the script cannot be parsed")
    worst = Judgement("read_only", "the script only reads")
    for found in reader.judged(root):
        if _ORDER[found.risk_class] > _ORDER[worst.risk_class]:
            worst = found
    if reader.strayed and worst.risk_class == "read_only":
        return Judgement("modify", f"{reader.strayed}, so which files are read is not known")
    if reader.strayed:
        return Judgement("destructive", f"{worst.reason}, after {reader.strayed}")
    return worst


def _parser() -> Any:
    """Loads the grammar at the first script."""
    if not _PARSERS:
        import tree_sitter
        import tree_sitter_bash

        _PARSERS.append(tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language())))
    return _PARSERS[0]


_READ_ELSEWHERE = frozenset(
    [
        "command",
        "file_redirect",
        "variable_assignment",
        "variable_assignments",
        "declaration_command",
        "heredoc_redirect",
        "herestring_redirect",
        "test_command",
        "unary_expression",
        "binary_expression",
        "parenthesized_expression",
        "postfix_expression",
        "subscript",
        "c_style_for_statement",
        "translated_string",
        "ansi_c_string",
        "brace_expression",
    ]
)


class _Reader:
    """Walks through the parts of one script."""

    def __init__(self, judge: Callable[[list[str]], Judgement], interpreter: str) -> None:
        self._judge = judge
        self._interpreter = interpreter
        self.strayed = ""
        """A change of folder after which relative names may mean anything; empty without one."""

    def judged(self, node: Node) -> Iterator[Judgement]:
        """Yields what each part of a script may do."""
        kind = node.type
        if (found := trap(node, self._interpreter)) is not None:
            yield found
        elif kind == "command":
            yield self._command(node)
        elif kind == "file_redirect":
            yield self._redirect(node)
        elif kind == "declaration_command" and not node.named_children:
            yield Judgement("modify", "shows every variable, secrets included")
        elif kind == "expansion" and any(child.type == "=" for child in node.children):
            yield Judgement("modify", "an expansion assigns a variable")
        elif kind not in _TRANSPARENT | _HARMLESS | _READ_ELSEWHERE and node.is_named:
            yield Judgement("destructive", f"{kind.replace('_', ' ')} is not read")
        for child in node.children:
            yield from self.judged(child)

    def _command(self, node: Node) -> Judgement:
        words = [_word(child) for child in node.named_children if _is_argument(child)]
        name = next((child for child in node.named_children if child.type == "command_name"), None)
        if name is None or not words:
            return Judgement("read_only", "a redirection or an assignment alone")
        program = words[0]
        if UNKNOWN in program:
            text = (node.text or b"").decode("utf-8", "replace")
            return Judgement("destructive", f"which program runs is not known: {text[:80]}")
        if program in _BUILTINS_THAT_ONLY_STEER:
            return Judgement("read_only", f"{program} steers the script itself")
        return self._builtin(node, program, words[1:]) or self._judge(words)

    def _builtin(self, node: Node, program: str, words: list[str]) -> Judgement | None:
        """Judges what the shell itself carries out; None for programs."""
        match program:
            case "[" | "test":
                operands = words[:-1] if program == "[" else words
                split = any(
                    child.type in ("simple_expansion", "expansion", "command_substitution")
                    for child in node.named_children
                )
                return judge_test(operands, unknown=UNKNOWN, split=split)
            case "set":
                return _judge_set(words)
            case "cd":
                if not (words and all(_PLACES.fullmatch(posixpath.normpath(w)) for w in words)):
                    self.strayed = f"cd {' '.join(words)[:60]}"
                return Judgement("read_only", "cd steers the script itself")
            case "read":
                names = words[1:] if words[:1] == ["-r"] else words
                plain = all(re.fullmatch(r"[a-z_]\w*", name) for name in names)
                return Judgement("read_only" if plain else "destructive", "read sets variables")
            case "wait":
                plain = all(re.fullmatch(r"\d+|%\d+", word) for word in words)
                return Judgement("read_only" if plain else "destructive", "wait can set a variable")
            case _:
                return None

    def _redirect(self, node: Node) -> Judgement:
        text = (node.text or b"").decode("utf-8", "replace")
        target = next((_word(child) for child in reversed(node.named_children)), "")
        operator = re.sub(r"^\d*", "", text).strip()
        if operator.startswith((">&", "<&")) and re.fullmatch(r"\d+|-", target):
            return Judgement("read_only", "a stream is joined to another")
        if target in ("/dev/null", "/dev/stderr", "/dev/stdout"):
            return Judgement("read_only", "what is written there is dropped or shown")
        if operator.startswith("<") and not operator.startswith("<>"):
            return self._judge(["cat", target])
        if UNKNOWN in target:
            return Judgement("destructive", f"which file is written is not known: {text[:80]}")
        return judge_written_path(target, appended=operator.startswith(">>"))


def _is_argument(node: Node) -> bool:
    return node.type not in (
        *("file_redirect", "heredoc_redirect", "herestring_redirect"),
        *("variable_assignment", "comment"),
    )


def _word(node: Node) -> str:
    """Returns a word as the shell would see it, UNKNOWN in place of what only it knows."""
    text = (node.text or b"").decode("utf-8", "replace")
    match node.type:
        case "command_name" | "concatenation":
            return "".join(_word(child) for child in node.children) if node.children else text
        case "word" | "number":
            return _unescaped(text)
        case "raw_string":
            return text[1:-1]
        case "string":
            return _quoted(node)
        case "string_content":
            return re.sub(r"\\([$`\"\\\n])", r"\1", text)
        case _:
            return UNKNOWN


def _quoted(node: Node) -> str:
    """Returns what stands between double quotes; spaces between parts are no nodes of their own."""
    inner = [child for child in node.children if child.type != '"']
    if not inner:
        return (node.text or b"")[1:-1].decode("utf-8", "replace")
    return "".join(_word(child) for child in inner)


def _unescaped(text: str) -> str:
    if re.search(r"(?<!\\)[*?\[{]", text) or text.startswith("~"):
        return UNKNOWN if not re.fullmatch(r"\[|\]|\[\[|\]\]", text) else text
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _judge_set(words: list[str]) -> Judgement:
    """Judges ``set``: its plain switches and ``set -- WORDS`` steer, alone it shows everything."""
    if not words:
        return Judgement("modify", "shows every variable, secrets included")
    switches = words[: words.index("--")] if "--" in words else words
    rest = " ".join(switches)
    if not rest or re.fullmatch(
        rf"(?:{_SET_OPTIONS.pattern})(?: (?:{_SET_OPTIONS.pattern}))*", rest
    ):
        return Judgement("read_only", "set steers the script itself")
    return Judgement("destructive", f"set {rest[:60]} can change what later words mean")
