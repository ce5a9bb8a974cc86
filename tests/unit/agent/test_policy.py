from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsconductor.agent.policy import Policy
from opsconductor.agent.settings import SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_everything_signed_is_allowed(tmp_path: Path) -> None:
    policy = Policy.load(tmp_path / "policy.yaml")
    assert (policy.quorum, policy.unsigned_reads) == (1, True)
    assert policy.objection_to_host("10.0.0.1") == ""


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("tools: [check_*, ping]\ntargets: [10.0.0.0/8]\nquorum: 2\n")
    policy = Policy.load(path)
    assert (policy.tools, policy.targets, policy.quorum) == (
        ("check_*", "ping"),
        ("10.0.0.0/8",),
        2,
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "tool: [a]\nmethods: ssh\nquorum: 0\ntargets: [10.0.0.0/99]\nunsigned_reads: 3\n"
    )
    with pytest.raises(SettingsInvalid) as caught:
        Policy.load(path)
    assert [fault.field for fault in caught.value.faults] == [
        "tool",
        "methods",
        "unsigned_reads",
        "quorum",
        "targets[0]",
    ]
    assert "did you mean tools?" in str(caught.value)


DENY_METADATA = Policy(deny_targets=("169.254.0.0/16", "127.0.0.0/8", "::1"))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "[::ffff:a9fe:a9fe]",
        "127.0.0.1",
        "::1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
    ],
)
def test_no_spelling_of_a_denied_address_passes(address: str) -> None:
    assert DENY_METADATA.objection_to_host(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "web-01.example", "2001:db8::1", "host7", "7host"])
def test_other_hosts_pass(address: str) -> None:
    assert DENY_METADATA.objection_to_host(address) == ""


def test_deny_wins_over_allow_and_names_are_compared_without_case() -> None:
    policy = Policy(targets=("*.example",), deny_targets=("db-*",))
    assert policy.objection_to_host("WEB.Example") == ""
    assert policy.objection_to_host("DB-1.example")
    assert policy.objection_to_host("web.other")
