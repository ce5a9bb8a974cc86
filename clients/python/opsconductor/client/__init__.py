"""The Python client of OpsConductor: asynchronous, synchronous, and the context of both."""

from __future__ import annotations

from opsconductor.client.client import Client
from opsconductor.client.context import Context
from opsconductor.client.result import execution_result
from opsconductor.client.sync_client import SyncClient

__all__ = ["Client", "Context", "SyncClient", "execution_result"]
