"""Our verifier and ssh-keygen judge the same signatures, honest and mutated.

What ours accepts, ``ssh-keygen -Y verify`` accepts, always. The reverse holds but for the listed
strictness: spellings that ssh-keygen tolerates. OPSCONDUCTOR_SSHSIG_MUTANTS sets how many mutants
are tried (20000 before a release), OPSCONDUCTOR_SSHSIG_SEED which.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from helpers.ssh_keys import KINDS, Token, armor, private_key, unarmor
from opsconductor.rpc.sshsig import (
    AllowedSigners,
    SignatureRejected,
    SignersInvalid,
    public_line,
    sign,
    verify,
)
from opsconductor.rpc.statements import NAMESPACE, approval_statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MUTANTS = int(os.environ.get("OPSCONDUCTOR_SSHSIG_MUTANTS", "350"))
SEED = int(os.environ.get("OPSCONDUCTOR_SSHSIG_SEED", "1"))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKENS = ("sk-ed25519", "sk-ecdsa")
STRICTNESS = {"SIGNATURE_MALFORMED", "KEY_REFUSED", "POLICY_LOAD_FAILED"}

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="ssh-keygen is not installed (Debian, Ubuntu: apt-get install openssh-client)",
)


@dataclass(frozen=True)
class Case:
    """What both verifiers are asked."""

    message: bytes
    signature: str
    signers: str
    principal: str = "alice"
    namespace: str = NAMESPACE
    at: datetime = NOW


def ours(case: Case) -> str:
    """Returns "" when our verifier accepts, else why not."""
    try:
        signers = AllowedSigners.parse(case.signers)
        verify(
            case.message,
            case.signature,
            namespace=case.namespace,
            signers=signers,
            principal=case.principal,
            at=case.at,
        )
    except (SignatureRejected, SignersInvalid) as refused:
        return refused.code
    return ""


def theirs(case: Case, folder: Path) -> bool:
    """Tells whether ssh-keygen accepts."""
    (folder / "signers").write_text(case.signers)
    (folder / "signature").write_text(case.signature, encoding="latin-1")
    done = subprocess.run(
        [
            *("ssh-keygen", "-Y", "verify", "-f", folder / "signers", "-I", case.principal),
            *("-n", case.namespace, "-s", folder / "signature"),
            f"-Overify-time={case.at:%Y%m%d%H%M%S}Z",
        ],
        input=case.message,
        capture_output=True,
        check=False,
        env=os.environ | {"TZ": "UTC"},
    )
    return done.returncode == 0


def agree(case: Case, folder: Path) -> str:
    """Asks both; returns our answer after checking that it is not the laxer one."""
    answer, accepted = ours(case), theirs(case, folder)
    if answer == "":
        assert accepted, f"we accept what ssh-keygen refuses: {case}"
    if accepted:
        assert answer in {"", *STRICTNESS}, f"we refuse ({answer}) what ssh-keygen accepts: {case}"
    return answer


def statement() -> bytes:
    return approval_statement(
        tenant="default",
        execution_id="exec_1",
        plan_digest="sha256:" + "ab" * 32,
        steps=["restart"],
        approver="alice",
        not_before=NOW,
        not_after=NOW + timedelta(hours=1),
        nonce="0" * 32,
    )


def honest(kind: str) -> Case:
    message = statement()
    if kind in TOKENS:
        token = Token(kind.removeprefix("sk-"))
        return Case(message, token.sign(message, NAMESPACE), f"alice {token.line}\n")
    key = private_key(kind)
    return Case(message, sign(message, key, NAMESPACE), f"alice {public_line(key)}\n")


@pytest.mark.parametrize("kind", [*KINDS, *TOKENS])
def test_an_honest_signature_is_accepted_by_both(kind: str, tmp_path: Path) -> None:
    assert agree(honest(kind), tmp_path) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_made_by_ssh_keygen_is_accepted(kind: str, tmp_path: Path) -> None:
    key = private_key(kind)
    key_file = tmp_path / "key"
    key_file.write_bytes(key)
    key_file.chmod(0o600)
    made = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", key_file, "-n", NAMESPACE],
        input=statement(),
        capture_output=True,
        check=True,
    )
    case = Case(statement(), made.stdout.decode(), f"alice {public_line(key)}\n")
    assert agree(case, tmp_path) == ""


def flip_bit(case: Case, rng: random.Random) -> Case:
    data = bytearray(unarmor(case.signature))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return replace(case, signature=armor(bytes(data)))


def drop_insert_or_double(case: Case, rng: random.Random) -> Case:
    data = unarmor(case.signature)
    at = rng.randrange(len(data))
    middle = rng.choice([b"", rng.randbytes(1) + data[at : at + 1], data[at : at + 1] * 2])
    return replace(case, signature=armor(data[:at] + middle + data[at + 1 :]))


def cut_or_extend(case: Case, rng: random.Random) -> Case:
    data = unarmor(case.signature)
    kept = data[: rng.randrange(len(data))]
    return replace(case, signature=armor(rng.choice([kept, data + rng.randbytes(3)])))


def change_a_length(case: Case, rng: random.Random) -> Case:
    data = bytearray(unarmor(case.signature))
    zeros = [n for n in range(10, len(data) - 4) if data[n : n + 3] == b"\0\0\0"]
    at = rng.choice(zeros)
    value = rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, data[at + 3] + 1, max(data[at + 3] - 1, 0)])
    data[at : at + 4] = value.to_bytes(4, "big")
    return replace(case, signature=armor(bytes(data)))


def spell_differently(case: Case, rng: random.Random) -> Case:
    text = case.signature
    at = rng.randrange(len(text))
    return replace(
        case,
        signature=rng.choice(
            [
                text[:at] + rng.choice(" \t\n\r=A-\0") + text[at:],
                text[:at] + text[at + 1 :],
                text.replace("\n", "\r\n"),
                text + "trailing text\n",
                "leading text\n" + text,
                text + text,
                text.rstrip("\n"),
                armor(unarmor(text), rng.choice([1, 64, 76, 1000])),
            ]
        ),
    )


def change_the_message(case: Case, rng: random.Random) -> Case:
    data = bytearray(case.message)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return replace(case, message=rng.choice([bytes(data), case.message + b"\n", b""]))


def change_the_question(case: Case, rng: random.Random) -> Case:
    return rng.choice(
        [
            replace(case, principal=rng.choice(["bob", "Alice", "alice ", "alic", "*"])),
            replace(case, namespace=rng.choice(["git", "file", NAMESPACE + "1", NAMESPACE[:-1]])),
            replace(case, at=NOW + timedelta(days=rng.randrange(-400, 400))),
        ]
    )


def change_the_signers(case: Case, rng: random.Random) -> Case:
    key = case.signers.removeprefix("alice ")
    line = rng.choice(
        [
            f"alice,bob {key}",
            f'"alice" {key}',
            f"bob,alice {key}",
            f"bob {key}",
            f"*,alice {key}",
            f"!alice,* {key}",
            f'alice namespaces="{NAMESPACE}" {key}',
            f'alice namespaces="git,{NAMESPACE}" {key}',
            f'alice namespaces="git" {key}',
            f'alice namespaces="approval*" {key}',
            f'alice valid-after="20260301Z" {key}',
            f'alice valid-after="202603011201Z" {key}',
            f'alice valid-before="202603011200Z" {key}',
            f'alice valid-before="20260301115959Z" {key}',
            f'alice valid-after="20260101",valid-before="20270101" {key}',
            f"alice cert-authority {key}",
            f"alice no-such-option {key}",
            f'alice no-such-option="1" {key}',
            f"# alice {key}",
            f"alice {key}alice broken\n",
            f"carol {key}alice {key}",
            f"  alice   {key}",
            f"alice\t{key}",
        ]
    )
    return replace(case, signers=line)


MUTATIONS: tuple[Callable[[Case, random.Random], Case], ...] = (
    flip_bit,
    drop_insert_or_double,
    cut_or_extend,
    change_a_length,
    spell_differently,
    change_the_message,
    change_the_question,
    change_the_signers,
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [*KINDS, *TOKENS])
def test_no_mutant_is_accepted_that_ssh_keygen_refuses(kind: str, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} {kind}")
    case = honest(kind)
    for _ in range(MUTANTS // (len(KINDS) + len(TOKENS))):
        agree(rng.choice(MUTATIONS)(case, rng), tmp_path)


@pytest.mark.parametrize("mutate", [flip_bit, cut_or_extend, change_the_message])
def test_mutants_that_change_what_is_said_are_refused(
    mutate: Callable[[Case, random.Random], Case],
) -> None:
    rng = random.Random(SEED)
    for kind in KINDS:
        case = honest(kind)
        for _ in range(40):
            assert ours(mutate(case, rng))
