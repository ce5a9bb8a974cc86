"""Requests that show who sends them, against a camera with digest authentication and others."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helpers.accepting import accepting
from helpers.places import MemorySink
from helpers.vapix_camera import Camera
from opsconductor.agent.executors.base import Call, Outcome
from opsconductor.agent.executors.credential import Credential
from opsconductor.agent.executors.http.executor import HttpExecutor
from opsconductor.tool_registry.rendering.rendered import HttpRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PASSWORD = "correct horse"
LIST = "/axis-cgi/param.cgi?action=list&group=Brand%2CProperties.Firmware"


def credential(scheme: str = "digest", **more: Any) -> Credential:
    given: dict[str, Any] = {"username": "root", "password": PASSWORD, **more}
    settings = (("scheme", scheme), *given.pop("settings", ()))
    return Credential(kind="http", settings=settings, **given)


@pytest.fixture(params=["MD5", "SHA-256"])
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    running = Camera("root", PASSWORD, algorithm=request.param)
    yield running
    running.stop()


class Sender:
    """Sends with one executor."""

    def __init__(self, known: Credential) -> None:
        self.executor = HttpExecutor(lambda _: known)
        self.sink = MemorySink()

    async def send(self, url: str, method: str = "GET", **options: Any) -> Outcome:
        request = HttpRequest(method, url, credential="camera", **options)
        call = Call("att_1", request, None, timedelta(seconds=10), read_only=method == "GET")
        return await self.executor.run(call, self.sink, asyncio.Event())


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(credential())
    yield made
    await made.executor.close()


def code(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code


async def test_a_camera_is_asked_with_digest(camera: Camera, sender: Sender) -> None:
    outcome = await sender.send(camera.url + LIST)
    assert outcome.state == "completed", outcome.error
    assert "root.Brand.ProdNbr=P1455-LE" in sender.sink.stdout.decode()
    assert "root.Properties.Firmware.Version=11.8.64" in sender.sink.stdout.decode()


async def test_the_nonce_and_the_connection_are_kept(camera: Camera, sender: Sender) -> None:
    for _ in range(4):
        assert (await sender.send(camera.url + LIST)).state == "completed"
    assert camera.refused == 1
    assert len(camera.connections) == 1


async def test_a_new_nonce_is_taken_up(camera: Camera, sender: Sender) -> None:
    await sender.send(camera.url + LIST)
    camera.nonce = "another"
    assert (await sender.send(camera.url + LIST)).state == "completed"


async def test_a_parameter_is_set(camera: Camera, sender: Sender) -> None:
    query = "?action=update&root.Image.I0.Appearance.Compression=20"
    await sender.send(f"{camera.url}/axis-cgi/param.cgi{query}")
    assert camera.parameters["root.Image.I0.Appearance.Compression"] == "20"


async def test_a_refused_login_is_told(camera: Camera) -> None:
    wrong = Sender(credential(password="wrong horse"))
    outcome = await wrong.send(camera.url + LIST)
    assert code(outcome) == ("failed", "none", "AUTH_FAILED")
    assert "wrong horse" not in repr(outcome)
    await wrong.executor.close()


async def test_the_password_never_leaves_with_digest(camera: Camera, sender: Sender) -> None:
    seen: list[str] = []
    knows = camera.knows
    camera.knows = lambda method, header: seen.append(header) or knows(method, header)  # type: ignore[method-assign,func-returns-value]
    await sender.send(camera.url + LIST)
    encoded = base64.b64encode(f"root:{PASSWORD}".encode()).decode()
    assert len(seen) == 2
    assert not any(PASSWORD in header or encoded in header for header in seen)


async def headers_seen(known: Credential) -> bytes:
    """Returns the head of the request that a plain server gets."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with accepting(serve) as port:
        sender = Sender(known)
        outcome = await sender.send(f"http://127.0.0.1:{port}/")
        assert outcome.state == "completed", outcome.error
        await sender.executor.close()
    return heads[0].lower()


async def test_basic_bearer_and_header_are_shown_as_their_schemes_say() -> None:
    encoded = base64.b64encode(f"root:{PASSWORD}".encode()).lower()
    assert b"authorization: basic " + encoded in await headers_seen(credential("basic"))
    token = (("token", "tok-1234567"),)
    assert b"bearer tok-1234567" in await headers_seen(credential("bearer", hidden=token))
    named = credential("header", hidden=token, settings=(("header", "X-Key"),))
    assert b"x-key: tok-1234567" in await headers_seen(named)


@pytest.mark.parametrize(
    ("known", "url", "options"),
    [
        (credential("basic"), "http://camera.example/", {}),
        (credential("bearer"), "https://camera.example/", {}),
        (credential("basic"), "https://camera.example/", {"verify_tls": False}),
        (credential(), "http://127.0.0.1:1/", {"follow_redirects": True}),
        (credential(username=""), "http://127.0.0.1:1/", {}),
        (credential(hosts=("10.0.0.0/8",)), "http://127.0.0.1:1/", {}),
    ],
)
async def test_a_secret_is_not_shown_where_it_could_be_lost(
    known: Credential, url: str, options: dict[str, Any]
) -> None:
    outcome = await Sender(known).send(url, **options)
    assert code(outcome) == ("failed", "none", "CREDENTIAL_DENIED")


async def test_a_credential_of_another_kind_or_none_is_refused() -> None:
    outcome = await Sender(Credential(username="x")).send("http://127.0.0.1:1/")
    assert code(outcome)[2] == "CREDENTIAL_INVALID"
    request = HttpRequest("GET", "http://127.0.0.1:1/", credential="camera")
    call = Call("att_1", request, None, timedelta(seconds=1))
    outcome = await HttpExecutor().run(call, MemorySink(), asyncio.Event())
    assert code(outcome)[2] == "CREDENTIAL_UNKNOWN"
