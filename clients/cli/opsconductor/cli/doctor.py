"""``opsctl doctor``: looks for what is missing and says how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from opsconductor.cli import exit_codes, options
from opsconductor.cli.embedded import part_is_installed
from opsconductor.cli.session import session_of
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from opsconductor.cli.session import Session
    from opsconductor.client.context import Context
    from opsconductor.v1.agent_admin_service_pb2 import Agent, SafeMode
    from opsconductor.v1.plan_service_pb2 import Fault

_SKEW_SECONDS = 30.0
"""Clocks that differ by more make certificates and approvals fail at their edges."""

_PROGRAMS = (
    ("ssh", "targets over SSH can be tried by hand", "apt-get install openssh-client"),
    (
        "ssh-keygen",
        "signatures can be checked without OpsConductor",
        "apt-get install openssh-client",
    ),
    ("sshd", "the demo's targets are real SSH servers", "apt-get install openssh-server"),
    ("ping", "the ping tool", "apt-get install iputils-ping"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    state: str
    """``ok``, ``missing`` (it is needed) or ``absent`` (something optional will not work)."""
    detail: str
    remedy: str = ""


def doctor(
    ctx: typer.Context, output: Annotated[options.Format, options.OUTPUT] = options.Format.table
) -> None:
    """Look for what is missing here and say how to get it; exit code 1 when it is essential."""
    session = session_of(ctx)
    checks = [_python(), *_parts(), *_programs(), _namespaces(), *_deployment(session)]
    sound = all(check.state != "missing" for check in checks)
    if output is options.Format.table:
        rows = [(each.state, each.name, each.detail, each.remedy) for each in checks]
        session.terminal.table(("", "WHAT", "FOUND", "HOW TO GET IT"), rows)
        session.terminal.say("nothing essential is missing" if sound else "something is missing")
    else:
        session.terminal.data({"ok": sound, "checks": [asdict(each) for each in checks]}, output)
    raise typer.Exit(exit_codes.COMPLETED if sound else exit_codes.FAILED)


def _python() -> Check:
    # An older Python cannot get here: the package demands 3.11.
    return Check("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _parts() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    for part, distribution in (
        ("client", "opsconductor-client"),
        ("orchestrator", "opsconductor"),
        ("agent", "opsconductor"),
    ):
        try:
            found = part_is_installed(part) or part == "client"
            detail = f"{distribution} {version(distribution)}" if found else "not installed"
        except PackageNotFoundError:
            found, detail = False, "not installed"
        remedy = (
            "" if found else "needed for opsctl up: pip install 'opsconductor[orchestrator,agent]'"
        )
        yield Check(part, "ok" if found else "absent", detail, remedy)


def _programs() -> Iterator[Check]:
    # System daemons stand in folders that a person's PATH often lacks.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    for name, purpose, remedy in _PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            yield Check(name, "ok", found)
        else:
            yield Check(name, "absent", f"not found; {purpose}", remedy)


def _namespaces() -> Check:
    """Tells whether network namespaces can be made; the demo separates its segments with them."""
    name = "network namespaces"
    if shutil.which("unshare") is None:
        return Check(name, "absent", "unshare is not installed", "apt-get install util-linux")
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if done.returncode == 0:
        return Check(name, "ok", "can be made")
    return Check(name, "absent", "may not be made", "run as root; loopback addresses stand in else")


def _deployment(session: Session) -> Iterator[Check]:
    """Looks at the orchestrator that the context names; without one there is nothing to see."""
    from opsconductor.cli.certificates import certificate_problem
    from opsconductor.cli.failure import NoContext

    try:
        path = session.context_path()
    except NoContext as error:
        state = "missing" if session.context_is_given else "absent"
        yield Check("context", state, error.message, "opsctl up --data-dir DIR --detach")
        return
    try:
        context = session.context()
    except OpsConductorError as error:
        yield Check(
            "context", "missing", error.message, "opsctl up --data-dir DIR writes a new one"
        )
        return
    yield Check("context", "ok", f"{path} ({', '.join(context.endpoints)})")
    if problem := certificate_problem(context):
        yield Check(
            "certificate", "missing", problem, "ask who runs the orchestrator for a new one"
        )
    yield _secrecy([context.key_file, *([context.signing_key] if context.signing_key else [])])
    yield from _orchestrators(context)


def _secrecy(keys: list[Path]) -> Check:
    unreadable = [str(key) for key in keys if not os.access(key, os.R_OK)]
    if unreadable:
        return Check(
            "keys", "missing", f"cannot read {', '.join(unreadable)}", "run as their owner"
        )
    open_keys = [str(key) for key in keys if key.stat().st_mode & 0o077]
    if open_keys:
        names = " ".join(open_keys)
        return Check("keys", "missing", f"others can read {names}", f"chmod 600 {names}")
    return Check("keys", "ok", "readable by their owner alone")


def _orchestrators(context: Context) -> Iterator[Check]:
    """Asks every endpoint by itself; as long as one answers, work goes on."""
    from opsconductor.client.sync_client import SyncClient

    agents: list[Agent] | None = None
    silent: list[tuple[str, str]] = []
    for endpoint in context.endpoints:
        began = time.monotonic()
        with SyncClient(replace(context, endpoint=endpoint, endpoints=())) as client:
            try:
                answer = client.list_agents()
                agents = list(answer.agents)
                faults = client.list_tools().file_faults
            except OpsConductorError as error:
                silent.append((endpoint, error.message))
                continue
        took = (time.monotonic() - began) * 1000
        yield Check("orchestrator", "ok", f"{endpoint} answers in {took:.0f} ms")
        yield from _tool_files(faults)
        if answer.HasField("safe_mode"):
            yield Check("store", "missing", *_trust(answer.safe_mode))
    for endpoint, why in silent:
        remedy = "start it there; the others do its work meanwhile"
        if agents is None:
            remedy = "opsctl up --data-dir DIR --detach"
        state = "missing" if agents is None else "absent"
        yield Check("orchestrator", state, f"{endpoint}: {why}", remedy)
    if agents is not None:
        yield from _agents(agents)


def _tool_files(faults: Iterable[Fault]) -> Iterator[Check]:
    """Tells of changed tool files that the orchestrator could not take."""
    from opsconductor.cli.preview import fault_text

    remedy = "opsctl tools check FILE; the definition from before the change is in use"
    for fault in faults:
        yield Check("tool file", "absent", fault_text(fault), remedy)


def _trust(mode: SafeMode) -> tuple[str, str]:
    from opsconductor.cli import trust

    return trust.in_words(mode), trust.remedy(mode)


def _agents(agents: list[Agent]) -> Iterator[Check]:
    from opsconductor.cli.agents import state_word
    from opsconductor.cli.trust import clock_of, reason_of

    for agent in agents:
        if wrong := clock_of(agent):
            yield Check(f"clock of {agent.name}", "missing", wrong, "set it by NTP")
        if state_word(agent) == "quarantined" or agent.quarantined_tools:
            remedy = f"see to the cause, then opsctl agents release {agent.name}"
            yield Check(f"agent {agent.name}", "absent", reason_of(agent), remedy)
    online = [agent for agent in agents if state_word(agent) == "online"]
    names = ", ".join(f"{agent.name} ({agent.segment})" for agent in online)
    if online:
        yield Check("agents", "ok", f"{len(online)} of {len(agents)} online: {names}")
        yield _clock(online)
    else:
        remedy = (
            "opsctl up starts one; opsctl agents token create NAME --segment S lets others join"
        )
        yield Check("agents", "missing", f"none of {len(agents)} is online", remedy)


def _clock(online: list[Agent]) -> Check:
    """Compares our clock with the orchestrator's, which notes when it last heard of an agent."""
    skew = max(agent.last_seen_time.ToNanoseconds() for agent in online) / 1e9 - time.time()
    if abs(skew) <= _SKEW_SECONDS:
        return Check("clock", "ok", f"within {_SKEW_SECONDS:.0f} s of the orchestrator's")
    return Check(
        "clock",
        "missing",
        f"differs from the orchestrator's by about {skew:.0f} s",
        "set it by NTP",
    )
