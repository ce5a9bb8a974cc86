"""How a request shows who sends it: digest, basic, bearer or a header, from the agent's store."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.credential import Credential, Credentials, resolve

if TYPE_CHECKING:
    from collections.abc import Generator

    import httpx

    from opsconductor.tool_registry.rendering.rendered import HttpRequest

_TOKEN_SCHEMES = ("bearer", "header")


class HttpLogins:
    """Makes logins of credentials, and keeps those that a server has given a nonce to."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._digests: dict[tuple[Credential, str], httpx.Auth] = {}

    def login_of(self, request: HttpRequest) -> httpx.Auth | None:
        """Returns the login a request asks for, None without one; raises Refused."""
        if not request.credential:
            return None
        parts = urlsplit(request.url)
        host = parts.hostname or ""
        credential = resolve(
            self._credentials, request.credential, "http", f"requests to {host}", host
        )
        scheme = credential.setting("scheme", "digest")
        if problem := _problem(request, credential, scheme, parts.scheme, host):
            message = f"credential {request.credential!r} is not used: {problem}"
            raise Refused(Outcome.refused("CREDENTIAL_DENIED", message))
        if scheme == "digest":
            return self._digest(credential, f"{parts.scheme}://{parts.netloc}")
        return _plain(credential, scheme)

    def _digest(self, credential: Credential, origin: str) -> httpx.Auth:
        import httpx

        if (credential, origin) not in self._digests:
            login = httpx.DigestAuth(credential.username, credential.password)
            self._digests[credential, origin] = login
        return self._digests[credential, origin]


def _plain(credential: Credential, scheme: str) -> httpx.Auth:
    import httpx

    if scheme == "basic":
        return httpx.BasicAuth(credential.username, credential.password)
    name = "Authorization" if scheme == "bearer" else credential.setting("header", "X-Api-Key")
    token = credential.setting("token")
    value = f"Bearer {token}" if scheme == "bearer" else token

    class Header(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
            request.headers[name] = value
            yield request

    return Header()


def _problem(
    request: HttpRequest, credential: Credential, scheme: str, protocol: str, host: str
) -> str:
    """Returns why the secret would be given away or cannot be shown; empty when it can be."""
    if request.follow_redirects:
        return "a redirect could lead it to another host"
    if scheme != "digest" and not request.verify_tls:
        return "the server's certificate is not verified, so it could be anybody"
    if scheme != "digest" and protocol != "https" and not _is_here(host):
        return f"scheme {scheme} over http:// shows the secret to everybody in between"
    if scheme in _TOKEN_SCHEMES and not credential.setting("token"):
        return f"scheme {scheme} needs a token"
    if scheme not in _TOKEN_SCHEMES and not credential.username:
        return f"scheme {scheme} needs a username"
    return ""


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
