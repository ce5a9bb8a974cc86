"""As whom AWS is asked: one profile or key of the agent's store, and nothing of its environment."""

from __future__ import annotations

import configparser
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.credential import Credential, Credentials, resolve

if TYPE_CHECKING:
    from opsconductor.agent.executors.base import Call

DEFAULT = "aws"
"""The reference that serves calls that name none."""
EXPIRED = frozenset(
    [
        *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
        *("UnauthorizedSSOTokenError", "SSOTokenLoadError", "InvalidGrantException"),
    ]
)
THROTTLED = frozenset(
    [
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException"),
        *("RequestThrottled", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
        *(
            "ProvisionedThroughputExceededException",
            "BandwidthLimitExceeded",
            "PriorRequestNotComplete",
        ),
        *("EC2ThrottledException", "TransactionInProgressException", "ThrottlingError"),
    ]
)
AUTH = frozenset(
    [
        *("AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
        *("UnrecognizedClientException", "InvalidToken", "IncompleteSignature"),
    ]
)
DENIED = frozenset(
    [
        *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"),
        *("AuthorizationError", "OptInRequired"),
    ]
)
DRY_RUN = "DryRunOperation"


def credential_of(call: Call, named: str, credentials: Credentials) -> Credential:
    """Returns the account's credential: the call's own, its target's, or the default."""
    reference = named or str((call.target or {}).get("credential") or "") or DEFAULT
    credential = resolve(credentials, reference, "aws", "AWS")
    has_key = credential.setting("access_key_id") and credential.setting("secret_access_key")
    if not credential.setting("profile") and not has_key:
        message = (
            f"credential {reference!r} needs a profile, or access_key_id and secret_access_key"
        )
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", message))
    return credential


def account(credential: Credential) -> str:
    """Returns the account as people know it."""
    profile = credential.setting("profile")
    return f"profile {profile}" if profile else f"key {credential.setting('access_key_id')}"


def refusal(credential: Credential, code: str, message: str, said: str) -> Outcome | None:
    """Returns the outcome of an error code that any service may give, None for another."""
    if code in THROTTLED:
        return Outcome.throttled("THROTTLED", message)
    if code in EXPIRED:
        return expired(credential, said)
    if code in AUTH:
        return Outcome.refused("AUTH_FAILED", message)
    if code in DENIED:
        return Outcome.refused("ACCESS_DENIED", message)
    return None


def expired(credential: Credential, said: str) -> Outcome:
    """Returns the outcome of a login that has run out, with the command that renews it."""
    message = f"the AWS login of {account(credential)} has expired: {said}"
    return Outcome.refused("LOGIN_EXPIRED", f"{message}. {_renewal(credential)}")


def mfa_wanted(credential: Credential) -> Outcome:
    """Returns the outcome of a profile that asks for a code which only a person has."""
    message = f"{account(credential)} asks for an MFA code, which an agent cannot enter"
    return Outcome.refused("LOGIN_NEEDED", f"{message}. {_renewal(credential)}")


def _renewal(credential: Credential) -> str:
    profile = credential.setting("profile")
    if not profile:
        return "Put a new key and token into the agent's credentials.yaml"
    section = _section(profile)
    run = "As the agent's user on its host, run"
    if "sso_session" in section or "sso_start_url" in section:
        return f"{run}: aws sso login --profile {shlex.quote(profile)}"
    source = section.get("source_profile", profile)
    serial = section.get("mfa_serial", "ARN-OF-THE-MFA-DEVICE")
    command = ["aws", "sts", "get-session-token", "--profile", source, "--serial-number", serial]
    return f"{run}: {shlex.join(command)} --token-code CODE, and put what it prints into ~/.aws"


def _section(profile: str) -> dict[str, str]:
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    for name in (f"profile {profile}", profile):
        if parser.has_section(name):
            return dict(parser.items(name))
    return {}
