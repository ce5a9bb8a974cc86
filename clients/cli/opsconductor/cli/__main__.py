"""Lets ``python -m opsconductor.cli`` run opsctl."""

from __future__ import annotations

from opsconductor.cli.main import main

main()
