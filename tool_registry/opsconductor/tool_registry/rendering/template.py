"""Argument templates: ``{name}`` in words, optional groups, choices and repetition; one pass.

Authors write syntax, callers supply data: values are inserted by a callback over the template and
never read again; one placeholder is at most one argument, except in ``each`` and ``words``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opsconductor.rpc.errors import Fault, InvalidArgument
from opsconductor.tool_registry.text_safety import escaped, harmful_character

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\}")
"""A doubled brace, or ``{name}`` / ``{target.name}`` / ``{captured.name}``."""


class RenderError(InvalidArgument):
    """The command cannot be made from these inputs."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The values a template may name."""

    inputs: Mapping[str, Any]
    target: Mapping[str, Any] | None = None
    captured: Mapping[str, Any] | None = None
    item: Any = None
    free_words: frozenset[str] = field(default_factory=frozenset)
    """Inputs whose words may begin with a dash because they are a whole command line."""

    def value(self, name: str) -> Any:
        """Returns a value, None when it is absent or empty; raises RenderError.

        Late inputs, captured values and target fields were never checked, so what no program can
        take is refused here again.
        """
        value = self._found(name)
        _refuse_harm(name, value)
        return value

    def _found(self, name: str) -> Any:
        root, _, key = name.partition(".")
        if name == "item":
            return self.item
        if not key:
            return self.inputs.get(root)
        found = {"target": self.target, "captured": self.captured}.get(root)
        value = (found or {}).get(key)
        return None if root == "target" and value == "" else value


def holds(condition: Mapping[str, Any], scope: Scope) -> bool:
    """Returns whether a condition holds; an absent value only satisfies ``present: false``."""
    value = scope.value(condition["param"])
    if "present" in condition and condition["present"] != (value is not None):
        return False
    tests: dict[str, Callable[[Any], bool]] = {
        "equals": lambda wanted: bool(value == wanted and type(value) is type(wanted)),
        "in": lambda wanted: value in wanted,
        "matches": lambda wanted: re.search(wanted, as_word(value)) is not None,
    }
    wanted = [(test, condition[name]) for name, test in tests.items() if name in condition]
    return not wanted or (value is not None and all(test(want) for test, want in wanted))


def arguments(items: list[Any], scope: Scope, *, carries_options: bool = True) -> tuple[str, ...]:
    """Returns the arguments a template renders to; raises RenderError.

    ``carries_options`` says that the receiver reads words that begin with a dash as options.
    """
    result: list[str] = []
    for item in items:
        words = _item(item, scope)
        options_ended = "--" in result
        if isinstance(item, str) and carries_options and not options_ended:
            for word in words:
                _refuse_option(item, word, scope)
        result.extend(words)
    return tuple(result)


def substitute(template: str, scope: Scope, show: Callable[[str, Any], str]) -> str | None:
    """Replaces placeholders once; None when an optional one is absent."""
    absent = False

    def insert(match: re.Match[str]) -> str:
        nonlocal absent
        if match[1] is None:
            return match[0][0]
        value = scope.value(match[1])
        if value is None:
            _refuse_missing_target(match[1], scope)
            absent = True
            return ""
        return show(match[1], value)

    text = PLACEHOLDER.sub(insert, template)
    return None if absent else text


def as_word(value: Any) -> str:
    """Returns a scalar as one argument; raises RenderError for lists and objects."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise RenderError(f"a {type(value).__name__} cannot be one argument")
    return value


def _item(item: Any, scope: Scope) -> list[str]:
    if isinstance(item, str):
        word = substitute(item, scope, lambda _, value: as_word(value))
        return [] if word is None else [word]
    if isinstance(item, list):
        return _group(item, scope)
    if "if" in item:
        chosen = item["then"] if holds(item["if"], scope) else item.get("else", [])
        return list(arguments(chosen, scope)) if chosen else []
    if "each" in item:
        return _each(item, scope)
    if "map" in item:
        return _mapped(item, scope)
    return _words(item["words"], scope)


def _group(words: list[str], scope: Scope) -> list[str]:
    rendered = [substitute(word, scope, lambda _, value: as_word(value)) for word in words]
    present = [word for word in rendered if word is not None]
    return present if len(present) == len(words) else []


def _each(item: Mapping[str, Any], scope: Scope) -> list[str]:
    values = scope.value(item["each"])
    if values is None:
        return []
    result: list[str] = []
    for value in values if isinstance(values, list | tuple) else [values]:
        one = Scope(scope.inputs, scope.target, scope.captured, value, scope.free_words)
        result += _group(item["item"], one)
    return result


def _mapped(item: Mapping[str, Any], scope: Scope) -> list[str]:
    value = scope.value(item["map"])
    if value is None:
        return []
    words = item["values"].get(as_word(value))
    if words is None:
        raise RenderError(f"{item['map']}: no words for {escaped(as_word(value))!r}")
    return list(words)


def _words(name: str, scope: Scope) -> list[str]:
    value = scope.value(name)
    if value is None:
        _refuse_missing_target(name, scope)
        return []
    try:
        words = shlex.split(as_word(value))
    except ValueError as exc:
        raise RenderError(f"{name}: {escaped(str(value))!r} is no command: {exc}") from exc
    if not words:
        raise RenderError(f"{name} is empty")
    return words


def _refuse_harm(name: str, value: Any) -> None:
    if isinstance(value, str):
        if harm := harmful_character(value, multiline=True):
            where = name if "." in name else f"inputs.{name}"
            fault = Fault(code=harm[0], field=where, found=harm[1], expected="text without it")
            raise RenderError(f"{name} holds {harm[1]}, which no program can take", faults=[fault])
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_harm(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_harm(name, key)
            _refuse_harm(name, item)


def _refuse_missing_target(name: str, scope: Scope) -> None:
    if not name.startswith("target."):
        return
    found = "no target" if scope.target is None else f"a target without {name[7:]}"
    fault = Fault(code="MISSING_TARGET", field="target", found=found, expected=name)
    raise RenderError(f"the command needs {name}, but there is {found}", faults=[fault])


def _refuse_option(template: str, word: str, scope: Scope) -> None:
    """Refuses a word whose value made it an option; the lint is the first lock, this the second."""
    first = PLACEHOLDER.match(template)
    if first is None or first[1] is None or first[1] in scope.free_words:
        return
    if word.startswith("-") and not word.lstrip("-").replace(".", "", 1).isdigit():
        fault = Fault(
            code="LEADING_DASH",
            field=f"inputs.{first[1]}",
            found=escaped(word),
            expected="a value that does not begin with -",
        )
        raise RenderError(f"{first[1]} would be read as an option", faults=[fault])
