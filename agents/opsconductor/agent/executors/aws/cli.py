"""Method "aws-cli": the AWS CLI on the agent's own host, as one profile or key and no other."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.agent.executors import needs
from opsconductor.agent.executors.aws import login
from opsconductor.agent.executors.base import Outcome, Refused, StepFailure
from opsconductor.agent.executors.environment import PATH
from opsconductor.tool_registry.rendering.rendered import ArgvCommand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.agent.executors.base import Call, Executor, Sink, Stream
    from opsconductor.agent.executors.credential import Credential, Credentials
    from opsconductor.agent.executors.registry import Collaborators

PROGRAM = "aws"
_TAIL = 8192
_CODE = re.compile(r"An error occurred \(([A-Za-z0-9_.]+)\)")
# The CLI reads these as files and addresses to fetch, wherever a value may stand.
_FETCHED = re.compile(r"(?:--[a-z0-9-]+=)?(?:file|fileb|https?)://", re.IGNORECASE)
_NOT_OURS = ("--profile", "--endpoint-url", "--no-verify-ssl", "--debug", "--ca-bundle")
_SSO = ("Error loading SSO Token", "Token has expired and refresh failed", "SSO session")
_MFA = ("Enter MFA code", "MFA")
_UNREACHABLE = ("Could not connect to the endpoint URL", "Connect timeout on endpoint URL")


def make(offered: Collaborators) -> AwsCliExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    needs.program(PROGRAM, "install the AWS CLI")
    return AwsCliExecutor(offered.credentials, offered.local)


class AwsCliExecutor:
    """Runs ``aws`` with a login of the agent's store; see the local executor for the rest."""

    method = "aws-cli"

    def __init__(self, credentials: Credentials, local: Executor, *, program: str = "") -> None:
        """Takes what runs commands, and the path of ``aws`` where it is not to be looked for."""
        self._credentials = credentials
        self._local = local
        self._program = program

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Runs the command. See Executor."""
        try:
            arguments = _arguments(call)
            program = self._program or shutil.which(PROGRAM, path=PATH)
            if not program:
                message = f"the AWS CLI is not on the agent's host: no {PROGRAM} in {PATH}"
                return Outcome.refused("COMMAND_NOT_FOUND", message)
            credential = login.credential_of(call, "", self._credentials)
        except Refused as refused:
            return refused.outcome
        folder = await asyncio.to_thread(_login_folder, credential)
        try:
            ours = dataclasses.replace(
                call,
                rendered=ArgvCommand((program, *arguments)),
                env={**call.env, **_environment(credential, folder)},
            )
            tail = _Tail(sink)
            outcome = await self._local.run(ours, tail, cancel)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if outcome.state != "completed" or outcome.error is not None:
            return outcome
        return _judged(arguments, credential, outcome, tail.text)

    async def close(self) -> None:
        """Keeps nothing of its own."""


class _Tail:
    """Passes output on and keeps the end of standard error, which tells why."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._kept = b""

    @property
    def text(self) -> str:
        """Returns what is kept."""
        return self._kept.decode("utf-8", "replace").strip()

    async def write(self, stream: Stream, data: bytes) -> None:
        """Passes output on."""
        if stream == "stderr":
            self._kept = (self._kept + data)[-_TAIL:]
        await self._sink.write(stream, data)


def _arguments(call: Call) -> tuple[str, ...]:
    rendered = call.rendered
    if not isinstance(rendered, ArgvCommand) or not rendered.argv or rendered.argv[0] != PROGRAM:
        message = "the aws-cli executor runs argument lists that begin with aws"
        raise Refused(Outcome.refused("METHOD_MISMATCH", message))
    for word in rendered.argv[1:]:
        if _FETCHED.match(word):
            message = f"the AWS CLI would fetch {word[:80]!r} and use what it finds; use aws-sdk"
            raise Refused(Outcome.refused("ARGUMENT_UNSAFE", message))
        if word.partition("=")[0] in _NOT_OURS:
            message = f"{word[:40]} is decided by the agent's credential, not by a command"
            raise Refused(Outcome.refused("ARGUMENT_UNSAFE", message))
    return rendered.argv[1:]


def _login_folder(credential: Credential) -> Path:
    """Returns a folder with the login of a key; a profile is read where it stands."""
    folder = Path(tempfile.mkdtemp(prefix="opsconductor-aws-"))
    (folder / "config").write_text("[default]\n", encoding="utf-8")
    lines = ["[default]"]
    names = ("access_key_id", "secret_access_key", "session_token")
    given = {name: credential.setting(name) for name in names}
    lines += [f"aws_{name} = {value}" for name, value in given.items() if value]
    (folder / "credentials").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _environment(credential: Credential, folder: Path) -> Mapping[str, str]:
    environment = {
        "AWS_PAGER": "",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CLI_AUTO_PROMPT": "off",
    }
    if profile := credential.setting("profile"):
        environment["AWS_PROFILE"] = profile
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            if name in os.environ:
                environment[name] = os.environ[name]
    else:
        environment["AWS_CONFIG_FILE"] = str(folder / "config")
        environment["AWS_SHARED_CREDENTIALS_FILE"] = str(folder / "credentials")
    if region := credential.setting("region"):
        environment["AWS_DEFAULT_REGION"] = region
    if endpoint := credential.setting("endpoint_url"):
        environment["AWS_ENDPOINT_URL"] = endpoint
    return environment


def _judged(
    arguments: tuple[str, ...], credential: Credential, outcome: Outcome, said: str
) -> Outcome:
    """Returns what a failed command means; one that succeeded stays as it is."""
    if outcome.exit_code == 0:
        return outcome
    found = _CODE.search(said)
    code = found[1] if found else ""
    line = (said.splitlines() or [""])[-1][:300]
    message = f"{' '.join(arguments[:2])} as {login.account(credential)}: {line}"
    if code == login.DRY_RUN and "--dry-run" in arguments:
        return Outcome("completed", 0)
    refused = login.refusal(credential, code, message, line)
    if refused is None and any(sign in said for sign in _SSO):
        refused = login.expired(credential, line)
    elif refused is None and any(sign in said for sign in _MFA):
        refused = login.mfa_wanted(credential)
    elif refused is None and any(sign in said for sign in _UNREACHABLE):
        refused = Outcome.unreachable("UNREACHABLE", message)
    elif refused is None and code:
        refused = Outcome("failed", error=StepFailure("AWS_ERROR", message, "non_retryable"))
    if refused is None:
        return outcome
    return dataclasses.replace(refused, exit_code=outcome.exit_code)
