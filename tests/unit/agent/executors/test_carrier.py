"""The script and the nonce line of the SSH carrier."""

from __future__ import annotations

import itertools
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsconductor.agent.executors.ssh.carrier import Header, command_script

texts = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize("shell", ["dash", "bash"])
@given(arguments=st.lists(texts, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_arguments_arrive_as_they_are(shell: str, arguments: list[str]) -> None:
    program = [b"printf", b"%s\\0", *(text.encode() for text in arguments)]
    script = command_script("nonce", program, {"A_B": "x'y\n"})
    done = subprocess.run([shell, "-s"], input=script, capture_output=True, check=True)
    header = Header("nonce", "printf")
    rest = header.feed(done.stdout)
    assert header.pid is not None
    expected = [text.encode() for text in arguments] or [b""]
    assert rest.split(b"\0")[:-1] == expected


def test_variables_are_exported() -> None:
    script = command_script("nonce", [b"sh", b"-c", b'printf "%s" "$A_B"'], {"A_B": "x'y\n$z"})
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, check=True)
    assert Header("nonce", "sh").feed(done.stdout) == b"x'y\n$z"


@given(st.lists(st.integers(1, 60), max_size=6), st.binary(max_size=40))
def test_the_header_is_found_at_any_cut(cuts: list[int], output: bytes) -> None:
    data = b"Welcome!\nnonce 4711\n" + output
    header = Header("nonce", "x")
    bounds = [0, *sorted(cuts), len(data)]
    got = b"".join(header.feed(data[a:b]) for a, b in itertools.pairwise(bounds) if b > a)
    assert (header.pid, got) == (4711, output)


def test_a_dash_says_that_the_program_does_not_exist() -> None:
    header = Header("nonce", "x")
    assert header.feed(b"nonce -\n") == b""
    assert (header.found, header.pid) == (True, None)


def test_noise_without_a_header_is_bounded() -> None:
    header = Header("nonce", "x")
    for _ in range(100):
        assert header.feed(b"x" * 65536) == b""
    assert header.feed(b"nonce 5\nout") == b"out"
