"""Webhooks: Slack, Microsoft Teams, or any other, each in the shape its receiver reads."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure

if TYPE_CHECKING:
    import httpx

    from opsconductor.agent.executors.base import Call
    from opsconductor.agent.executors.credential import Credential
    from opsconductor.agent.executors.exchange import Progress
    from opsconductor.tool_registry.rendering.rendered import Message

_CONNECT_TIMEOUT = 10.0
_MOST_ANSWER = 4096
_TOO_MANY = 429
_MOST_PAYLOAD = {"slack": 40_000, "teams": 28_000, "webhook": 256 * 1024}


class Webhooks:
    """Sends messages to webhooks; connections are kept."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def send(
        self,
        call: Call,
        message: Message,
        reference: str,
        credential: Credential,
        progress: Progress,
    ) -> Outcome:
        """Sends one message. The address is a secret, so messages name its reference instead."""
        import httpx

        url = credential.setting("url")
        _require_safe(url, reference)
        body = _payload(message)
        name = f"webhook {reference!r}"
        client = await self._client(credential.setting("ca_file"))
        try:
            async with client.stream(
                "POST",
                url,
                content=body,
                headers=_headers(credential),
                timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
                extensions={"trace": progress.trace},
            ) as response:
                answer = await _beginning(response)
                return _judged(call, message, name, response, answer)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            text = type(error).__name__ if url in str(error) else str(error) or "no answer"
            if "CERTIFICATE_VERIFY_FAILED" in text:
                return Outcome.refused("TLS_UNTRUSTED", f"{name} is not trusted: {text}")
            if not progress.sent:
                return Outcome.unreachable("UNREACHABLE", f"cannot reach {name}: {text}")
            problem = f"the answer of {name} was lost: {text}"
            return Outcome.lost(call, "CONNECTION_LOST", problem)

    async def close(self) -> None:
        """Closes kept connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    async def _client(self, ca_file: str) -> httpx.AsyncClient:
        if ca_file not in self._clients:
            import httpx

            context = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file or None)
            client = httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False)
            self._clients.setdefault(ca_file, client)
        return self._clients[ca_file]


def _payload(message: Message) -> bytes:
    shapes = {"slack": _slack, "teams": _teams, "webhook": _generic}
    data = shapes[message.channel](message)
    body = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
    if len(body) > (most := _MOST_PAYLOAD[message.channel]):
        problem = f"the message has {len(body)} bytes; {message.channel} takes {most}"
        raise Refused(Outcome.refused("MESSAGE_TOO_LARGE", problem))
    return body


def _slack(message: Message) -> Any:
    # With these three escaped nothing in the text can mention a channel or hide a link.
    def plain(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    title = f"*{plain(message.subject)}*\n" if message.subject else ""
    return {"text": title + plain(message.text), "link_names": False, "unfurl_links": False}


def _teams(message: Message) -> Any:
    block = {"type": "TextBlock", "wrap": True}
    title = [{**block, "text": message.subject, "weight": "Bolder", "size": "Medium"}]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [*(title if message.subject else []), {**block, "text": message.text}],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def _generic(message: Message) -> Any:
    if message.data is not None:
        return message.data
    return {"subject": message.subject, "text": message.text}


def _headers(credential: Credential) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "opsconductor"}
    if token := credential.setting("token"):
        headers[credential.setting("header", "Authorization")] = token
    return headers


async def _beginning(response: httpx.Response) -> str:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk[: _MOST_ANSWER - len(body)]
        if len(body) >= _MOST_ANSWER:
            break
    return bytes(body).decode("utf-8", "replace")


def _judged(
    call: Call, message: Message, name: str, response: httpx.Response, answer: str
) -> Outcome:
    status = response.status_code
    if response.is_success:
        output = {"channel": message.channel, "status": status, "answer": answer}
        return Outcome.ended(call, None, output)
    problem = f"{name} answered {status}: {answer[:300] or response.reason_phrase}"
    if status == _TOO_MANY:
        wait = response.headers.get("Retry-After", "")
        later = f"; it asks to wait {wait} s" if wait.isdecimal() else ""
        return Outcome.throttled("THROTTLED", problem + later)
    if response.is_server_error:
        error = StepFailure("SERVER_ERROR", problem, "retryable")
        return Outcome("failed", effects="possible", error=error)
    return Outcome.refused("MESSAGE_REFUSED", problem)


def _require_safe(url: str, reference: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if parts.scheme == "https" or (parts.scheme == "http" and here):
        return
    problem = f"the url of credential {reference!r} must be https: whoever sees it can write there"
    raise Refused(Outcome.refused("CREDENTIAL_INVALID", problem))
