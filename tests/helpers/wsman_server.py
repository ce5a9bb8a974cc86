"""A WS-Management server for tests: Windows' remote shell, with Linux programs behind it.

Speaks TLS with Basic or NTLM. Programs run as processes here; ``powershell.exe`` answers from a
table of scripts, because there is no Windows. That the messages are right is checked by clients we
did not write (pywinrm, pypsrp, Ansible).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from helpers.windows_command_line import windows_arguments
from opsconductor.agent.executors.winrm.line import BOOTSTRAP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Script = Callable[[Mapping[str, Any]], tuple[bytes, bytes, int]]

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
R = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
F = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
TIMED_OUT, NO_SHELL, TOO_MANY = 2150858793, 2150858843, 2150859174


class Fault(Exception):
    """An answer that is a fault."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


@dataclass
class Command:
    """One started program, its output not fetched yet."""

    process: subprocess.Popen[bytes] | None = None
    stdin: bytes = b""
    output: list[tuple[str, bytes]] = field(default_factory=list)
    exit_code: int | None = None
    news: threading.Condition = field(default_factory=threading.Condition)
    open_streams: int = 0
    answer: Script | None = None

    def put(self, stream: str, data: bytes) -> None:
        with self.news:
            self.output.append((stream, data))
            self.news.notify_all()

    def end(self, code: int) -> None:
        with self.news:
            self.exit_code = code % 2**32
            self.news.notify_all()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Shell:
    """An open shell."""

    variables: dict[str, str]
    commands: dict[str, Command] = field(default_factory=dict)


