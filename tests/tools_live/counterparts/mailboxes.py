"""A real mail server with TLS and a login, and receivers of webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from helpers.receivers import mail_server, receiver, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools_live.place import Place

CHANNELS = ("slack", "teams", "mattermost", "webhook")


class Arrived(list[Any]):
    """Keeps what arrives, and writes it to a file where the scripts of cases look."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        file.touch()

    def append(self, item: Any) -> None:
        """Takes a mail, or a request of a webhook: (head, JSON)."""
        super().append(item)
        text = item.content.decode() if hasattr(item, "content") else json.dumps(item[1])
        with self._file.open("a") as file:
            file.write(text.replace("\r\n", "\n") + "\n")


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[dict[str, Any]]:
    """Runs a mail server and one receiver a channel on a thread of their own."""
    found: dict[str, Any] = {}
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            found["loop"] = asyncio.get_running_loop()
            found["pem"] = self_signed(folder)
            found["mail"] = await stack.enter_async_context(mail_server(found["pem"]))
            found["mail"].mails = Arrived(folder / "mail")
            for channel in CHANNELS:
                found[channel] = await stack.enter_async_context(receiver())
                found[channel].requests = Arrived(folder / channel)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield found
    finally:
        found["loop"].call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.fixture(scope="session")
def communication(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The product with a mail server and a webhook of each kind."""
    folder = tmp_path_factory.mktemp("outbox")
    with receiving(folder) as found:
        place.variables["OUTBOX"] = str(folder)
        place.add_login(
            "smtp",
            kind="smtp",
            host="127.0.0.1",
            port=str(found["mail"].port),
            sender="opsconductor@example.com",
            security="starttls",
            ca_file=str(found["pem"]),
            username="ops",
            password="mail-password",
        )
        for channel in CHANNELS:
            place.add_login(channel, kind="webhook", url=found[channel].url)
        yield place
