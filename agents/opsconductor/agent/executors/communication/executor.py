"""Method "communication": mail, Slack, Microsoft Teams and other webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused
from opsconductor.agent.executors.communication.mail import send_mail
from opsconductor.agent.executors.communication.webhook import Webhooks
from opsconductor.agent.executors.credential import resolve
from opsconductor.agent.executors.exchange import Progress, follow
from opsconductor.tool_registry.rendering.rendered import Message

if TYPE_CHECKING:
    import asyncio

    from opsconductor.agent.executors.base import Call, Sink
    from opsconductor.agent.executors.credential import Credentials
    from opsconductor.agent.executors.registry import Collaborators

LIBRARIES = {"smtp": "aiosmtplib"}
"""What a channel needs to be installed."""


def make(offered: Collaborators) -> CommunicationExecutor:
    """Returns the executor of an agent; raises Unavailable."""
    return CommunicationExecutor(offered.credentials)


class CommunicationExecutor:
    """Sends a message where its credential says; one without a name has the channel's.

    The outcome's output is ``{channel, accepted, refused, message_id}`` for mail and ``{channel,
    status, answer}`` for webhooks.
    """

    method = "communication"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._webhooks = Webhooks()

    async def run(self, call: Call, sink: Sink, cancel: asyncio.Event) -> Outcome:
        """Sends the message. See Executor."""
        message = call.rendered
        if not isinstance(message, Message):
            kind = type(message).__name__
            problem = f"the communication executor cannot send a {kind}"
            return Outcome.refused("METHOD_MISMATCH", problem)
        reference = message.credential or message.channel
        progress = Progress()
        try:
            if message.channel == "smtp":
                credential = resolve(self._credentials, reference, "smtp", "mail")
                exchange = send_mail(call, message, credential, progress)
            else:
                name = f"a {message.channel} message"
                credential = resolve(self._credentials, reference, "webhook", name)
                exchange = self._webhooks.send(call, message, reference, credential, progress)
            return await follow(call, exchange, progress, cancel, f"the {message.channel} message")
        except Refused as refused:
            return refused.outcome

    async def close(self) -> None:
        """Closes kept connections."""
        await self._webhooks.close()
