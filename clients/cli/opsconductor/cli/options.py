"""Options that many commands share."""

from __future__ import annotations

import typer

from opsconductor.cli.terminal import Format

OUTPUT = typer.Option("--output", "-o", help="How the result is written.")
REASON = typer.Option("--reason", "-r", help="Why, for the record.")
LIMIT = typer.Option("--limit", "-n", min=1, max=10_000, help="At most this many.")
EXECUTION = typer.Argument(metavar="EXECUTION", help="Execution id, or your own external id.")

__all__ = ["EXECUTION", "LIMIT", "OUTPUT", "REASON", "Format"]