class WsmanServer(ThreadingHTTPServer):
    """The server; what it was asked stays in ``actions``."""

    daemon_threads = True

    def __init__(self, pem: Path, *, user: str = "ops", password: str = "win-password") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.user, self.password = user, password
        self.shells: dict[str, Shell] = {}
        self.actions: list[str] = []
        self.lines: list[str] = []
        self.logins = 0
        self.scripts: dict[str, Script] = {}
        self.fault: Fault | None = None
        self.drop = ""
        """Action whose answer is lost; the connection ends instead."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Ends it and what runs in it."""
        for shell in list(self.shells.values()):
            for command in shell.commands.values():
                command.kill()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients of tests go away as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WsmanServer

    def setup(self) -> None:
        super().setup()
        self._ntlm: Any = None
        self._known = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known and not self._log_in(self.headers.get("Authorization", "")):
            return
        envelope = ET.fromstring(body)
        action = _text(envelope, f".//{{{A}}}Action").rpartition("/")[2]
        self.server.actions.append(action)
        message = _text(envelope, f".//{{{A}}}MessageID")
        try:
            if self.server.fault is not None:
                raise self.server.fault
            answer, status = _DO[action](self.server, envelope), 200
        except Fault as fault:
            answer, status = _fault(fault), 500
        if action == self.server.drop:
            self.close_connection = True
            self.connection.close()
            return
        head = f"<a:RelatesTo>{message}</a:RelatesTo>"
        namespaces = f'xmlns:s="{S}" xmlns:a="{A}" xmlns:w="{W}" xmlns:rsp="{R}"'
        text = f"<s:Header>{head}</s:Header><s:Body>{answer}</s:Body>"
        text = f"<s:Envelope {namespaces}>{text}</s:Envelope>"
        self._answer(status, text.encode())

    def _log_in(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        if kind == "Basic":
            expected = f"{self.server.user}:{self.server.password}".encode()
            if base64.b64decode(token) == expected:
                self.server.logins += 1
                return True
        elif kind in ("NTLM", "Negotiate") and token:
            return self._ntlm_step(kind, base64.b64decode(token))
        self._challenge(["Negotiate", "NTLM", 'Basic realm="WSMAN"'])
        return False

    def _ntlm_step(self, kind: str, token: bytes) -> bool:
        import spnego

        if self._ntlm is None:
            self._ntlm = spnego.server("127.0.0.1", "http", protocol="ntlm")
        try:
            answer = self._ntlm.step(token)
        except spnego.exceptions.SpnegoError:
            self._ntlm = None
            self._challenge(["NTLM"])
            return False
        if self._ntlm.complete:
            self._known = True
            self.server.logins += 1
            return True
        self._challenge([f"{kind} {base64.b64encode(answer or b'').decode()}"])
        return False

    def _challenge(self, ways: list[str]) -> None:
        self.send_response(401)
        for way in ways:
            self.send_header("WWW-Authenticate", way)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


def _create(server: WsmanServer, envelope: ET.Element) -> str:
    variables = {node.attrib["Name"]: node.text or "" for node in envelope.iter(f"{{{R}}}Variable")}
    name = str(uuid.uuid4()).upper()
    server.shells[name] = Shell(variables)
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{name}</w:Selector></w:SelectorSet>'
    return (
        f"<rsp:Shell><rsp:ShellId>{name}</rsp:ShellId></rsp:Shell>"
        f'<x:ResourceCreated xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer">'
        f"<a:Address/><a:ReferenceParameters>{selector}</a:ReferenceParameters></x:ResourceCreated>"
    )


def _command(server: WsmanServer, envelope: ET.Element) -> str:
    shell = _shell(server, envelope)
    program = _text(envelope, f".//{{{R}}}Command")
    arguments = [node.text or "" for node in envelope.iter(f"{{{R}}}Arguments")]
    line = " ".join([program, *arguments])
    server.lines.append(line)
    options = {node.attrib["Name"]: node.text for node in envelope.iter(f"{{{W}}}Option")}
    command = Command()
    name = str(uuid.uuid4()).upper()
    shell.commands[name] = command
    if options.get("WINRS_SKIP_CMD_SHELL") != "TRUE":
        _spawn(command, shell, ["/bin/sh", "-c", _decoded(line)])
    elif program == "powershell.exe":
        encoded = windows_arguments(line)[-1]
        assert base64.b64decode(encoded).decode("utf-16-le") == BOOTSTRAP, "not the constant one"
        command.answer = lambda call: server.scripts[call["script"]](call["parameters"])
    elif program == "cmd.exe":
        body = re.fullmatch(r'cmd\.exe /d /s /c "(.*)"', line, re.DOTALL)
        assert body, line
        _spawn(command, shell, ["/bin/sh", "-c", body[1]])
    else:
        _spawn(command, shell, windows_arguments(line))
    return f"<rsp:CommandResponse><rsp:CommandId>{name}</rsp:CommandId></rsp:CommandResponse>"


def _decoded(line: str) -> str:
    """Returns a line; of PowerShell's the script in it, which stands in words that sh knows too."""
    if not line.startswith("PowerShell "):
        return line
    return base64.b64decode(line.rpartition(" -EncodedCommand ")[2]).decode("utf-16-le")


def _spawn(command: Command, shell: Shell, argv: list[str]) -> None:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**shell.variables, "PATH": os.environ["PATH"]},
            start_new_session=True,
        )
    except OSError as error:
        raise Fault(2, f"The system cannot find the file specified: {argv[0]}") from error
    command.process = process
    command.open_streams = 2
    for stream, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
        threading.Thread(target=_pump, args=(command, stream, pipe), daemon=True).start()


def _pump(command: Command, stream: str, pipe: Any) -> None:
    with pipe:
        while data := pipe.read1(32 * 1024):
            command.put(stream, data)
    with command.news:
        command.open_streams -= 1
        last = command.open_streams == 0
    if last and command.process is not None:
        code = command.process.wait()
        if command.process.stdin is not None:
            with contextlib.suppress(OSError):
                command.process.stdin.close()
        command.end(code if code >= 0 else 128 - code)


