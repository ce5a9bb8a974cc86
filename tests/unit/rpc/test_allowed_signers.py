"""The list of signers is understood whole, or not used at all."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.ssh_keys import Token, private_key
from opsconductor.rpc import ssh_wire
from opsconductor.rpc.sshsig import AllowedSigners, SignersInvalid, generate_key, public_line

if TYPE_CHECKING:
    from pathlib import Path

KEY = generate_key()[1]
TYPE, ENCODED = KEY.split()[:2]


def test_a_whole_file_is_read() -> None:
    text = (
        "# people who may approve\n"
        "\n"
        f"alice,alice@corp {KEY} alice at her laptop\n"
        f'\t"bob smith,bob" namespaces="git,file",valid-before="20270101Z"  {KEY}\r\n'
        f'carol valid-after="202601011230Z" {KEY}'
    )
    alice, bob, carol = AllowedSigners.parse(text).entries
    assert alice.principals == {"alice", "alice@corp"}
    assert alice.namespaces is None
    assert bob.principals == {"bob smith", "bob"}
    assert bob.namespaces == frozenset({"git", "file"})
    assert bob.valid_before == datetime(2027, 1, 1, tzinfo=UTC)
    assert carol.valid_after == datetime(2026, 1, 1, 12, 30, tzinfo=UTC)


def test_option_names_are_read_in_any_case() -> None:
    assert AllowedSigners.parse(f'a NameSpaces="x" {KEY}').entries[0].namespaces == frozenset({"x"})


def test_times_without_a_zone_are_those_of_this_machine() -> None:
    (entry,) = AllowedSigners.parse(f'a valid-after="20260701" {KEY}').entries
    assert entry.valid_after == datetime(2026, 7, 1).astimezone()


def test_an_empty_file_allows_nobody() -> None:
    assert AllowedSigners.parse("").entries == ()


CERTIFICATE = base64.b64encode(
    ssh_wire.string(b"ssh-ed25519-cert-v01@openssh.com") + ssh_wire.string(b"x")
).decode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("alice", "expected"),
        (f"{KEY}", "begins with a key"),
        (f"* {KEY}", "wildcard"),
        (f"ali?e {KEY}", "wildcard"),
        (f"!alice {KEY}", "wildcard"),
        (f"alice,,bob {KEY}", "empty principal"),
        (f'"" {KEY}', "empty principal"),
        (f'"alice {KEY}', "expected"),
        (f'"alice"bob {KEY}', "expected"),
        (f"alice cert-authority {KEY}", "certificate authorities"),
        (f'alice CERT-AUTHORITY,namespaces="x" {KEY}', "certificate authorities"),
        (f"alice no-touch-required {KEY}", "unknown or incomplete"),
        (f'alice verify-required="yes" {KEY}', "unknown or incomplete"),
        (f"alice namespaces {KEY}", "unknown or incomplete"),
        (f"alice namespaces=x {KEY}", "unknown or incomplete"),
        (f'alice namespaces="a*" {KEY}', "wildcard"),
        (f'alice namespaces="" {KEY}', "empty namespace"),
        (f'alice namespaces="a",namespaces="b" {KEY}', "twice"),
        (f'alice namespaces="a", valid-after="20260101Z" {KEY}', "key"),
        (f'alice valid-after="" {KEY}', "not a time"),
        (f'alice valid-after="2026-01-01" {KEY}', "not a time"),
        (f'alice valid-after="20261301Z" {KEY}', "not a time"),
        (f'alice valid-after="٢٠٢٦٠١٠١Z" {KEY}', "not a time"),
        (f'alice valid-before="forever" {KEY}', "not a time"),
        (f"alice {TYPE}", "key"),
        (f"alice {TYPE} AAAA", "cut short"),
        (f"alice {TYPE} {ENCODED[:-4]}", "cut short"),
        (f"alice {TYPE} {ENCODED}AAAA", "trailing"),
        (f"alice {TYPE} !!!!", "key"),
        (f"alice ssh-rsa {ENCODED}", "the key itself is"),
        (f"alice ssh-ed25519-cert-v01@openssh.com {CERTIFICATE}", "not accepted"),
        (f"alice ecdsa-sha2-nistp256 {ENCODED}", "the key itself is"),
        (f"alice {KEY}\0", "NUL"),
        (f"alice\u00a0{KEY}", "key"),
    ],
    ids=[f"line-{number}" for number in range(34)],  # keys differ per process
)
def test_a_line_that_is_not_understood_fails_the_file_and_is_named(line: str, why: str) -> None:
    with pytest.raises(SignersInvalid, match=why) as refused:
        AllowedSigners.parse(f"# first\nbob {KEY}\n{line}\n")
    assert refused.value.line == 3
    assert refused.value.code == "POLICY_LOAD_FAILED"
    assert str(refused.value).startswith("line 3: ")


def test_short_rsa_keys_are_refused() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(private_key("rsa1024"), None)
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    with pytest.raises(SignersInvalid, match="2048"):
        AllowedSigners.parse(f"alice {line.decode()}")


def test_keys_on_tokens_are_read() -> None:
    for kind in ("ed25519", "ecdsa"):
        assert AllowedSigners.parse(f"alice {Token(kind).line}").entries


def test_a_point_off_the_curve_is_no_key() -> None:
    key_type, encoded = public_line(private_key("ecdsa256")).split()[:2]
    blob = bytearray(base64.b64decode(encoded))
    blob[-1] ^= 1
    with pytest.raises(SignersInvalid, match="not on its curve"):
        AllowedSigners.parse(f"alice {key_type} {base64.b64encode(blob).decode()}")


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SignersInvalid):
        AllowedSigners.parse(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "allowed_signers"
    path.write_text(f"alice {KEY}\n")
    path.chmod(0o644)
    return path


def test_a_file_of_ours_is_loaded(path: Path) -> None:
    assert len(AllowedSigners.load(path).entries) == 1


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o777])
def test_a_file_others_can_write_is_not_relied_on(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SignersInvalid, match="chmod go-w"):
        AllowedSigners.load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_relied_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(path, 12345, 12345)
    with pytest.raises(SignersInvalid, match="belongs to user 12345"):
        AllowedSigners.load(path)


def test_what_cannot_be_read_is_told(tmp_path: Path, path: Path) -> None:
    with pytest.raises(SignersInvalid, match="No such file"):
        AllowedSigners.load(tmp_path / "missing")
    with pytest.raises(SignersInvalid, match="cannot be read"):
        AllowedSigners.load(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(SignersInvalid, match="UTF-8"):
        AllowedSigners.load(path)
    path.write_bytes(b"#" * 1_100_000)
    with pytest.raises(SignersInvalid, match="larger"):
        AllowedSigners.load(path)
