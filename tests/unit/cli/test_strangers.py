"""Who does not know opsctl yet is told what to do, or is simply understood."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from opsconductor.cli import up
from opsconductor.cli.embedded import Options
from opsconductor.cli.failure import Failed
from opsconductor.cli.session import Session
from opsconductor.cli.terminal import Terminal
from opsconductor.orchestrator.pki import CertificateAuthority
from opsconductor.rpc.errors import NotFound
from opsconductor.v1 import plan_service_pb2 as plans
from opsconductor.v1.tool_service_pb2 import Tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.opsctl import Opsctl
    from helpers.scripted_orchestrator import Script


def test_a_plan_file_may_be_given_without_an_option(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("steps: []")
    script.preview = plans.PreviewResponse(plan_id="p")
    assert opsctl("plan", str(file)).exit_code == 0
    assert script.calls[-1].plan.document == b"steps: []"
    assert opsctl("plan").exit_code == opsctl("plan", str(file), "-f", str(file)).exit_code == 2


def test_a_plan_file_in_place_of_a_tool_is_recognised(opsctl: Opsctl) -> None:
    result = opsctl("run", "change.yaml")
    assert result.exit_code == 2
    assert "opsctl run -f change.yaml" in result.stderr


def test_a_target_among_the_inputs_is_sent_to_its_option(opsctl: Opsctl, script: Script) -> None:
    tool = Tool(name="check_disk_space")
    tool.parameters.update({"properties": {"path": {"type": "string"}}})
    script.tools.append(tool)
    result = opsctl("run", "check_disk_space", "target=web-01")
    assert result.exit_code == 2
    assert "give it with --target" in result.stderr


def test_a_file_that_is_not_there_is_said_in_words(opsctl: Opsctl) -> None:
    result = opsctl("run", "-f", "nosuch.yaml")
    assert "cannot read the plan nosuch.yaml: No such file or directory" in result.stderr


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("execution", "opsctl runs list"),
        ("approval request", "opsctl approvals list --state all"),
        ("agent", "opsctl agents list"),
        ("asset", "opsctl assets list"),
    ],
)
def test_a_name_that_does_not_exist_says_how_to_see_those_that_do(
    opsctl: Opsctl, script: Script, what: str, command: str
) -> None:
    script.error = NotFound(f"there is no {what} x")
    assert f"'{command}' shows them" in opsctl("runs", "get", "x").stderr


@pytest.mark.parametrize("words", [("runs", "show"), ("approvals", "get"), ("tools", "get")])
def test_get_and_show_are_the_same(opsctl: Opsctl, words: tuple[str, str]) -> None:
    assert "No such command" not in opsctl(*words, "x").stderr
    assert f"  {words[1]} " not in opsctl(words[0], "--help").stdout


@pytest.mark.parametrize(
    "words", [("run",), ("runs", "probe"), ("runs", "resolve"), ("agents", "confirm-restore")]
)
def test_the_lines_of_help_are_as_long_as_the_terminal(
    opsctl: Opsctl, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = opsctl(*words, "--help").stdout.partition("Usage:")[2].partition("╭")[0]
    *paragraphs, _ = [part.splitlines() for part in re.split(r"\n\s*\n", said)[1:]]
    assert paragraphs
    for lines in paragraphs:
        for line, following in itertools.pairwise(lines):
            first = following.split()[0]
            assert len(f"{line.rstrip()} {first}") > 79, f"{first!r} fits at the end of {line!r}"


def test_assets_can_be_deleted(opsctl: Opsctl, script: Script) -> None:
    assert opsctl("assets", "delete", "web-01").stdout == "web-01 deleted\n"
    assert script.calls[-1].name == "web-01"


class JoinsAtTheSecondTry:
    """An embedded deployment whose agent's first token was used up by a run that was killed."""

    agent = None
    agent_name = "local"
    agent_segment = "dmz"
    agent_is_enrolled = False

    def __init__(self, folder: Path, context_file: Path) -> None:
        self.context_file = context_file
        self.token_file = folder / "local-agent.token"
        self.tries = self.starts = 0

    def start_agent(self, options: Options) -> None:
        """Starts nothing, but counts."""
        self.starts += 1

    def wait(self, started: object, process: object, ready: Callable[[], bool]) -> None:
        self.tries += 1
        if self.tries == 1:
            raise Failed("the token was used")


@pytest.mark.parametrize(("given", "segment"), [(None, "dmz"), ("office", "office")])
def test_an_agent_that_could_not_join_gets_a_token_for_its_own_segment(
    opsctl: Opsctl, script: Script, tmp_path: Path, given: str | None, segment: str
) -> None:
    embedded: Any = JoinsAtTheSecondTry(tmp_path, opsctl.context_file)
    process: Any = object()
    session = Session(Terminal(), str(opsctl.context_file))
    up._await_agent(session, embedded, Options(segment=given), process)
    assert script.calls[-1].segment == segment
    assert embedded.token_file.read_text() == "token: secret\n"


class EndsAsItIsFound(JoinsAtTheSecondTry):
    """An embedded deployment whose agent was ending when ``opsctl up`` came."""

    agent_is_enrolled = True
    agent: Any = SimpleNamespace(find=lambda: None)


def test_an_agent_that_was_ending_when_up_came_is_started_again(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    embedded: Any = EndsAsItIsFound(tmp_path, opsctl.context_file)
    session = Session(Terminal(), str(opsctl.context_file))
    up._await_agent(session, embedded, Options(), None)
    assert (embedded.tries, embedded.starts) == (2, 1)
    assert not embedded.token_file.exists()


def test_an_agent_that_runs_and_does_not_connect_is_not_started_beside_itself(
    opsctl: Opsctl, script: Script, tmp_path: Path
) -> None:
    embedded: Any = EndsAsItIsFound(tmp_path, opsctl.context_file)
    embedded.agent = SimpleNamespace(find=lambda: 4711)
    session = Session(Terminal(), str(opsctl.context_file))
    with pytest.raises(Failed):
        up._await_agent(session, embedded, Options(), None)
    assert embedded.starts == 0


def test_a_certificate_of_another_deployment_is_named_when_nobody_answers(
    opsctl: Opsctl, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    other = CertificateAuthority.load_or_create(tmp_path / "other", now=now)
    opsctl.set_context(endpoint="127.0.0.1:1", ca_file=str(tmp_path / "other" / "ca.crt"))
    result = opsctl("runs", "list")
    assert result.exit_code == 4
    assert "was not issued by the CA in" in result.stderr
    doctor = opsctl("doctor")
    assert doctor.exit_code == 1
    assert "was not issued by the CA in" in doctor.stdout
    old = now - timedelta(days=3)
    expired, _ = other.issue_client("operator", "alice", "acme", timedelta(days=1), now=old)
    (tmp_path / "op.crt").write_bytes(expired)
    assert "expired on" in opsctl("runs", "list").stderr
