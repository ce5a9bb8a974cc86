"""A signature counts for these bytes, this purpose, this person and this time, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from helpers.ssh_keys import KINDS, Token, armor, envelope, private_key, signed_data, unarmor
from opsconductor.rpc import ssh_wire
from opsconductor.rpc.sshsig import (
    AllowedSigners,
    SignatureRejected,
    VerifiedKey,
    fingerprint,
    generate_key,
    public_line,
    sign,
    verify,
)
from opsconductor.rpc.statements import NAMESPACE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MESSAGE = b'{"type":"opsconductor.approval/1"}'
PRIVATE, PUBLIC = generate_key("alice@laptop")
SIGNERS = AllowedSigners.parse(f"alice {PUBLIC}")
SIGNATURE = sign(MESSAGE, PRIVATE, NAMESPACE)


def check(armored: str = SIGNATURE, message: bytes = MESSAGE, **changes: Any) -> VerifiedKey:
    fields: dict[str, Any] = {"namespace": NAMESPACE, "principal": "alice", "at": NOW}
    return verify(message, armored, **(fields | {"signers": SIGNERS} | changes))


def refusal(armored: str = SIGNATURE, message: bytes = MESSAGE, **changes: Any) -> str:
    with pytest.raises(SignatureRejected) as refused:
        check(armored, message, **changes)
    assert refused.value.message
    return refused.value.code


@pytest.mark.parametrize("kind", KINDS)
def test_every_accepted_kind_of_key_signs_and_verifies(kind: str) -> None:
    key = private_key(kind)
    signers = AllowedSigners.parse(f"bob {public_line(key)}")
    verified = check(sign(MESSAGE, key, NAMESPACE), signers=signers, principal="bob")
    assert verified == VerifiedKey(fingerprint(public_line(key)), "bob")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_signatures_of_a_touched_fido_token_count(kind: str) -> None:
    token = Token(kind)
    signers = AllowedSigners.parse(f"alice {token.line}")
    assert check(token.sign(MESSAGE, NAMESPACE), signers=signers)
    assert check(token.sign(MESSAGE, NAMESPACE, flags=5), signers=signers)
    assert refusal(token.sign(MESSAGE, NAMESPACE, flags=0), signers=signers) == "SIGNATURE_INVALID"
    assert refusal(token.sign(b"other", NAMESPACE), signers=signers) == "SIGNATURE_INVALID"
    elsewhere = Token(kind, b"ssh:elsewhere")
    elsewhere.key = token.key
    moved = unarmor(elsewhere.sign(MESSAGE, NAMESPACE)).replace(b"ssh:elsewhere", b"ssh:")
    assert refusal(armor(moved), signers=signers) in {"SIGNATURE_MALFORMED", "SIGNATURE_INVALID"}


def test_another_message_is_refused() -> None:
    assert refusal(message=MESSAGE + b" ") == "SIGNATURE_INVALID"


@pytest.mark.parametrize("namespace", ["git", "file", "approval@opsconductor.v2", ""])
def test_a_signature_made_for_another_purpose_is_refused(namespace: str) -> None:
    assert refusal(sign(MESSAGE, PRIVATE, namespace)) == "NAMESPACE_MISMATCH"


def test_a_namespace_rewritten_in_the_envelope_is_refused() -> None:
    data = unarmor(sign(MESSAGE, PRIVATE, "approval@opsconductor.v2"))
    forged = data.replace(b"approval@opsconductor.v2", NAMESPACE.encode())
    assert refusal(armor(forged)) == "SIGNATURE_INVALID"


def test_somebody_elses_key_does_not_stand_for_a_person() -> None:
    other, other_public = generate_key()
    assert refusal(sign(MESSAGE, other, NAMESPACE)) == "SIGNER_UNKNOWN"
    assert refusal(principal="bob") == "SIGNER_UNKNOWN"
    both = AllowedSigners.parse(f"alice {PUBLIC}\nbob {other_public}")
    assert refusal(principal="bob", signers=both) == "SIGNER_UNKNOWN"


def test_a_persons_part_of_a_name_is_not_the_person() -> None:
    signers = AllowedSigners.parse(f"alice@corp,bob {PUBLIC}")
    assert refusal(principal="alice", signers=signers) == "SIGNER_UNKNOWN"
    assert refusal(principal="alice@corp,bob", signers=signers) == "SIGNER_UNKNOWN"
    assert check(principal="bob", signers=signers)


def test_a_key_limited_to_another_purpose_is_refused() -> None:
    signers = AllowedSigners.parse(f'alice namespaces="git,file" {PUBLIC}')
    assert refusal(signers=signers) == "SIGNER_NAMESPACE"
    assert check(signers=AllowedSigners.parse(f'alice namespaces="git,{NAMESPACE}" {PUBLIC}'))


def test_a_key_counts_between_its_times_only() -> None:
    line = f'alice valid-after="20260301120000Z",valid-before="20260302120000Z" {PUBLIC}'
    signers = AllowedSigners.parse(line)
    second = timedelta(seconds=1)
    assert refusal(signers=signers, at=NOW - second) == "SIGNER_NOT_YET_VALID"
    assert check(signers=signers, at=NOW)
    assert check(signers=signers, at=NOW + timedelta(days=1))
    assert refusal(signers=signers, at=NOW + timedelta(days=1) + second) == "SIGNER_EXPIRED"


def test_one_line_in_force_is_enough() -> None:
    expired = f'alice valid-before="20250101Z" {PUBLIC}'
    assert check(signers=AllowedSigners.parse(f"{expired}\nalice {PUBLIC}"))


PARTS = unarmor(SIGNATURE)


def reader_parts() -> tuple[bytes, bytes]:
    reader = ssh_wire.Reader(PARTS[10:])
    blob = reader.string()
    for _ in range(3):
        reader.string()
    return blob, reader.string()


BLOB, RAW = reader_parts()


def test_the_envelope_of_these_tests_is_the_real_one() -> None:
    assert envelope(BLOB, RAW, namespace=NAMESPACE) == SIGNATURE


SPELLINGS = [
    "",
    "junk",
    envelope(BLOB, RAW, namespace=NAMESPACE, magic=b"SSHSIX"),
    envelope(BLOB, RAW, namespace=NAMESPACE, version=2),
    envelope(BLOB, RAW, namespace=NAMESPACE, reserved=b"x"),
    envelope(BLOB, RAW, namespace=NAMESPACE, hash_name="sha1"),
    envelope(BLOB, RAW, namespace=NAMESPACE, trailer=b"\0"),
    envelope(BLOB + b"\0", RAW, namespace=NAMESPACE),
    envelope(BLOB, RAW + b"\0", namespace=NAMESPACE),
    envelope(BLOB, RAW[:-1], namespace=NAMESPACE),
    envelope(BLOB, b"", namespace=NAMESPACE),
    SIGNATURE + "\n",
    SIGNATURE + "x",
    "\n" + SIGNATURE,
    " " + SIGNATURE,
    SIGNATURE.replace("\n", "\r\n"),
    SIGNATURE.replace("SSH SIGNATURE", "PGP SIGNATURE"),
    SIGNATURE.replace("\n", " \n", 2),
    SIGNATURE.replace("=", ""),
    SIGNATURE + SIGNATURE,
    "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
    "-----BEGIN SSH SIGNATURE-----\nÄÖ==\n-----END SSH SIGNATURE-----\n",
    armor(PARTS + b"\0" * 20_000),
]


@pytest.mark.parametrize("armored", SPELLINGS, ids=[f"spelling-{n}" for n in range(len(SPELLINGS))])
def test_every_other_spelling_is_malformed(armored: str) -> None:
    assert refusal(armored) == "SIGNATURE_MALFORMED"


def test_the_last_newline_and_the_width_of_lines_are_free() -> None:
    assert check(SIGNATURE.rstrip("\n"))
    assert check(envelope(BLOB, RAW, namespace=NAMESPACE, width=76))


def test_lines_of_uneven_width_are_refused() -> None:
    lines = SIGNATURE.split("\n")
    lines[2:4] = [lines[2] + lines[3][0], lines[3][1:]]
    assert refusal("\n".join(lines)) == "SIGNATURE_MALFORMED"


def test_base64_with_loose_bits_is_refused() -> None:
    blob, raw = BLOB, RAW
    for trailer in range(3):
        text = envelope(blob, raw, namespace=NAMESPACE + "x" * trailer)
        body = "".join(text.split("\n")[1:-2])
        if body.endswith("="):
            break
    index = len(body.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose = alphabet[alphabet.index(body[index]) ^ 1]
    changed = body[:index] + loose + body[index + 1 :]
    spelled = f"-----BEGIN SSH SIGNATURE-----\n{changed}\n-----END SSH SIGNATURE-----\n"
    with pytest.raises(SignatureRejected, match="canonical"):
        check(spelled)


def rsa_signature(algorithm: bytes, digest: hashes.HashAlgorithm) -> tuple[str, AllowedSigners]:
    key_file = private_key("rsa2048")
    key: Any = serialization.load_ssh_private_key(key_file, None)
    line = public_line(key_file)
    made = key.sign(signed_data(MESSAGE, NAMESPACE), padding.PKCS1v15(), digest)
    signature = ssh_wire.string(algorithm) + ssh_wire.string(made)
    import base64

    blob = base64.b64decode(line.split()[1])
    return envelope(blob, signature, namespace=NAMESPACE), AllowedSigners.parse(f"alice {line}")


def test_rsa_counts_with_sha2_and_never_with_sha1() -> None:
    for algorithm, digest in (
        (b"rsa-sha2-256", hashes.SHA256()),
        (b"rsa-sha2-512", hashes.SHA512()),
    ):
        armored, signers = rsa_signature(algorithm, digest)
        assert check(armored, signers=signers)
    armored, signers = rsa_signature(b"ssh-rsa", hashes.SHA1())
    assert refusal(armored, signers=signers) == "SIGNATURE_MALFORMED"


def test_an_algorithm_of_another_kind_of_key_is_refused() -> None:
    raw = RAW.replace(b"ssh-ed25519", b"ssh-ed25518")
    assert refusal(envelope(BLOB, raw, namespace=NAMESPACE)) == "SIGNATURE_MALFORMED"


@pytest.mark.parametrize(
    "key_type",
    [
        b"ssh-dss",
        b"ssh-ed25519-cert-v01@openssh.com",
        b"sk-ssh-ed25519-cert-v01@openssh.com",
        b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
        b"ssh-ed448",
    ],
)
def test_other_kinds_of_keys_do_not_exist(key_type: bytes) -> None:
    blob = ssh_wire.string(key_type) + ssh_wire.string(b"x" * 32)
    assert refusal(envelope(blob, RAW, namespace=NAMESPACE)) == "KEY_REFUSED"


def test_short_rsa_keys_can_neither_sign_nor_verify() -> None:
    with pytest.raises(SignatureRejected, match="2048"):
        sign(MESSAGE, private_key("rsa1024"), NAMESPACE)


def test_what_is_no_key_cannot_sign() -> None:
    with pytest.raises(SignatureRejected, match="OpenSSH key file"):
        sign(MESSAGE, b"junk", NAMESPACE)
    with pytest.raises(SignatureRejected, match="not a public key line"):
        fingerprint("junk")


@given(st.integers(0, len(PARTS) * 8 - 1))
def test_no_bit_of_a_signature_can_be_flipped(bit: int) -> None:
    data = bytearray(PARTS)
    data[bit // 8] ^= 1 << (bit % 8)
    assert refusal(armor(bytes(data)))


@given(st.binary(max_size=400))
def test_junk_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    assert refusal(armor(data))
    assert refusal(armor(b"SSHSIG\0\0\0\1" + data))


@given(st.text(max_size=200))
def test_text_that_is_no_signature_is_malformed(text: str) -> None:
    assert refusal(text) == "SIGNATURE_MALFORMED"
