"""Messages against a real mail server and a receiver of webhooks."""

from __future__ import annotations

import asyncio
import email
import email.policy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.places import MemorySink
from helpers.receivers import mail_server, receiver, self_signed
from helpers.servers import free_port
from opsconductor.agent.executors.base import Call, Outcome, Refused
from opsconductor.agent.executors.communication import mail as communication_mail
from opsconductor.agent.executors.communication.executor import CommunicationExecutor
from opsconductor.agent.executors.credential import Credential
from opsconductor.tool_registry.rendering.rendered import ArgvCommand, Message, Rendered

if TYPE_CHECKING:
    from pathlib import Path

TO = ("ann@example.com",)


async def send(
    rendered: Rendered,
    known: Credential,
    *,
    seconds: float = 10,
    cancel: asyncio.Event | None = None,
) -> Outcome:
    asked: list[str] = []

    def credentials(reference: str) -> Credential:
        asked.append(reference)
        return known

    executor = CommunicationExecutor(credentials)
    call = Call("att_7", rendered, None, timedelta(seconds=seconds))
    try:
        return await executor.run(call, MemorySink(), cancel or asyncio.Event())
    finally:
        await executor.close()


def told(outcome: Outcome) -> tuple[str, str, str, str]:
    assert outcome.error is not None, outcome
    return outcome.state, outcome.effects, outcome.error.code, outcome.error.error_class


def mail(*to: str, **more: Any) -> Message:
    given = {"subject": "Disk", "text": "full", **more}
    return Message("smtp", to=to or TO, **given)


def account(port: int, pem: Path | None = None, **more: str) -> Credential:
    password = more.pop("password", "mail-password") if pem else more.pop("password", "")
    values = {"host": "127.0.0.1", "port": str(port), "sender": "ops@example.com", **more}
    values |= {"ca_file": str(pem), "security": "starttls"} if pem else {"security": "off"}
    user = "ops" if pem else ""
    return Credential("smtp", user, password=password, settings=tuple(values.items()))


def hook(url: str, **hidden: str) -> Credential:
    return Credential("webhook", hidden=(("url", url), *hidden.items()))


async def test_a_mail_arrives_over_tls_with_a_login(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    async with mail_server(pem) as server:
        message = mail("ann@example.com", cc=("bob@example.com",), subject="Plattenplatz: 95 % ü")
        outcome = await send(message, account(server.port, pem))
    assert (outcome.state, outcome.effects) == ("completed", "done"), outcome.error
    assert outcome.output["accepted"] == ["ann@example.com", "bob@example.com"]
    assert outcome.output["message_id"] == "<att.7@example.com>"
    (envelope,) = server.mails
    got = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
    assert (got["Subject"], got["To"], got["Cc"]) == (
        "Plattenplatz: 95 % ü",
        "ann@example.com",
        "bob@example.com",
    )
    assert server.logins == ["ops"]


async def test_a_line_with_a_dot_and_long_lines_arrive_as_they_are() -> None:
    text = ".\n..\nRSET\n" + "x" * 5000 + "\nFrom here\nümlaut"
    async with mail_server(None) as server:
        outcome = await send(mail(text=text), account(server.port))
    assert outcome.state == "completed", outcome.error
    (envelope,) = server.mails
    got = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
    assert got.get_content().replace("\r\n", "\n").rstrip("\n") == text


@pytest.mark.parametrize("subject", ["a\nBcc: x@example.com", "a\r\nX: y", "a\u2028b", "a\0b"])
async def test_a_subject_with_another_header_is_refused(subject: str) -> None:
    async with mail_server(None) as server:
        outcome = await send(mail(subject=subject), account(server.port))
        assert told(outcome)[:3] == ("failed", "none", "HEADER_INVALID")
        assert server.mails == []


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "ann@example.com\nBcc: x@y.z",
        "a@b.c, d@e.f",
        "Ann <a@b.c>",
        "a@b.c>\r\nDATA",
        "-a b@c",
    ],
)
async def test_what_is_no_plain_address_is_refused(address: str) -> None:
    async with mail_server(None) as server:
        outcome = await send(mail(address), account(server.port))
        assert told(outcome)[:3] == ("failed", "none", "RECIPIENT_INVALID")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=60))
