"""A token file is whole or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc.errors import TokenInvalid
from opsconductor.rpc.token_file import TokenFile, parse_token_file


def pem(label: str, body: str) -> bytes:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


FILE = TokenFile(
    ca=pem("CERTIFICATE", "QUJD"),
    certificate=pem("CERTIFICATE", "REVG"),
    key=pem("PRIVATE KEY", "R0hJ"),
    token="t0ken-_",
    name="agent-1",
    segment="dmz",
)


def test_a_token_file_reads_back_as_it_was_written() -> None:
    assert parse_token_file(FILE.text()) == FILE


def test_line_ends_of_another_system_do_no_harm() -> None:
    read = parse_token_file(FILE.text().replace("\n", "\r\n"))
    assert (read.token, read.name) == ("t0ken-_", "agent-1")


@pytest.mark.parametrize("missing", ["token: ", "PRIVATE KEY", "REVG"])
def test_an_incomplete_file_is_refused_and_says_how_to_get_a_new_one(missing: str) -> None:
    with pytest.raises(TokenInvalid, match="opsctl agents token create"):
        parse_token_file(FILE.text().replace(missing, "#"))


@given(st.text(max_size=300))
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        parse_token_file(text)
