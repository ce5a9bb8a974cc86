"""The context of a call, as every servicer gets it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""A call of any request and response type."""
