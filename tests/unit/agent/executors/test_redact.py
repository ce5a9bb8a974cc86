"""Secrets are masked in every encoding and at every cut."""

from __future__ import annotations

import base64
import itertools
import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opsconductor.agent.executors.redact import MASK, Redactor
from opsconductor.agent.masking import MaskedSink

SECRET = "hunter2-and/more+ümlaut"
KEY = (
    "-----BEGIN KEY-----\n" + "\n".join(f"line{n}" + "Ab9+/" * 11 for n in range(4)) + "\n-----END"
)


def streamed(redactor: Redactor, pieces: list[bytes]) -> bytes:
    stream = redactor.stream()
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@pytest.mark.parametrize(
    "encoded",
    [
        SECRET.encode(),
        quote(SECRET).encode(),
        quote(SECRET, safe="").lower().encode(),
        json.dumps(SECRET).encode(),
        SECRET.encode().hex().encode(),
        SECRET.encode().hex().upper().encode(),
        SECRET.encode("utf-16-le"),
        SECRET.encode("utf-16-be"),
        base64.urlsafe_b64encode(SECRET.encode()),
    ],
)
def test_every_encoding_is_masked(encoded: bytes) -> None:
    masked = Redactor([SECRET]).data(b"before " + encoded + b" after")
    assert MASK in masked
    assert encoded not in masked


@pytest.mark.parametrize("skipped", [0, 1, 2])
@pytest.mark.parametrize("secret", ["hunter2-long", "hunter2-longer", "hunter2-longest"])
def test_base64_is_masked_at_every_alignment(skipped: int, secret: str) -> None:
    text = base64.b64encode(b"#" * (skipped + 3) + secret.encode() + b"##")
    masked = Redactor([secret]).data(text)
    assert MASK in masked
    # At most the characters shared with a neighbour are left of the secret.
    assert len(masked.replace(MASK, b"")) <= len(text) - (len(secret) * 8 // 6 - 2)


def test_lines_of_a_key_are_masked_alone() -> None:
    line = KEY.splitlines()[2]
    assert line.encode() not in Redactor([KEY]).data(f"> {line}\r\n".encode())


def test_a_short_secret_inside_a_longer_one_leaks_nothing_of_the_longer() -> None:
    redactor = Redactor(["secret", "secret-suffix-1", "prefix-secret"])
    assert redactor.data(b"secret-suffix-1") == MASK
    assert redactor.data(b"prefix-secret") == MASK
    for cut in range(1, 15):
        text = b"secret-suffix-1"
        assert streamed(redactor, [text[:cut], text[cut:]]) == MASK


secrets = st.lists(st.text("ab1", min_size=6, max_size=9), min_size=1, max_size=4)


@given(secrets, st.data())
@example(["aaaaaa", "aaaaaab"], None)
def test_a_cut_changes_nothing(values: list[str], data: st.DataObject | None) -> None:
    redactor = Redactor(values)
    if data is None:
        pieces = [b"aaaaa", b"a", b"a", b"b", b"c"]
    else:
        parts = st.one_of(st.sampled_from(values), st.text("ab1-", max_size=8))
        text = "".join(data.draw(st.lists(parts, max_size=8))).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
        bounds = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
    whole = b"".join(pieces)
    masked = streamed(redactor, pieces)
    assert masked == redactor.data(whole)
    assert not any(value.encode() in masked for value in values)


@given(st.binary(max_size=300))
def test_other_bytes_are_left_alone(data: bytes) -> None:
    assert Redactor([SECRET]).data(data) == data
    assert streamed(Redactor([SECRET]), [data[:7], data[7:]]) == data
    assert Redactor([]).data(data) == data


def test_ordinary_output_is_not_held_back() -> None:
    stream = Redactor([SECRET]).stream()
    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"hunter2") == b""
    assert stream.feed(b"!") == b"hunter2!"


def test_values_are_masked_inside_structures() -> None:
    value = {"a": [f"x {SECRET}", 7, None], SECRET: True}
    mask = MASK.decode()
    assert Redactor([SECRET]).value(value) == {"a": [f"x {mask}", 7, None], mask: True}


def test_a_short_secret_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="fewer than 6") as caught:
        Redactor(["abc12"])
    assert "abc12" not in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        (b"password: opensesame", b"password: " + MASK),
        (b"password: opense", b"password: " + MASK),
        (b"password: open", b"password: open"),  # too short to be more than a word
        (b"password: none", b"password: none"),
    ],
)
def test_the_beginning_of_a_secret_is_masked_where_output_was_cut_off(
    printed: bytes, left: bytes
) -> None:
    stream = Redactor(["opensesame-1"]).stream()
    assert stream.feed(printed) + stream.finish(whole=False) == left
    assert stream.feed(printed) + stream.finish() == printed


async def test_the_sink_masks_each_stream_by_itself() -> None:
    got: list[tuple[str, bytes]] = []

    class Sink:
        async def write(self, stream: str, data: bytes) -> None:
            got.append((stream, data))

    sink = MaskedSink(Sink(), Redactor(["secret-1"]))
    await sink.write("stdout", b"secr")
    await sink.write("stderr", b"et-1 is no secret\n")
    await sink.write("stdout", b"et-1")
    await sink.write("stdout", b"sec")
    await sink.flush()
    stdout = b"".join(data for stream, data in got if stream == "stdout")
    stderr = b"".join(data for stream, data in got if stream == "stderr")
    assert (stdout, stderr) == (MASK + b"sec", b"et-1 is no secret\n")