def test_no_value_becomes_a_header_or_a_recipient(to: str, subject: str, text: str) -> None:
    call = Call("att_7", mail(), None, timedelta(seconds=1))
    try:
        made = communication_mail._mail(call, mail(to, subject=subject, text=text), account(25))
    except Refused:
        return
    got = email.message_from_bytes(made.as_bytes(), policy=email.policy.default)
    names = {name.lower() for name in got.keys()}  # noqa: SIM118 - a message is no mapping
    own = {"from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version"}
    assert names <= own | {"content-type", "content-transfer-encoding"}
    assert len(got.get_all("To", [])) == 1
    assert len(got["To"].addresses) == 1


async def test_refused_recipients_are_named(tmp_path: Path) -> None:
    async with mail_server(None) as server:
        outcome = await send(mail("ann@example.com", "unknown@example.com"), account(server.port))
        assert told(outcome)[:3] == ("failed", "done", "RECIPIENTS_REFUSED")
        assert outcome.output["refused"] == {"unknown@example.com": "550 5.1.1 no such user"}
        outcome = await send(mail("unknown@example.com"), account(server.port))
        assert told(outcome) == ("failed", "none", "MAIL_REFUSED", "non_retryable")
        outcome = await send(mail("busy@example.com"), account(server.port))
        assert told(outcome) == ("failed", "none", "MAIL_DEFERRED", "throttled")
        outcome = await send(mail("spam@example.com"), account(server.port))
        assert told(outcome)[:3] == ("failed", "none", "MAIL_REFUSED")


async def test_a_mail_server_lost_after_the_mail_was_sent_is_unknown() -> None:
    async with mail_server(None) as server:
        outcome = await send(mail("vanish@example.com"), account(server.port))
    assert told(outcome) == ("unknown", "possible", "CONNECTION_LOST", "unknown")


async def test_a_refused_mail_login_and_an_untrusted_server_are_told(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    async with mail_server(pem) as server:
        outcome = await send(mail(), account(server.port, pem, password="wrong-password"))
        assert told(outcome)[:3] == ("failed", "none", "AUTH_FAILED")
        tried = len(server.logins)
        (tmp_path / "other").mkdir()
        other = self_signed(tmp_path / "other")
        outcome = await send(mail(), account(server.port, other))
        assert told(outcome)[:3] == ("failed", "none", "TLS_UNTRUSTED")
        assert len(server.logins) == tried


async def test_a_password_is_never_sent_in_the_clear() -> None:
    known = Credential(
        "smtp",
        "ops",
        password="mail-password",
        settings=(("host", "mail.example.com"), ("security", "off"), ("sender", "ops@x.y")),
    )
    assert told(await send(mail(), known))[:3] == ("failed", "none", "CREDENTIAL_DENIED")


async def test_a_mail_server_that_is_not_there_is_unreachable() -> None:
    outcome = await send(mail(), account(free_port()))
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")


async def test_slack_gets_plain_text_that_can_mention_nobody(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    async with receiver(pem) as server:
        message = Message("slack", subject="Disk", text='web-01: <!channel> "95 %" & rising')
        known = Credential(
            "webhook", settings=(("ca_file", str(pem)),), hidden=(("url", server.url),)
        )
        outcome = await send(message, known)
    assert outcome.state == "completed", outcome.error
    assert outcome.output == {"channel": "slack", "status": 200, "answer": "ok"}
    ((_, body),) = server.requests
    assert body["text"] == '*Disk*\nweb-01: &lt;!channel&gt; "95 %" &amp; rising'


async def test_teams_gets_a_card() -> None:
    async with receiver(status="202 Accepted", answer=b"") as server:
        outcome = await send(Message("teams", subject="Disk", text="full"), hook(server.url))
    assert outcome.state == "completed", outcome.error
    ((_, body),) = server.requests
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert [block["text"] for block in attachment["content"]["body"]] == ["Disk", "full"]


async def test_another_webhook_gets_the_data_and_the_token() -> None:
    async with receiver() as server:
        known = hook(server.url, token="Bearer tok-1234567")
        await send(Message("webhook", data={"event": "disk", "n": 3}), known)
        await send(Message("webhook", subject="s", text="t"), known)
    assert [body for _, body in server.requests] == [
        {"event": "disk", "n": 3},
        {"subject": "s", "text": "t"},
    ]
    assert b"authorization: bearer tok-1234567" in server.requests[0][0].lower()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("429 Too Many Requests", ("failed", "none", "THROTTLED", "throttled")),
        ("403 Forbidden", ("failed", "none", "MESSAGE_REFUSED", "non_retryable")),
        ("302 Found", ("failed", "none", "MESSAGE_REFUSED", "non_retryable")),
        ("503 Busy", ("failed", "possible", "SERVER_ERROR", "retryable")),
        ("", ("unknown", "possible", "CONNECTION_LOST", "unknown")),
    ],
)
async def test_what_a_webhook_answers_decides(status: str, expected: tuple[str, ...]) -> None:
    async with receiver(status=status, headers=("Retry-After: 30", "Location: /x")) as server:
        outcome = await send(Message("slack", text="x"), hook(server.url))
        assert len(server.requests) == 1
    assert told(outcome) == expected
    assert outcome.error is not None
    assert "s3cr3t-path" not in outcome.error.message
    assert "30 s" in outcome.error.message or status[:3] != "429"


