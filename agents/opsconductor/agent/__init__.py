"""The OpsConductor agent."""

from __future__ import annotations