def _send(server: WsmanServer, envelope: ET.Element) -> str:
    node = envelope.find(f".//{{{R}}}Stream")
    assert node is not None
    command = _named(_shell(server, envelope), node.attrib["CommandId"])
    data = base64.b64decode(node.text or "")
    ends = node.attrib.get("End", "").lower() == "true"
    if command.answer is not None:
        command.stdin += data
        if ends:
            threading.Thread(target=_reply, args=(command,), daemon=True).start()
    elif command.process is not None and command.process.stdin is not None:
        with contextlib.suppress(OSError, ValueError):
            command.process.stdin.write(data)
            command.process.stdin.flush()
            if ends:
                command.process.stdin.close()
    return "<rsp:SendResponse/>"


def _reply(command: Command) -> None:
    assert command.answer is not None
    call = json.loads(base64.b64decode(b"".join(command.stdin.split())))
    try:
        stdout, stderr, code = command.answer(call)
    except KeyError:
        stdout, stderr, code = b"", b"the test knows no such script\n", 1
    command.put("stdout", stdout)
    command.put("stderr", stderr)
    command.end(code)


def _receive(server: WsmanServer, envelope: ET.Element) -> str:
    node = envelope.find(f".//{{{R}}}DesiredStream")
    assert node is not None
    name = node.attrib["CommandId"]
    command = _named(_shell(server, envelope), name)
    wait = re.match(r"PT([\d.]+)S", _text(envelope, f".//{{{W}}}OperationTimeout") or "PT20S")
    deadline = time.monotonic() + float(wait[1] if wait else 20)
    with command.news:
        while not command.output and command.exit_code is None:
            if not command.news.wait(max(deadline - time.monotonic(), 0)):
                raise Fault(TIMED_OUT, "The operation timed out.")
        output, command.output = command.output, []
        code = command.exit_code
    streams = ""
    for stream, data in output:
        text = base64.b64encode(data).decode()
        streams += f'<rsp:Stream Name="{stream}" CommandId="{name}">{text}</rsp:Stream>'
    state = "Running" if code is None else "Done"
    ended = "" if code is None else f"<rsp:ExitCode>{code}</rsp:ExitCode>"
    return (
        f'<rsp:ReceiveResponse>{streams}<rsp:CommandState CommandId="{name}"'
        f' State="{R}/CommandState/{state}">{ended}</rsp:CommandState></rsp:ReceiveResponse>'
    )


def _signal(server: WsmanServer, envelope: ET.Element) -> str:
    node = envelope.find(f".//{{{R}}}Signal")
    assert node is not None
    command = _named(_shell(server, envelope), node.attrib["CommandId"])
    if _text(envelope, f".//{{{R}}}Code").endswith("/terminate"):
        command.kill()
        if command.answer is not None and command.exit_code is None:
            command.end(0xC000013A)
    return "<rsp:SignalResponse/>"


def _delete(server: WsmanServer, envelope: ET.Element) -> str:
    shell = _shell(server, envelope)
    for command in shell.commands.values():
        command.kill()
    server.shells = {name: kept for name, kept in server.shells.items() if kept is not shell}
    return ""


_DO = {
    "Create": _create,
    "Command": _command,
    "Send": _send,
    "Receive": _receive,
    "Signal": _signal,
    "Delete": _delete,
}


def _shell(server: WsmanServer, envelope: ET.Element) -> Shell:
    name = _text(envelope, f".//{{{W}}}Selector[@Name='ShellId']")
    if name not in server.shells:
        raise Fault(NO_SHELL, "The shell was not found on the server.")
    return server.shells[name]


def _named(shell: Shell, name: str) -> Command:
    if name not in shell.commands:
        raise Fault(NO_SHELL, "The command was not found.")
    return shell.commands[name]


def _text(envelope: ET.Element, path: str) -> str:
    node = envelope.find(path)
    return (node.text or "") if node is not None else ""


def _fault(fault: Fault) -> str:
    return (
        f"<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:{fault.code}</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en">{fault.reason}</s:Text></s:Reason>'
        f'<s:Detail><f:WSManFault xmlns:f="{F}" Code="{fault.code}"><f:Message>{fault.reason}'
        f"</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
