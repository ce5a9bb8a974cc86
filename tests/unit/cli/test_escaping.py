from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.cli.escape import escape, escape_line, escape_name
from opsconductor.cli.lines import OutputLines
from opsconductor.v1 import execution_service_pb2 as executions


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", "\\u001b[2J"),
        ("\x1b]8;;http://evil\x07x", "\\u001b]8;;http://evil\\u0007x"),
        ("\x1b]52;c;aGk=\x07", "\\u001b]52;c;aGk=\\u0007"),
        ("ok\rbad", "ok\\u000dbad"),
        ("\x9b31m", "\\u009b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2066b", "a\\u2066b"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u2028b", "a\\u2028b"),
        ("\x7f\x08", "\\u007f\\u0008"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("variation\ufe0f", "variation\\ufe0f"),
        ("lone\udc80", "lone\\udc80"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown
    assert escape_line(hostile) == shown


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    text = "grün, 日本語, עברית\n\tindented"
    assert escape(text) == text


def test_names_are_shown_in_ascii_so_that_look_alikes_show() -> None:
    assert escape_name("\u0430dmin-01") == "\\u0430dmin-01"
    assert escape_name("web-01.example") == "web-01.example"


@given(st.text())
def test_escaped_text_holds_no_character_a_terminal_acts_on(text: str) -> None:
    for character in escape(text):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    assert "\n" not in escape_line(text)
    assert all(" " <= character <= "~" for character in escape_name(text))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_lines_do_not_depend_on_how_output_was_cut(parts: list[bytes]) -> None:
    def shown(pieces: list[bytes]) -> list[str]:
        lines = OutputLines()
        result: list[str] = []
        for data in pieces:
            piece = executions.ReadOutputResponse(
                step_id="s", stream=executions.OUTPUT_STREAM_STDOUT, data=data
            )
            result += lines.add(piece)
        return result + list(lines.finish())

    assert shown(parts) == shown([b"".join(parts)])


def test_an_endless_line_is_shown_in_parts_and_not_kept_in_memory() -> None:
    lines = OutputLines()
    piece = executions.ReadOutputResponse(step_id="s", data=b"x" * 100_000)
    shown = list(lines.add(piece))
    assert len(shown) == 6
    assert sum(len(line) for line in lines.finish()) < 20_000
