"""The pure core: plans, risk, approvals, states and what happens next; no clock, no I/O."""

from __future__ import annotations
