"""Only a verified certificate with exactly one identity of ours names a caller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.rpc.errors import PermissionDenied
from opsconductor.rpc.identity import ROLES, Identity, certificate_of, identity_from, identity_of

OURS = b"spiffe://opsconductor/t/default/operator/alice"


class Call:
    def __init__(self, auth: dict[str, list[bytes]]) -> None:
        self._auth = auth

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth


def connection(*names: bytes, security: bytes = b"ssl") -> dict[str, list[bytes]]:
    return {
        "transport_security_type": [security],
        "x509_subject_alternative_name": list(names),
    }


def test_the_identity_is_read_from_the_certificate() -> None:
    expected = Identity("default", "operator", "alice")
    assert identity_from(connection(OURS)) == expected
    assert identity_of(Call(connection(b"localhost", OURS))) == expected


@pytest.mark.parametrize(
    "auth",
    [
        {},
        connection(),
        connection(b"localhost"),
        connection(OURS, security=b"insecure"),
        connection(OURS, security=b"local"),
        {"x509_subject_alternative_name": [OURS]},
        connection(OURS, b"spiffe://opsconductor/t/default/agent/alice"),
        connection(OURS, b"SPIFFE://elsewhere/x"),
        connection(OURS + b"/more"),
        connection(OURS + b"\n"),
        connection(b"spiffe://elsewhere/t/default/operator/alice"),
        connection(b"spiffe://opsconductor/t/default/root/alice"),
        connection(b"spiffe://opsconductor/t//operator/alice"),
        connection(b"spiffe://opsconductor/t/../operator/alice"),
        connection("spiffe://opsconductor/t/default/operator/älice".encode()),
    ],
)
def test_anything_else_names_nobody(auth: dict[str, list[bytes]]) -> None:
    assert identity_from(auth) is None
    with pytest.raises(PermissionDenied, match="no OpsConductor identity"):
        identity_of(Call(auth))


def test_no_certificate_no_peer_certificate() -> None:
    with pytest.raises(PermissionDenied):
        certificate_of(Call({}))


words = st.text("abcXYZ019._@+-", max_size=8)


@given(words, st.sampled_from(sorted(ROLES)), words)
def test_an_identity_reads_back_from_its_uri_or_cannot_be_made(
    tenant: str, role: str, name: str
) -> None:
    try:
        identity = Identity(tenant, role, name)
    except ValueError:
        assert not (tenant[:1].isalnum() and name[:1].isalnum())
    else:
        assert Identity.parse(identity.uri) == identity


@pytest.mark.parametrize("name", ["a/b", "alice/../bob", "", "-x", "a b", "x" * 65, "a\n"])
def test_a_name_that_could_be_read_as_another_identity_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no identity"):
        Identity("default", "agent", name)