async def test_a_webhook_that_is_not_there_is_unreachable_without_naming_its_url() -> None:
    url = f"http://127.0.0.1:{free_port()}/s3cr3t-path"
    outcome = await send(Message("slack", text="x"), hook(url))
    assert told(outcome) == ("unreachable", "none", "UNREACHABLE", "unreachable")
    assert "s3cr3t-path" not in repr(outcome)


async def test_a_webhook_must_be_protected_on_its_way() -> None:
    outcome = await send(Message("slack", text="x"), hook("http://hooks.example.com/s3cr3t-path"))
    assert told(outcome)[:3] == ("failed", "none", "CREDENTIAL_INVALID")
    assert "s3cr3t-path" not in repr(outcome)


async def test_a_message_that_is_too_large_is_refused() -> None:
    outcome = await send(Message("slack", text="x" * 50_000), hook("http://127.0.0.1:1/"))
    assert told(outcome)[:3] == ("failed", "none", "MESSAGE_TOO_LARGE")


async def test_a_cancel_after_sending_is_unknown_and_before_it_nothing() -> None:
    cancel = asyncio.Event()
    async with receiver(status=None) as server:
        running = asyncio.create_task(
            send(Message("slack", text="x"), hook(server.url), cancel=cancel)
        )
        await server.arrived.wait()
        cancel.set()
        assert told(await running)[:3] == ("unknown", "possible", "OUTCOME_UNKNOWN")
        outcome = await send(Message("slack", text="x"), hook(server.url), cancel=cancel)
        assert told(outcome)[:3] == ("cancelled", "none", "CANCELLED")
        assert len(server.requests) == 1


async def test_a_silent_webhook_times_out() -> None:
    async with receiver(status=None) as server:
        outcome = await send(
            Message("slack", text="x"), hook(server.url), seconds=3.0
        )  # time to have sent it
    assert told(outcome)[:3] == ("unknown", "possible", "OUTCOME_UNKNOWN")


async def test_another_kind_of_call_or_credential_is_refused() -> None:
    assert told(await send(ArgvCommand(("true",)), hook("x")))[2] == "METHOD_MISMATCH"
    assert told(await send(mail(), hook("x")))[2] == "CREDENTIAL_INVALID"
