"""The agent's side of its one connection; nothing else in the agent knows protobuf."""

from __future__ import annotations
