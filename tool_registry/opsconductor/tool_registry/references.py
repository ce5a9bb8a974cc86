"""References in text: ``${{ steps.a.output.path }}``.

A reference is a path, never code. It is replaced once and the result is not read again: a value
that looks like a reference stays text. ``$${{`` and ``${{ '${{' }}`` write a literal ``${{``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

MAX_TEXT = 1_048_576
"""Longest text an interpolation may make."""
_MARK = re.compile(r"\$\$\{\{|\$\{\{")
_REFERENCE = re.compile(
    r"\s*([A-Za-z_]\w*)((?:\.[A-Za-z_][\w-]*|\[[0-9]{1,9}\]|\[\"[^\"\]]*\"\]|\['[^'\]]*'\])*)\s*\}\}"
)
_QUOTED = re.compile(r"\s*'([^']*)'\s*\}\}")
_SEGMENT = re.compile(r"\.([A-Za-z_][\w-]*)|\[([0-9]{1,9})\]|\[\"([^\"\]]*)\"\]|\['([^'\]]*)'\]")

Path = tuple[str | int, ...]
Reference = tuple[str, Path]
"""A root name and the path below it: ``("steps", ("a", "output", "path"))``."""


class ExpressionError(ValueError):
    """The expression cannot be read, or a name in it does not exist; the message says which."""


def references(value: object) -> set[Reference]:
    """Returns every reference in a value's texts; raises ExpressionError on a malformed one."""
    return {
        piece for text in _texts(value) for piece in _pieces(text) if not isinstance(piece, str)
    }


def interpolate(value: Any, scope: Mapping[str, Any], *, keep: Collection[str] = ()) -> Any:
    """Replaces the references in a value's texts; a text that is one reference keeps its type.

    References whose root is in ``keep`` stay as written, for a later call. Everything else in such
    a value that looks like one is then escaped, so that the later call cannot mistake it.

    Raises:
        ExpressionError: A name does not exist, or the text grew beyond a mebibyte.
    """
    kept = bool(keep) and any(root in keep for root, _ in references(value))
    return _interpolate(value, scope, frozenset(keep), escape=kept)


def look_up(reference: Reference, scope: Mapping[str, Any]) -> Any:
    """Returns what a reference names in a scope; raises ExpressionError naming the missing part."""
    root, path = reference
    if root not in scope:
        raise ExpressionError(f"there is no {root!r} here, known are {', '.join(sorted(scope))}")
    value: Any = scope[root]
    walked = root
    for part in path:
        value = _member(value, part, walked)
        walked += _segment_text(part)
    return value


def _member(value: Any, part: str | int, walked: str) -> Any:
    if isinstance(part, int):
        if isinstance(value, list | tuple) and part < len(value):
            return value[part]
    elif isinstance(value, Mapping) and part in value:
        return value[part]
    raise ExpressionError(f"{walked} has no {_segment_text(part).lstrip('.')}")


def output_paths(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Returns the inputs that are a value of a step's output, each as ``${{ output.path }}``.

    Raises:
        ExpressionError: An input holds more than one such path, or anything beside it.
    """
    found = {}
    for name, value in inputs.items():
        reached = sorted(references(value), key=str)
        if not any(root == "output" for root, _ in reached):
            continue
        path = f"${{{{ {reference_text(reached[0])} }}}}"
        alone = isinstance(value, str) and len(reached) == 1 and bool(reached[0][1])
        if not alone or interpolate(value, {}, keep=("output",)) != path:
            raise ExpressionError(f"{name} has to be one path into the output, nothing beside it")
        found[name] = path
    return found


def reference_text(reference: Reference) -> str:
    """Returns a reference as it is written."""
    root, path = reference
    return root + "".join(_segment_text(part) for part in path)


def shown(text: str) -> str:
    """Returns text short enough for a message."""
    return text if len(text) <= 120 else text[:119] + "…"


def parse_path(segments: str) -> Path:
    """Returns the path that ``.name``, ``[0]`` and ``["name"]`` segments spell."""
    return tuple(
        int(index) if index else (name or double or single)
        for name, index, double, single in _SEGMENT.findall(segments)
    )


def _interpolate(
    value: Any, scope: Mapping[str, Any], keep: frozenset[str], *, escape: bool
) -> Any:
    if isinstance(value, str):
        return _interpolate_text(value, scope, keep, escape=escape)
    if isinstance(value, Mapping):
        return {key: _interpolate(item, scope, keep, escape=escape) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_interpolate(item, scope, keep, escape=escape) for item in value]
    return value


def _interpolate_text(
    text: str, scope: Mapping[str, Any], keep: frozenset[str], *, escape: bool
) -> Any:
    pieces = list(_pieces(text))
    if len(pieces) == 1 and not isinstance(pieces[0], str) and pieces[0][0] not in keep:
        found = look_up(pieces[0], scope)
        return _escape_all(found) if escape else found
    parts: list[str] = []
    run = ""
    for piece in pieces:
        if isinstance(piece, str):
            run += piece
        elif piece[0] not in keep:
            run += _as_text(look_up(piece, scope), reference_text(piece))
        else:
            parts += [_escape_before_reference(run), "${{ " + reference_text(piece) + " }}"]
            run = ""
    parts.append(_escape(run) if escape else run)
    result = "".join(parts)
    if len(result) > MAX_TEXT:
        raise ExpressionError(f"the text grew beyond {MAX_TEXT} characters")
    return result


def _pieces(text: str) -> Iterator[str | Reference]:
    position = 0
    while mark := _MARK.search(text, position):
        if mark.start() > position:
            yield text[position : mark.start()]
        if mark[0] == "$${{":
            yield "${{"
            position = mark.end()
            continue
        if literal := _QUOTED.match(text, mark.end()):
            yield literal[1]
            position = literal.end()
            continue
        found = _REFERENCE.match(text, mark.end())
        if not found:
            raise ExpressionError(
                f"{shown(text[mark.start() :])}: inside ${{{{ }}}} stands a path such as "
                "steps.a.output.name or inputs.name; write $${{ for the characters themselves"
            )
        yield found[1], parse_path(found[2])
        position = found.end()
    if position < len(text):
        yield text[position:]


def _segment_text(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if re.fullmatch(r"[A-Za-z_][\w-]*", part) else f'["{part}"]'


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise ExpressionError(f"{name} is null and cannot stand inside a text")
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _escape(text: str) -> str:
    return text.replace("${{", "$${{")


def _escape_before_reference(text: str) -> str:
    """Escapes text that a reference follows: dollars at its end would escape the reference."""
    bare = text.rstrip("$")
    dollars = text[len(bare) :]
    return _escape(bare) + (f"${{{{ '{dollars}' }}}}" if dollars else "")


def _escape_all(value: Any) -> Any:
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, Mapping):
        return {key: _escape_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escape_all(item) for item in value]
    return value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
