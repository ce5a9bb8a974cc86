"""Executors: what carries a rendered call to where it takes effect, one module per method."""

from __future__ import annotations
