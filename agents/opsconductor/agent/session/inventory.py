"""Asks the orchestrator's inventory, for the asset tools."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.status import from_rpc_error
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import inventory_service_pb2 as pb
from opsconductor.v1 import inventory_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opsconductor.rpc.errors import OpsConductorError

QUERY_TIMEOUT = 20.0
_TEXTS = ("type", "segment", "name", "environment")
_ASSET_FIELDS = (
    "name",
    "type",
    "address",
    "port",
    "segment",
    "connection",
    "service_manager",
    "environment",
)


class InventoryQueries:
    """Queries over whatever sessions there are now."""

    def __init__(self) -> None:
        self._channels: list[grpc.aio.Channel] = []

    @contextlib.contextmanager
    def over(self, channel: grpc.aio.Channel) -> Iterator[None]:
        """Lets queries go over a channel too, for as long as its session lasts."""
        self._channels.append(channel)
        try:
            yield
        finally:
            self._channels.remove(channel)

    async def __call__(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns count, breakdown by type and the first assets; raises the call's error."""
        request = pb.QueryAssetsRequest(
            tags=filters.get("tags") or (),
            limit=int(filters.get("limit", 100)),
            **{name: filters[name] for name in _TEXTS if filters.get(name)},
        )
        failure: OpsConductorError = Unreachable(
            "there is no session with the orchestrator, whose inventory is asked"
        )
        for channel in list(self._channels):
            query: Any = pb_grpc.InventoryServiceStub(channel).Query
            try:
                return _answer(await query(request, timeout=QUERY_TIMEOUT))
            except grpc.RpcError as exc:
                failure = from_rpc_error(exc)
            if not failure.retryable:
                break
        raise failure


def _answer(answer: pb.QueryAssetsResponse) -> dict[str, Any]:
    return {
        "success": True,
        "total_count": answer.total_count,
        "breakdown": dict(answer.breakdown),
        "assets": [_asset(asset) for asset in answer.assets],
    }


def _asset(asset: pb.Asset) -> dict[str, Any]:
    values = {name: getattr(asset, name) for name in _ASSET_FIELDS if getattr(asset, name)}
    return {**values, "tags": list(asset.tags), "labels": dict(asset.labels)}
