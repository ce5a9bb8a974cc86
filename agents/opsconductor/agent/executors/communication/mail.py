"""Mail: one message over SMTP, protected on its way, with no header of the caller's making."""

from __future__ import annotations

import ipaddress
import re
import ssl
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate, make_msgid
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opsconductor.agent.executors.base import Outcome, Refused, StepFailure

if TYPE_CHECKING:
    import aiosmtplib

    from opsconductor.agent.executors.base import Call
    from opsconductor.agent.executors.credential import Credential
    from opsconductor.agent.executors.exchange import Progress
    from opsconductor.tool_registry.rendering.rendered import Message

_CONNECT_TIMEOUT = 10.0
_MOST_RECIPIENTS = 50
_PORTS = {"starttls": 587, "tls": 465, "off": 25}
# No comments, quotes or groups: they are legal and nobody needs them in a tool.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", re.ASCII)
_LINE_BREAK = re.compile(r"[\r\n\x00\x0b\x0c\x85\u2028\u2029]")


async def send_mail(
    call: Call, message: Message, credential: Credential, progress: Progress
) -> Outcome:
    """Sends a message and returns who is to get it; raises Refused before anything is sent."""
    if find_spec("aiosmtplib") is None:
        problem = "mail needs the Python library aiosmtplib on the agent: pip install aiosmtplib"
        raise Refused(Outcome.refused("LIBRARY_MISSING", problem))
    import aiosmtplib

    mail = _mail(call, message, credential)
    client = _client(credential)
    where = f"the mail server {credential.setting('host')}:{client.port}"
    try:
        async with client:
            return await _deliver(call, message, mail, client, progress)
    except aiosmtplib.SMTPAuthenticationError as error:
        problem = f"{where} refused the login of {credential.username}: {_said(error)}"
        return Outcome.refused("AUTH_FAILED", problem)
    except aiosmtplib.SMTPResponseException as error:
        return _refused(f"{where} did not take the mail: {_said(error)}", error.code)
    except ssl.SSLCertVerificationError as error:
        return Outcome.refused("TLS_UNTRUSTED", f"{where} is not trusted: {error.verify_message}")
    except (aiosmtplib.SMTPException, OSError) as error:
        text = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return Outcome.refused("TLS_UNTRUSTED", f"{where} is not trusted: {text}")
        if not progress.sent:
            return Outcome.unreachable("UNREACHABLE", f"cannot reach {where}: {text}")
        problem = f"{where} was lost after the mail was sent: {text}"
        return Outcome.lost(call, "CONNECTION_LOST", problem)


async def _deliver(
    call: Call,
    message: Message,
    mail: EmailMessage,
    client: aiosmtplib.SMTP,
    progress: Progress,
) -> Outcome:
    import aiosmtplib

    await client.mail(str(mail["From"]))
    accepted: list[str] = []
    refused: dict[str, str] = {}
    codes: list[int] = []
    for recipient in dict.fromkeys((*message.to, *message.cc)):
        try:
            await client.rcpt(recipient)
            accepted.append(recipient)
        except aiosmtplib.SMTPResponseException as error:
            refused[recipient] = _said(error)
            codes.append(error.code)
    if not accepted:
        problem = f"every recipient was refused: {'; '.join(refused.values())}"
        return _refused(problem, min(codes))
    progress.sent = True
    await client.data(mail.as_bytes(), timeout=call.timeout.total_seconds())
    output = {
        "channel": "smtp",
        "accepted": accepted,
        "refused": refused,
        "message_id": str(mail["Message-ID"]),
    }
    if not refused:
        return Outcome.ended(call, None, output)
    problem = f"sent, but these recipients were refused: {', '.join(refused)}"
    error_said = StepFailure("RECIPIENTS_REFUSED", problem, "non_retryable")
    return Outcome("failed", effects="done", error=error_said, output=output)


def _mail(call: Call, message: Message, credential: Credential) -> EmailMessage:
    """Returns the mail; raises Refused for what could be read as another header or recipient."""
    recipients = (*message.to, *message.cc)
    sender = credential.setting("sender")
    if not 0 < len(recipients) <= _MOST_RECIPIENTS:
        problem = f"{len(recipients)} recipients; a mail has 1 to {_MOST_RECIPIENTS}"
        raise Refused(Outcome.refused("RECIPIENT_INVALID", problem))
    for address in (sender, *recipients):
        if not _ADDRESS.fullmatch(address):
            problem = f"{address!r} is no plain mail address such as ops@example.com"
            raise Refused(Outcome.refused("RECIPIENT_INVALID", problem))
    if _LINE_BREAK.search(message.subject):
        problem = "the subject holds a line break, which would begin another header"
        raise Refused(Outcome.refused("HEADER_INVALID", problem))
    mail = EmailMessage(policy=SMTP_POLICY.clone(cte_type="7bit"))
    mail["From"] = sender
    mail["To"] = ", ".join(message.to)
    if message.cc:
        mail["Cc"] = ", ".join(message.cc)
    mail["Subject"] = _encodable(message.subject)
    mail["Date"] = formatdate(localtime=False)
    # The same for each try of an attempt, so that a mail server can tell a repetition.
    domain = sender.rpartition("@")[2]
    name = re.sub(r"[^A-Za-z0-9.]", ".", call.attempt_id)
    mail["Message-ID"] = f"<{name}@{domain}>" if name else make_msgid(domain=domain)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_encodable(message.text))
    return mail


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _client(credential: Credential) -> aiosmtplib.SMTP:
    import aiosmtplib

    host = credential.setting("host")
    security = credential.setting("security", "starttls")
    if security == "off" and credential.password and not _is_here(host):
        problem = f"security off would show the password to everybody on the way to {host}"
        raise Refused(Outcome.refused("CREDENTIAL_DENIED", problem))
    port = credential.setting("port", str(_PORTS[security]))
    if not port.isdecimal():
        raise Refused(Outcome.refused("CREDENTIAL_INVALID", f"port {port!r} is no number"))
    context = None
    if security != "off":
        context = ssl.create_default_context(cafile=credential.setting("ca_file") or None)
    return aiosmtplib.SMTP(
        hostname=host,
        port=int(port),
        timeout=_CONNECT_TIMEOUT,
        username=credential.username or None,
        password=credential.password or None,
        use_tls=security == "tls",
        start_tls=security == "starttls",
        tls_context=context,
    )


def _refused(problem: str, code: int) -> Outcome:
    """Returns the outcome of a refusal: with 4xx the server asks to come back later."""
    if 400 <= code < 500:
        return Outcome.throttled("MAIL_DEFERRED", problem)
    return Outcome.refused("MAIL_REFUSED", problem)


def _said(error: aiosmtplib.SMTPResponseException) -> str:
    return f"{error.code} {error.message}"[:300]


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
