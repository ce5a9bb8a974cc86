"""The orchestrator's process: composition root and command line."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from opsconductor.orchestrator.config import Config
from opsconductor.rpc.errors import OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.log_level)
    config = Config(
        data_dir=Path(options.data_dir).absolute(),
        listen=options.listen,
        port=options.port,
        hosts=tuple(options.host),
        store_url=options.store,
        policy=options.policy,
        tools=tuple(Path(folder) for folder in options.tools),
        advertise=options.advertise,
        pki_dir=Path(options.pki_dir).absolute() if options.pki_dir else None,
        allowed_signers=(
            Path(options.allowed_signers).absolute() if options.allowed_signers else None
        ),
        lease=timedelta(seconds=options.lease),
        segment=options.segment,
        ready_file=Path(options.ready_file) if options.ready_file else None,
        operator=options.operator,
    )
    try:
        _run(config)
    except OpsConductorError as exc:
        sys.stderr.write(f"opsconductor-orchestrator: {exc.message}\n")
        sys.stderr.writelines(f"  {fault}\n" for fault in exc.faults)
        return 1
    except OSError as exc:
        sys.stderr.write(f"opsconductor-orchestrator: {exc}\n")
        return 1
    return 0


def _run(config: Config) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config))


async def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        OpsConductorError: The store, the tools, the policy or the certificates are not usable.
    """
    from opsconductor.orchestrator.composition import compose

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        endpoint = await compose(config, stack)
        LOG.info("serving on %s", endpoint)
        if config.ready_file:
            from opsconductor.orchestrator.embedded import write

            ready = {"endpoint": endpoint, "pid": os.getpid()}
            write(config.ready_file, json.dumps(ready).encode(), 0o644)
            stack.callback(config.ready_file.unlink, missing_ok=True)
        await stop.wait()
        LOG.info("stopping")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opsconductor-orchestrator",
        description="Judges plans, gets approvals, sends steps to agents, keeps the record.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve_parser = commands.add_parser("serve", help="serve until stopped")
    environment = os.environ.get
    add = serve_parser.add_argument
    add("--data-dir", required=True, help="keys, certificates and the embedded store")
    add("--listen", default=environment("OPSCONDUCTOR_LISTEN", "127.0.0.1"), help="address")
    add("--port", type=int, default=int(environment("OPSCONDUCTOR_PORT", "0")), help="0: any free")
    add("--host", action="append", default=[], help="further name of this server (repeatable)")
    add(
        "--store",
        default=environment("OPSCONDUCTOR_STORE", ""),
        help="sqlite:////path or postgresql://…; default: a SQLite file in the data directory",
    )
    add(
        "--policy",
        default=environment("OPSCONDUCTOR_POLICY", "embedded"),
        help="embedded, default, or the path of a policy file",
    )
    add("--tools", action="append", default=[], help="further folder of tools (repeatable)")
    add(
        "--advertise",
        default=environment("OPSCONDUCTOR_ADVERTISE", ""),
        help="host:port at which agents and other orchestrators' clients reach this one",
    )
    add(
        "--pki-dir",
        default=environment("OPSCONDUCTOR_PKI_DIR", ""),
        help="certificate authority, the same for all orchestrators on one store; "
        "default: pki in the data directory",
    )
    add(
        "--allowed-signers",
        default=environment("OPSCONDUCTOR_ALLOWED_SIGNERS", ""),
        help="who may sign approvals, the same for all; default: a file in the data directory",
    )
    add(
        "--lease",
        type=_seconds,
        default=environment("OPSCONDUCTOR_LEASE", "10"),
        help="seconds after which others take over what a silent orchestrator moves; default: 10",
    )
    add("--segment", default="local", help="segment of the local agent")
    add("--operator", default="", help="name of the local operator; default: the login name")
    add("--ready-file", default="", help="written with endpoint and pid once calls are taken")
    add("--log-level", default=environment("OPSCONDUCTOR_LOG_LEVEL", "INFO"))
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: from 1 to 3600 seconds")
    return seconds


class _JsonLines(logging.Formatter):
    """One JSON object a line, so that no text can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main())
