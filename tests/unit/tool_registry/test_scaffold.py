"""A new tool file passes the checks before its author has changed a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc.errors import InvalidArgument
from opsconductor.tool_registry.registry import check_file
from opsconductor.tool_registry.scaffold import scaffold, words_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "command",
    [
        "uname -a",
        "df -P {path}",
        "grep -c {what} -- {file}",
        "tool --size={size} {name}",
        "a '{{}}'",
    ],
)
def test_a_new_file_passes_the_checks(command: str, tmp_path: Path) -> None:
    file = tmp_path / "my_tool.yaml"
    file.write_text(scaffold("my_tool", "linux", words_of(command)))
    tool, faults = check_file(file)
    assert not faults
    assert tool is not None


@given(
    st.lists(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20), min_size=1)
)
def test_any_words_make_a_file_that_can_be_read_or_are_refused(words: list[str]) -> None:
    from opsconductor.tool_registry.loader import read_tool

    try:
        text = scaffold("my_tool", "linux", words)
    except InvalidArgument:
        return
    tool, faults = read_tool(text.encode())
    assert tool is not None or faults


@pytest.mark.parametrize("name", ["", "1st", "Big", "a b", "x", "../up"])
def test_a_name_no_tool_may_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a tool"):
        scaffold(name, "linux")


def test_open_quotes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        words_of("echo 'open")


def test_a_placeholder_gets_its_parameter_and_cannot_become_an_option() -> None:
    text = scaffold("count_words", "linux", words_of("wc -w {file}"))
    assert "file:" in text
    assert 'argv: ["wc", "-w", "--", "{file}"]' in text
