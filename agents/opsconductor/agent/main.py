"""Command line of the agent: ``join`` once, ``run`` ever after."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsconductor.agent.config import Config
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 4

_DESCRIPTION = """\
Runs steps on this host and on what it can reach, for an OpsConductor orchestrator.

The agent dials out and serves nothing. It verifies every order itself: what changes something needs
signatures of people in allowed_signers, over exactly what is run."""

_FILES = """\
files in DIR:
  agent.yaml         settings; OPSCONDUCTOR_AGENT_* variables override them
  allowed_signers    who may approve changes (ssh-keygen format); never taken from elsewhere
  policy.yaml        what this agent lets itself be told to do (optional)
  credentials.yaml   logins for targets, mode 0600 (optional)
  known_hosts        host keys of targets (optional)
  journal, spool/    what was started and what has not been delivered yet; do not delete
  endpoints.json     orchestrators that were named by others
  poison/            frames that made no sense, for a person to look at
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except OpsConductorError as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return EXIT_UNREACHABLE if exc.reason == "UNREACHABLE" else EXIT_USAGE
    except OSError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opsconductor-agent",
        description=_DESCRIPTION,
        epilog=_FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="connect and work until stopped (SIGTERM drains)")
    _common(run)
    run.set_defaults(command=_run)
    doctor = commands.add_parser(
        "doctor", help="tell which methods this host offers, and what the others miss"
    )
    doctor.set_defaults(command=_doctor)
    join = commands.add_parser("join", help="enrol with a token file, then run")
    _common(join)
    join.add_argument(
        "--endpoint",
        required=True,
        action="append",
        metavar="HOST:PORT",
        help="the orchestrator; repeatable where several work on one store",
    )
    join.add_argument(
        "--token-file", required=True, type=Path, help="from 'opsctl agents token create'"
    )
    join.add_argument(
        "--allowed-signers", type=Path, metavar="FILE", help="is copied to DIR/allowed_signers"
    )
    join.add_argument("--services", metavar="A,B", help="locations to offer; default: all")
    join.add_argument("--capacity", type=int, metavar="N", help="attempts at a time; default: 32")
    join.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for placement; repeatable",
    )
    join.add_argument("--no-run", action="store_true", help="enrol only")
    join.set_defaults(command=_join)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", required=True, type=Path, metavar="DIR", help="the agent's own folder"
    )
    parser.add_argument(
        "--accept-incarnation",
        metavar="ID",
        default="",
        help="go on with a store that was replaced on purpose",
    )


def _run(options: argparse.Namespace) -> int:
    folder: Path = options.data_dir
    config = Config.load(folder / "agent.yaml", os.environ)
    if not config.all_endpoints:
        sys.stderr.write(f"error: {folder} has no settings; run 'opsconductor-agent join' first\n")
        return EXIT_USAGE
    from opsconductor.agent.daemon import run

    return run(folder, config, accept_incarnation=options.accept_incarnation)


def _join(options: argparse.Namespace) -> int:
    import asyncio

    from opsconductor.agent.lock import FolderLock
    from opsconductor.agent.session.enroll import enroll_anywhere
    from opsconductor.agent.settings import write_mapping
    from opsconductor.rpc.token_file import parse_token_file

    folder: Path = options.data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = _settings(options)
    token = parse_token_file(options.token_file.read_text(encoding="utf-8"))
    with FolderLock(folder):
        if options.allowed_signers:
            _install_signers(options.allowed_signers, folder)
        enrolled = asyncio.run(enroll_anywhere(options.endpoint, token, folder))
        _leave_earlier_store(folder)
        settings.update(name=enrolled.name, segment=enrolled.segment)
        write_mapping(folder / "agent.yaml", settings)
    sys.stderr.write(
        f"joined as {enrolled.name} in segment {enrolled.segment or '(none)'}, "
        f"id {enrolled.agent_id}\n"
    )
    return 0 if options.no_run else _run(options)


def _doctor(_options: argparse.Namespace) -> int:
    from opsconductor.agent.executors.credential import no_credentials
    from opsconductor.agent.executors.registry import Executors

    async def no_inventory(_filters: Any) -> dict[str, Any]:
        return {}

    executors = Executors(
        credentials=no_credentials, known_hosts=Path("known_hosts"), inventory=no_inventory
    )
    for method in executors.methods:
        sys.stdout.write(f"ok       {method}\n")
    for method, missing in sorted(executors.unavailable.items()):
        sys.stdout.write(f"missing  {method}: {missing}\n")
    return 0


def _leave_earlier_store(folder: Path) -> None:
    """Lets a folder that was enrolled before belong to the store it has joined now."""
    import time

    from opsconductor.agent.journal import Journal
    from opsconductor.agent.record_log import JournalCorrupt
    from opsconductor.agent.session.endpoints import FILE as ENDPOINTS_FILE
    from opsconductor.rpc.errors import InvalidArgument

    (folder / ENDPOINTS_FILE).unlink(missing_ok=True)
    path = folder / "journal"
    if not path.exists():
        return
    try:
        journal = Journal.open(path, time.time)
    except JournalCorrupt as exc:
        raise InvalidArgument(f"JOURNAL_CORRUPT: {path}: {exc}; move it away first") from exc
    journal.unknown_after_crash("")
    for attempt_id in journal.leave_store():
        sys.stderr.write(f"not told to anyone any more: {attempt_id}\n")
    journal.close()


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings to write, after checking them as the file will be checked."""
    from opsconductor.agent.config import settings_checked

    first, *others = options.endpoint
    values: dict[str, Any] = {"endpoint": first}
    if others:
        values["endpoints"] = others
    if options.services:
        values["services"] = [part.strip() for part in options.services.split(",") if part.strip()]
    if options.capacity is not None:
        values["capacity"] = options.capacity
    if options.label:
        values["labels"] = {
            key: value for key, _, value in (label.partition("=") for label in options.label)
        }
    return settings_checked(values, "the command line")


def _install_signers(source: Path, folder: Path) -> None:
    """Copies the file people vouch for; only then does the folder own it."""
    from opsconductor.rpc.allowed_signers import AllowedSigners, SignersInvalid
    from opsconductor.rpc.errors import InvalidArgument

    target = folder / "allowed_signers"
    try:
        AllowedSigners.load(source)
    except SignersInvalid as exc:
        raise InvalidArgument(f"--allowed-signers: {exc}") from exc
    if not (target.exists() and target.samefile(source)):
        target.write_bytes(source.read_bytes())
    target.chmod(0o600)


if __name__ == "__main__":
    sys.exit(main())
