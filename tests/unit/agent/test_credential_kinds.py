"""Entries of ``credentials.yaml`` of every kind, and where a secret may be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsconductor.agent.credential_kinds import KINDS
from opsconductor.agent.credentials import CredentialFile
from opsconductor.agent.executors.base import Refused
from opsconductor.agent.executors.credential import Credential, resolve
from opsconductor.agent.settings import SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path

RIGHT = """
web: {username: deploy, password: secret-1, become: sudo, become_password: secret-2, jump: bastion}
bastion: {kind: ssh, username: ops, private_key_file: id, address: 10.0.0.1, port: "2222"}
win: {kind: winrm, username: ops, password: secret-3, transport: ntlm, ca_file: ca.pem, hosts: "*"}
db: {kind: database, username: app, password: secret-4, tls: verify, hosts: [10.0.0.0/8, "*.db"]}
camera: {kind: http, scheme: digest, username: root, password: secret-5, hosts: cam-*}
api: {kind: http, scheme: bearer, token: secret-6, hosts: [api.example.com]}
aws: {kind: aws, profile: ops, region: eu-central-1}
key: {kind: aws, access_key_id: AKIA, secret_access_key: secret-7, session_token: secret-8}
smtp: {kind: smtp, host: mail.example.com, sender: ops@example.com, username: x, password: secret-9}
slack: {kind: webhook, url: "https://hooks.example.com/secret-10"}
switch: {kind: snmp, version: "2c", community: secret-11, hosts: "*"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "credentials.yaml"
    made.write_text(RIGHT)
    made.chmod(0o600)
    return made


def mistakes(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        CredentialFile(path).refresh()
    return str(caught.value)


def test_every_kind_is_read_and_its_secrets_are_known(path: Path) -> None:
    store = CredentialFile(path)
    assert {store(name).kind for name in ("win", "db", "api", "aws", "smtp", "slack")} == {
        *("winrm", "database", "http", "aws", "smtp", "webhook")
    }
    secrets = set(store.secrets())
    assert {f"secret-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)} <= secrets
    assert "https://hooks.example.com/secret-10" in secrets
    assert store("aws").setting("region") == "eu-central-1"
    assert store("switch").setting("community") == "secret-11"
    assert store("web").setting("jump") == "bastion"


def test_no_secret_is_in_a_representation(path: Path) -> None:
    store = CredentialFile(path)
    for name in ("web", "win", "db", "camera", "api", "key", "smtp", "slack", "switch"):
        assert "secret-" not in repr(store(name))


def test_files_are_named_relative_to_the_credentials(path: Path) -> None:
    assert CredentialFile(path)("win").setting("ca_file") == str(path.parent / "ca.pem")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{kind: carrier-pigeon}", "x.kind"),
        ("{kind: database, password: hunter2}", "x.hosts"),
        ("{kind: http, token: hunter2, hosts: '*'}", "x.scheme"),
        ("{kind: http, scheme: plain, token: hunter2, hosts: '*'}", "x.scheme"),
        ("{kind: webhook}", "x.url"),
        ("{kind: snmp, version: '1', hosts: '*'}", "x.version"),
        ("{kind: winrm, username: u, password: pw, hosts: []}", "x.hosts"),
        ("{kind: winrm, username: u, password: pw, hosts: '*'}", "x.password"),
        ("{kind: aws, acces_key_id: AKIA}", "access_key_id"),
        ("{kind: smtp, host: h, sender: s, port: 25}", "x.port"),
        ("{username: u, become: su}", "x.become"),
    ],
)
def test_a_mistake_is_named_without_its_value(path: Path, entry: str, said: str) -> None:
    text = mistakes(path, f"x: {entry}\n")
    assert said in text
    assert "hunter2" not in text


def test_every_hidden_field_of_a_kind_is_a_secret() -> None:
    for name, kind in KINDS.items():
        assert not set(kind.shown) & set(kind.hidden), name
        assert set(kind.required) <= set(kind.fields), name


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("a.db", True),
        ("A.DB.", True),
        ("db", False),
        ("a.db.evil.example", False),
        ("10.evil.example", False),
    ],
)
def test_a_secret_is_shown_to_its_hosts_only(path: Path, host: str, allowed: bool) -> None:
    credential = CredentialFile(path)("db")
    assert (credential.objection_to(host) == "") is allowed
    if not allowed:
        with pytest.raises(Refused, match="may not be shown"):
            resolve(CredentialFile(path), "db", "database", "a query", host)


def test_a_credential_serves_its_kind_only(path: Path) -> None:
    store = CredentialFile(path)
    with pytest.raises(Refused, match="of kind database"):
        resolve(store, "db", "ssh", "a login")
    with pytest.raises(Refused, match="no credential 'nobody'"):
        resolve(store, "nobody", "ssh", "a login")
    assert resolve(store, "db", "database", "a query", "10.0.0.1") == store("db")


def test_a_credential_without_hosts_may_be_shown_everywhere() -> None:
    assert Credential().objection_to("anywhere.example") == ""
