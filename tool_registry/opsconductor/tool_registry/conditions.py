"""Conditions in CEL (https://cel.dev), compiled once and limited in length and nesting."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.cel_extension import load_cel
from opsconductor.tool_registry.references import ExpressionError, Reference, parse_path, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import cel

MAX_EXPRESSION = 4096
"""Longest condition in characters; CEL itself sets no limits."""
_MAX_NESTED_MACROS = 2
_MACRO = re.compile(r"\.(?:all|exists|exists_one|map|filter)\s*\($")
_LITERAL = re.compile(
    r"[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')",
    re.DOTALL,
)
_CEL_PATH = re.compile(
    r"(?<![\w.\]\)])([A-Za-z_]\w*)"
    r"((?:\.[A-Za-z_]\w*+(?!\s*\()|\[\s*(?:\d{1,9}|\"[^\"\]]*\"|'[^'\]]*')\s*\])+)"
)


def check_expression(text: str, *, roots: Collection[str] | None = None) -> str | None:
    """Returns what is wrong with a condition, None when it can be evaluated.

    With ``roots``, names outside them are wrong too.
    """
    try:
        program = _compiled(text)
    except ExpressionError as exc:
        return str(exc)
    if roots is None:
        return None
    unknown = sorted(set(program.variables()) - set(roots) - _bound_names(text))
    if not unknown:
        return None
    known = ", ".join(sorted(roots))
    hint = "; a step id with - in it is written steps['my-step']" if "-" in text else ""
    return f"unknown name {unknown[0]!r}, known are {known}{hint}"


def expression_references(text: str) -> set[Reference]:
    """Returns the paths a condition reads, as far as they are written; raises ExpressionError."""
    names = set(_compiled(text).variables()) - _bound_names(text)
    found: set[Reference] = set()
    masked = _mask_literals(text)
    for match in _CEL_PATH.finditer(masked):
        if match[1] in names:
            segments = text[match.start(2) : match.end(2)]
            found.add(
                (match[1], parse_path(re.sub(r"\[\s*|\s*\]", lambda m: m[0].strip(), segments)))
            )
    named = {root for root, _ in found}
    return found | {(name, ()) for name in names if name not in named}


def evaluate(text: str, scope: Mapping[str, Any]) -> Any:
    """Returns the value of a condition over a scope; raises ExpressionError."""
    program = _compiled(text)
    try:
        return program.execute(dict(scope))
    except KeyError as exc:
        raise ExpressionError(f"{shown(text)}: there is no key {exc}") from exc
    except Exception as exc:  # the binding raises many types; all mean one thing
        raise ExpressionError(f"{shown(text)}: {_first_line(exc)}") from exc


def evaluate_bool(text: str, scope: Mapping[str, Any]) -> bool:
    """Returns whether a condition holds; raises ExpressionError when it is not a yes or no."""
    result = evaluate(text, scope)
    if not isinstance(result, bool):
        raise ExpressionError(
            f"{shown(text)}: gave {type(result).__name__}, expected true or false"
        )
    return result


@lru_cache(maxsize=512)
def _compiled(text: str) -> cel.Program:
    if not text.strip():
        raise ExpressionError("the expression is empty")
    if len(text) > MAX_EXPRESSION:
        raise ExpressionError(f"the expression is longer than {MAX_EXPRESSION} characters")
    if "${{" in text:
        raise ExpressionError(f"{shown(text)}: a condition names values without ${{{{ }}}}")
    if _macro_depth(_mask_literals(text)) > _MAX_NESTED_MACROS:
        raise ExpressionError(
            f"{shown(text)}: more than {_MAX_NESTED_MACROS} nested all/exists/map/filter"
        )
    try:
        program: cel.Program = load_cel().compile(text)
    except Exception as exc:  # the binding raises many types; all mean one thing
        raise ExpressionError(f"{shown(text)}: {_syntax_message(exc)}") from exc
    return program


def _macro_depth(text: str) -> int:
    """Counts nesting of the macros that loop, because their cost multiplies."""
    depth = deepest = 0
    opened: list[bool] = []
    for position, character in enumerate(text):
        if character == "(":
            loops = _MACRO.search(text, max(0, position - 64), position + 1) is not None
            opened.append(loops)
            depth += loops
            deepest = max(deepest, depth)
        elif character == ")" and opened:
            depth -= opened.pop()
    return deepest


def _bound_names(text: str) -> set[str]:
    """Returns the loop variables of macros, which the binding counts as free names."""
    return set(
        re.findall(
            r"\.(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,",
            _mask_literals(text),
        )
    )


def _mask_literals(text: str) -> str:
    """Blanks out string literals, except as an index, keeping every position."""

    def blank(match: re.Match[str]) -> str:
        before = text[: match.start()].rstrip()
        after = text[match.end() :].lstrip()
        is_index = (
            before.endswith("[") and after.startswith("]") and not re.search(r"[\[\]]", match[0])
        )
        return match[0] if is_index else '"' + " " * (len(match[0]) - 2) + '"'

    return _LITERAL.sub(blank, text)


def _syntax_message(exc: BaseException) -> str:
    found = re.search(r"<input>:\d+:(\d+): (?:Syntax error: )?([^\n]*)", str(exc))
    if not found:
        return _first_line(exc)
    problem = re.sub(r"expecting \{.*", "", found[2]).strip().rstrip(",")
    return f"syntax error at column {found[1]}: {problem}"


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0][:300]
