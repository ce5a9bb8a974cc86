"""AWS by SDK and by CLI against moto, behind a proxy that misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.aws import aws as aws
from helpers.aws import moto as moto
from helpers.places import MemorySink, new_attempt, until
from helpers.servers import free_port
from opsconductor.agent.executors.aws.cli import AwsCliExecutor
from opsconductor.agent.executors.aws.sdk import AwsSdkExecutor
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.local.executor import LocalExecutor
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, AwsCall, Rendered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.aws import AwsProxy
    from opsconductor.agent.executors.base import Executor

AWS = str(Path(sys.executable).parent / "aws")


def key(url: str, **more: str) -> Credential:
    shown = {"access_key_id": "AKIATEST", "region": "us-east-1", "endpoint_url": url, **more}
    hidden = (("secret_access_key", "secret-key-1234"),)
    return Credential("aws", settings=tuple(shown.items()), hidden=hidden)


class Account:
    """An executor, and as whom it asks."""

    def __init__(self, executor_of: Any, credential: Credential) -> None:
        self.credential = credential
        self.executor: Executor = executor_of(lambda _: self.credential)
        self.sink = MemorySink()
        self.cancel = asyncio.Event()

    async def run(
        self, rendered: Rendered, *, seconds: float = 60, read_only: bool = False
    ) -> Outcome:
        call = Call(new_attempt(), rendered, None, timedelta(seconds=seconds), read_only=read_only)
        return await self.executor.run(call, self.sink, self.cancel)

    async def ask(self, operation: str, **arguments: Any) -> Outcome:
        options = {
            name: arguments.pop(name) for name in ("dry_run", "paginate") if name in arguments
        }
        run = {name: arguments.pop(name) for name in ("seconds", "read_only") if name in arguments}
        service = arguments.pop("service", "ec2")
        return await self.run(AwsCall(service, operation, arguments, **options), **run)


@pytest.fixture
async def sdk(aws: AwsProxy) -> AsyncIterator[Account]:
    account = Account(AwsSdkExecutor, key(aws.url))
    yield account
    await account.executor.close()


@pytest.fixture
async def cli(aws: AwsProxy) -> AsyncIterator[Account]:
    if not os.access(AWS, os.X_OK):
        pytest.skip("the AWS CLI is not installed: pip install awscli")
    local = LocalExecutor(grace=timedelta(seconds=1))
    made = Account(lambda known: AwsCliExecutor(known, local, program=AWS), key(aws.url))
    yield made
    await local.close()


def told(outcome: Outcome) -> tuple[str, str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code, outcome.error.error_class


async def instance(account: Account) -> str:
    outcome = await account.ask("run_instances", ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    assert outcome.state == "completed", outcome.error
    found: str = outcome.output["Instances"][0]["InstanceId"]
    return found


async def test_an_operation_is_carried_out_and_its_answer_structured(sdk: Account) -> None:
    name = await instance(sdk)
    outcome = await sdk.ask("stop_instances", InstanceIds=[name])
    assert (outcome.state, outcome.effects) == ("completed", "done")
    assert outcome.output["StoppingInstances"][0]["CurrentState"]["Name"] == "stopping"
    assert "ResponseMetadata" not in outcome.output
    seen = await sdk.ask("describe_instances", InstanceIds=[name], read_only=True)
    assert (seen.state, seen.effects) == ("completed", "none")
    launched = seen.output["Reservations"][0]["Instances"][0]["LaunchTime"]
    assert launched.startswith("20")
    assert json.loads(sdk.sink.stdout.splitlines()[-1]) == seen.output


async def test_all_pages_are_joined(sdk: Account) -> None:
    for number in range(5):
        await sdk.ask("create_queue", service="sqs", QueueName=f"page-{number}")
    sdk.sink = MemorySink()
    outcome = await sdk.ask(
        "list_queues", service="sqs", paginate=True, PaginationConfig={"PageSize": 2}
    )
    assert outcome.state == "completed", outcome.error
    assert len([url for url in outcome.output["QueueUrls"] if "/page-" in url]) == 5
    assert len(sdk.sink.stdout.splitlines()) >= 3


async def test_a_dry_run_is_the_services_own_and_changes_nothing(sdk: Account) -> None:
    name = await instance(sdk)
    outcome = await sdk.ask("terminate_instances", InstanceIds=[name], dry_run=True)
    assert (outcome.state, outcome.effects) == ("completed", "none"), outcome.error
    assert outcome.output["dry_run"] is True
    seen = await sdk.ask("describe_instances", InstanceIds=[name], read_only=True)
    assert seen.output["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"


async def test_a_dry_run_that_was_carried_out_is_told(sdk: Account) -> None:
    # moto does not know that creating a network can be only tried.
    outcome = await sdk.ask("create_vpc", CidrBlock="10.1.0.0/16", dry_run=True)
    assert told(outcome) == ("failed", "done", "DRY_RUN_IGNORED", "rollback_required")


async def test_an_operation_without_dry_run_is_not_carried_out(sdk: Account, aws: AwsProxy) -> None:
    outcome = await sdk.ask("create_bucket", service="s3", Bucket="x", dry_run=True)
    assert told(outcome)[:3] == ("failed", "none", "DRY_RUN_IMPOSSIBLE")
    assert aws.requests == []


@pytest.mark.parametrize(
    ("operation", "arguments", "code", "word"),
    [
        ("stop_instance", {}, "OPERATION_UNKNOWN", "stop_instances"),
        ("stop_instances", {"InstanceId": "x"}, "INPUT_INVALID", "InstanceId"),
        ("stop_instances", {"InstanceIds": "x"}, "INPUT_INVALID", "InstanceIds"),
        ("__class__", {}, "OPERATION_UNKNOWN", "__class__"),
        ("describe_instances", {"service": "no-such"}, "SERVICE_UNKNOWN", "no-such"),
    ],
)
async def test_what_aws_does_not_know_is_refused_unsent(
    sdk: Account, aws: AwsProxy, operation: str, arguments: dict[str, Any], code: str, word: str
) -> None:
    outcome = await sdk.ask(operation, **arguments)
    assert told(outcome)[:3] == ("failed", "none", code)
    assert outcome.error is not None
    assert word in outcome.error.message
    assert aws.requests == []


async def test_an_error_of_the_service_is_told_with_its_code(sdk: Account) -> None:
    outcome = await sdk.ask("stop_instances", InstanceIds=["i-00000000000000000"])
    assert told(outcome)[:3] == ("failed", "none", "AWS_ERROR")
    assert outcome.error is not None
    assert "InvalidInstanceID.NotFound" in outcome.error.message


@pytest.mark.parametrize(
    ("fault", "read_only", "expected"),
    [
        ("throttle", False, ("failed", "none", "THROTTLED", "throttled")),
        ("denied", False, ("failed", "none", "ACCESS_DENIED", "non_retryable")),
        ("broken", False, ("failed", "possible", "AWS_SERVER_ERROR", "retryable")),
        ("broken", True, ("failed", "none", "AWS_SERVER_ERROR", "retryable")),
        ("drop", False, ("unknown", "possible", "CONNECTION_LOST", "unknown")),
        ("drop", True, ("unreachable", "none", "CONNECTION_LOST", "unreachable")),
    ],
)
async def test_what_goes_wrong_is_told_apart_and_never_sent_twice(
    sdk: Account, aws: AwsProxy, fault: Any, read_only: bool, expected: tuple[str, ...]
) -> None:
    aws.fault = fault
    outcome = await sdk.ask("start_instances", InstanceIds=["i-1"], read_only=read_only)
    assert told(outcome) == expected
    assert len(aws.requests) == 1
    aws.fault = ""
    assert (await sdk.ask("describe_regions", read_only=True)).state == "completed"


async def test_an_expired_login_is_named_with_the_command_that_renews_it(
    sdk: Account, aws: AwsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[profile base]\nregion=us-east-1\nendpoint_url={aws.url}\n"
        "mfa_serial=arn:aws:iam::1:mfa/x\n"
        "[profile sso]\nsso_start_url=https://x.awsapps.com/start\nsso_region=us-east-1\n"
        "sso_account_id=1\nsso_role_name=ops\nregion=us-east-1\n"
        "[profile mfa]\nrole_arn=arn:aws:iam::1:role/x\nsource_profile=base\n"
        "mfa_serial=arn:aws:iam::1:mfa/x\nregion=us-east-1\n"
    )
    (tmp_path / "keys").write_text("[base]\naws_access_key_id=a\naws_secret_access_key=b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("HOME", str(tmp_path))
    aws.fault = "expired"
    for profile, code, command in (
        ("base", "LOGIN_EXPIRED", "aws sts get-session-token --profile base"),
        ("sso", "LOGIN_EXPIRED", "aws sso login --profile sso"),
        (
            "mfa",
            "LOGIN_NEEDED",
            "get-session-token --profile base --serial-number arn:aws:iam::1:mfa/x",
        ),
        ("nobody", "CREDENTIAL_INVALID", "nobody"),
    ):
        settings = (("profile", profile), ("endpoint_url", aws.url))
        sdk.credential = Credential("aws", settings=settings)
        outcome = await sdk.ask("describe_instances", read_only=True)
        assert told(outcome)[:3] == ("failed", "none", code)
        assert outcome.error is not None
        assert command in outcome.error.message


async def test_a_profile_is_not_mixed_with_keys_of_the_environment(
    sdk: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-agent")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-agent")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "config").write_text("[profile bare]\nregion=us-east-1\n")
    sdk.credential = Credential("aws", settings=(("profile", "bare"),))
    outcome = await sdk.ask("describe_instances", read_only=True)
    assert told(outcome)[:3] == ("failed", "none", "CREDENTIAL_INVALID")


async def test_clients_are_kept_for_each_credential(sdk: Account, aws: AwsProxy) -> None:
    for number in (1, 2):
        sdk.credential = key(aws.url, access_key_id=f"AKIA{number}")
        for _ in range(2):
            assert (await sdk.ask("describe_regions", read_only=True)).state == "completed"
    assert len(sdk.executor._clients._clients) == 2  # type: ignore[attr-defined]


async def test_a_closed_port_is_unreachable(sdk: Account) -> None:
    sdk.credential = key(f"http://127.0.0.1:{free_port()}")
    outcome = await sdk.ask("start_instances", InstanceIds=["i-1"])
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")


async def test_a_cancel_after_sending_is_unknown_for_changes(sdk: Account, aws: AwsProxy) -> None:
    aws.fault = "hang"
    running = asyncio.create_task(sdk.ask("start_instances", InstanceIds=["i-1"]))
    await until(aws.arrived.is_set)
    sdk.cancel.set()
    assert told(await running)[:3] == ("unknown", "possible", "OUTCOME_UNKNOWN")
    outcome = await sdk.ask("start_instances", InstanceIds=["i-1"])
    assert told(outcome)[:3] == ("cancelled", "none", "CANCELLED")
    assert len(aws.requests) == 1


async def test_a_timeout_of_a_read_has_no_effects(sdk: Account, aws: AwsProxy) -> None:
    aws.fault = "hang"
    outcome = await sdk.ask("describe_instances", read_only=True, seconds=0.7)
    assert told(outcome)[:3] == ("timed_out", "none", "TIMEOUT")


async def test_a_credential_without_a_login_is_refused(sdk: Account) -> None:
    sdk.credential = Credential("aws", settings=(("region", "us-east-1"),))
    assert told(await sdk.ask("describe_regions"))[2] == "CREDENTIAL_INVALID"
    assert told(await sdk.run(ArgvCommand(("aws",))))[2] == "METHOD_MISMATCH"


async def test_the_cli_asks_as_the_credential_says(cli: Account, sdk: Account) -> None:
    name = await instance(sdk)
    words = ("aws", "ec2", "describe-instances", "--instance-ids", name, "--output", "json")
    outcome = await cli.run(ArgvCommand(words), read_only=True)
    assert (outcome.state, outcome.exit_code) == ("completed", 0), cli.sink.stderr
    seen = json.loads(cli.sink.stdout)["Reservations"][0]["Instances"][0]
    assert seen["InstanceId"] == name
    stop = ("aws", "ec2", "terminate-instances", "--instance-ids", name, "--dry-run")
    outcome = await cli.run(ArgvCommand(stop))
    assert (outcome.state, outcome.exit_code, outcome.effects) == ("completed", 0, "none")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("throttle", ("failed", "none", "THROTTLED", "throttled")),
        ("expired", ("failed", "none", "LOGIN_EXPIRED", "non_retryable")),
        ("denied", ("failed", "none", "ACCESS_DENIED", "non_retryable")),
    ],
)
async def test_the_cli_tells_the_same_errors_apart(
    cli: Account, aws: AwsProxy, fault: Any, expected: tuple[str, ...]
) -> None:
    aws.fault = fault
    outcome = await cli.run(ArgvCommand(("aws", "ec2", "start-instances", "--instance-ids", "i-1")))
    assert told(outcome) == expected
    assert len(aws.requests) == 1


@pytest.mark.parametrize(
    "word",
    [
        "file:///etc/passwd",
        "fileb://x",
        "http://127.0.0.1/x",
        "--description=file:///etc/passwd",
        "FILE:///etc/passwd",
        "--profile",
        "--profile=other",
        "--endpoint-url=http://evil",
        "--debug",
    ],
)
async def test_what_the_cli_would_fetch_or_be_told_is_refused(
    cli: Account, aws: AwsProxy, word: str
) -> None:
    outcome = await cli.run(ArgvCommand(("aws", "ec2", "create-tags", word)))
    assert told(outcome)[:3] == ("failed", "none", "ARGUMENT_UNSAFE")
    assert aws.requests == []


async def test_the_cli_runs_nothing_else(cli: Account) -> None:
    for words in (("sh", "-c", "true"), ()):
        assert told(await cli.run(ArgvCommand(words)))[2] == "METHOD_MISMATCH"


async def test_a_missing_cli_is_named(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsconductor.agent.executors.aws.cli.shutil.which", lambda *_, **__: None)
    local = LocalExecutor()
    account = Account(lambda known: AwsCliExecutor(known, local), key(aws.url))
    assert told(await account.run(ArgvCommand(("aws", "ec2"))))[2] == "COMMAND_NOT_FOUND"
    await local.close()


async def test_the_key_of_the_cli_is_gone_afterwards_and_never_in_its_arguments(
    cli: Account, aws: AwsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    aws.fault = "hang"
    running = asyncio.create_task(cli.run(ArgvCommand(("aws", "ec2", "describe-regions"))))
    await until(aws.arrived.is_set)
    assert modes_of_folders(tmp_path) == [0o700]
    assert not any(b"secret-key-1234" in line for line in command_lines())
    cli.cancel.set()
    assert (await running).state == "cancelled"
    assert modes_of_folders(tmp_path) == []


def modes_of_folders(path: Path) -> list[int]:
    return [folder.stat().st_mode & 0o777 for folder in path.iterdir()]


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found
