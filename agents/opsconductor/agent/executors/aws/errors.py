"""What became of a call that AWS, or the way to it, did not answer well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.agent.executors.aws import login
from opsconductor.agent.executors.base import Outcome, StepFailure

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from opsconductor.agent.executors.base import Call, Effects
    from opsconductor.agent.executors.credential import Credential
    from opsconductor.tool_registry.rendering.rendered import AwsCall

_SERVER_ERROR = 500


def told(
    call: Call, request: AwsCall, credential: Credential, error: Exception, *, sent: bool
) -> Outcome:
    """Returns the outcome of an error of botocore."""
    from botocore import exceptions

    name = f"{request.service} {request.operation} as {login.account(credential)}"
    match error:
        case exceptions.ClientError():
            return _answered(call, request, credential, error, name)
        case exceptions.ParamValidationError():
            return Outcome.refused("INPUT_INVALID", f"{name}: {error}")
        case (
            exceptions.SSOTokenLoadError()
            | exceptions.UnauthorizedSSOTokenError()
            | exceptions.SSOError()
            | exceptions.TokenRetrievalError()
        ):
            return login.expired(credential, str(error))
        case (
            exceptions.NoCredentialsError()
            | exceptions.ProfileNotFound()
            | exceptions.PartialCredentialsError()
            | exceptions.ConfigParseError()
            | exceptions.InvalidConfigError()
            | exceptions.CredentialRetrievalError()
        ):
            return Outcome.refused("CREDENTIAL_INVALID", f"{name}: {error}")
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return Outcome.unreachable("UNREACHABLE", f"{name}: {error}")
        case exceptions.SSLError():
            return Outcome.refused("TLS_UNTRUSTED", f"{name}: {error}")
    message = f"{name}: {error or type(error).__name__}"
    if not sent:
        return Outcome.refused("AWS_ERROR", message)
    return Outcome.lost(call, "CONNECTION_LOST", message)


def _answered(
    call: Call, request: AwsCall, credential: Credential, error: ClientError, name: str
) -> Outcome:
    """Returns the outcome of an error that AWS answered with."""
    details = error.response.get("Error", {})
    code, said = str(details.get("Code", "")), str(details.get("Message", ""))
    message = f"{name}: {said} ({code})"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == login.DRY_RUN and request.dry_run:
        return Outcome("completed", output={"dry_run": True, "message": said})
    if (refused := login.refusal(credential, code, message, said)) is not None:
        return refused
    if status >= _SERVER_ERROR:
        effects: Effects = "none" if call.read_only else "possible"
        failure = StepFailure("AWS_SERVER_ERROR", message, "retryable")
        return Outcome("failed", effects=effects, error=failure)
    return Outcome.refused("AWS_ERROR", message)
