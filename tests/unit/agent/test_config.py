from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from opsconductor.agent.config import ALL_SERVICES, Config
from opsconductor.agent.credentials import CredentialFile
from opsconductor.agent.lock import FolderLock, FolderLocked
from opsconductor.agent.settings import SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path


def test_defaults_offer_every_service(tmp_path: Path) -> None:
    config = Config.load(tmp_path / "agent.yaml", {})
    assert (config.services, config.capacity) == (ALL_SERVICES, 32)


def test_variables_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("endpoint: a:1\ncapacity: 4\nlabels: {site: x}\ndrain_grace: 1m30s\n")
    config = Config.load(
        path,
        {
            "OPSCONDUCTOR_AGENT_ENDPOINT": "[::1]:7443",
            "OPSCONDUCTOR_AGENT_LABELS": "site=berlin, rack=7",
            "OPSCONDUCTOR_AGENT_SERVICES": "asset-service",
            "OTHER": "ignored",
        },
    )
    assert config == Config(
        endpoint="[::1]:7443",
        capacity=4,
        labels={"site": "berlin", "rack": "7"},
        services=("asset-service",),
        drain_grace=timedelta(seconds=90),
    )


def test_mistakes_of_file_and_variables_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("endpont: a:1\ncapacity: many\ndrain_grace: 30\n")
    with pytest.raises(SettingsInvalid) as caught:
        Config.load(
            path, {"OPSCONDUCTOR_AGENT_LOG_LEVEL": "loud", "OPSCONDUCTOR_AGENT_SERVICE": "a"}
        )
    text = str(caught.value)
    for words in (
        "did you mean endpoint?",
        "capacity",
        "drain_grace",
        "OPSCONDUCTOR_AGENT_LOG_LEVEL",
        "did you mean SERVICES?",
    ):
        assert words in text


def test_the_label_with_an_agents_name_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("labels: {name: other}\n")
    with pytest.raises(SettingsInvalid, match="always the agent's own name"):
        Config.load(path, {})


def test_several_orchestrators_can_be_set_in_either_way(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("endpoint: a:1\nendpoints: [b:2, a:1]\n")
    assert Config.load(path, {}).all_endpoints == ("a:1", "b:2")
    named = Config.load(path, {"OPSCONDUCTOR_AGENT_ENDPOINTS": "c:3, d:4"})
    assert named.all_endpoints == ("a:1", "c:3", "d:4")
    path.write_text("endpoints: [b:2, nowhere]\n")
    with pytest.raises(SettingsInvalid, match="endpoints"):
        Config.load(path, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on_partition: continue", None),
        ("on_partition: {stop_after: 10m}", timedelta(minutes=10)),
        ('on_partition: "stop_after: 90s"', timedelta(seconds=90)),
        ("{}", None),
    ],
)
def test_what_a_cut_off_agent_does_can_be_set(
    tmp_path: Path, text: str, expected: timedelta | None
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    assert Config.load(path, {}).on_partition == expected


def test_on_partition_can_be_set_by_a_variable(tmp_path: Path) -> None:
    variables = {"OPSCONDUCTOR_AGENT_ON_PARTITION": "stop_after: 5m"}
    assert Config.load(tmp_path / "none", variables).on_partition == timedelta(minutes=5)


@pytest.mark.parametrize("value", ["stop", "stop_after", "{stop_after: soon}", "{stop: 1m}", "3"])
def test_a_mistake_in_on_partition_is_told(tmp_path: Path, value: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"on_partition: {value}")
    with pytest.raises(SettingsInvalid, match="on_partition"):
        Config.load(path, {})


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("endpoint: [")
    with pytest.raises(SettingsInvalid):
        Config.load(path, {})


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.yaml"
    path.write_text("web: {username: deploy, private_key_file: web.key, passphrase: open sesame}\n")
    path.chmod(0o600)
    return path


def test_a_credential_is_resolved_by_its_reference(logins: Path) -> None:
    store = CredentialFile(logins)
    credential = store("web")
    assert (credential.username, credential.private_key_file) == (
        "deploy",
        str(logins.parent / "web.key"),
    )
    assert list(store.secrets()) == ["open sesame"]
    assert "sesame" not in repr(credential)


def test_a_missing_credential_is_named(logins: Path) -> None:
    with pytest.raises(LookupError, match="'db'"):
        CredentialFile(logins)("db")
    with pytest.raises(LookupError, match="default"):
        CredentialFile(logins)("")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_credentials_others_can_read_are_refused(logins: Path, mode: int) -> None:
    logins.chmod(mode)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        CredentialFile(logins).refresh()


def test_mistakes_in_credentials_never_show_values(logins: Path) -> None:
    logins.write_text(
        "web: {user: x, password: 12345, kind: ftp}\ndb: hunter2\nx: {password: abc}\n"
    )
    with pytest.raises(SettingsInvalid) as caught:
        CredentialFile(logins).refresh()
    text = str(caught.value)
    assert "did you mean username?" in text
    assert "x.password" in text
    assert not any(secret in text for secret in ("12345", "hunter2", "abc"))


def test_a_changed_credentials_file_is_read_again(logins: Path) -> None:
    store = CredentialFile(logins)
    store("web")
    logins.write_text("web: {username: other}\n")
    assert store("web").username == "other"


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        with pytest.raises(FolderLocked, match="pid"), FolderLock(tmp_path):
            pass
    with FolderLock(tmp_path):
        pass
