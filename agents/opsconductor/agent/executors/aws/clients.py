"""boto3's sessions and clients, kept by credential; imports it: used in threads only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opsconductor.agent.executors.aws.login import mfa_wanted
from opsconductor.agent.executors.base import Outcome, Refused

if TYPE_CHECKING:
    from types import TracebackType

    from opsconductor.agent.executors.credential import Credential
    from opsconductor.agent.executors.exchange import Progress

_CONNECT_TIMEOUT = 10
_READ_TIMEOUT = 60
_here = threading.local()


class Abandoned(Exception):
    """Nobody waits for the answer any more, so nothing is sent."""


class Sending:
    """Tells of the call of one thread whether its request was sent; an abandoned one is not."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.abandoned = False

    def __enter__(self) -> None:
        _here.sending = self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _here.sending = None

    @property
    def sent(self) -> bool:
        """Whether a request went out."""
        return self._progress.sent

    def begins(self) -> None:
        """Notes that a request goes out now."""
        if self.abandoned:
            raise Abandoned
        self._progress.sent = True


class AwsClients:
    """All sessions and clients of an agent."""

    def __init__(self) -> None:
        # Making a client reads large files and is not safe in two threads of one session.
        self._making = threading.Lock()
        self._sessions: dict[Credential, Any] = {}
        self._clients: dict[tuple[Credential, str, str], Any] = {}

    def client(self, credential: Credential, service: str, region: str) -> Any:
        """Returns the client of a service; raises Refused where none can be made."""
        from botocore import exceptions

        key = (credential, service, region)
        with self._making:
            if key not in self._clients:
                try:
                    self._clients[key] = self._made(credential, service, region)
                except exceptions.UnknownServiceError as error:
                    message = f"AWS has no service {service}"
                    raise Refused(Outcome.refused("SERVICE_UNKNOWN", message)) from error
                except exceptions.NoRegionError as error:
                    message = f"{service} needs a region: give one, or put one into the credential"
                    raise Refused(Outcome.refused("REGION_MISSING", message)) from error
            return self._clients[key]

    def close(self) -> None:
        """Closes kept connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _made(self, credential: Credential, service: str, region: str) -> Any:
        from botocore.config import Config

        session = self._session(credential)
        client = session.client(
            service,
            region_name=region or credential.setting("region") or session.region_name,
            endpoint_url=credential.setting("endpoint_url") or None,
            config=Config(
                connect_timeout=_CONNECT_TIMEOUT,
                read_timeout=_READ_TIMEOUT,
                # What is tried again is the plan's decision: it knows what may happen twice.
                retries={"total_max_attempts": 1, "mode": "standard"},
                user_agent_extra="opsconductor",
                proxies={},
            ),
        )
        client.meta.events.register("before-send", _before_send)
        return client

    def _session(self, credential: Credential) -> Any:
        if credential in self._sessions:
            return self._sessions[credential]
        import boto3

        profile = credential.setting("profile")
        if profile:
            # A profile that is named keeps botocore from looking at the environment for keys.
            session = boto3.session.Session(profile_name=profile)
            _refuse_prompts(session, credential)
        else:
            session = boto3.session.Session(
                aws_access_key_id=credential.setting("access_key_id"),
                aws_secret_access_key=credential.setting("secret_access_key"),
                aws_session_token=credential.setting("session_token") or None,
            )
        self._sessions[credential] = session
        return session


def _refuse_prompts(session: Any, credential: Credential) -> None:
    """Keeps botocore from asking for an MFA code on a terminal nobody sits at."""

    def refuse(_prompt: str) -> str:
        raise Refused(mfa_wanted(credential))

    resolver = session._session.get_component("credential_provider")
    for provider in resolver.providers:
        if hasattr(provider, "_prompter"):
            provider._prompter = refuse


def _before_send(**_event: Any) -> None:
    sending: Sending | None = getattr(_here, "sending", None)
    if sending is not None:
        sending.begins()
