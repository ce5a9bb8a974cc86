"""Asks the orchestrator's inventory, for the asset tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.status import from_rpc_error
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import inventory_service_pb2 as pb
from opsconductor.v1 import inventory_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Queries over whatever channel the session has now."""

    def __init__(self) -> None:
        self.channel: grpc.aio.Channel | None = None

    async def __call__(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns count, breakdown by type and the first assets; raises the call's error."""
        if self.channel is None:
            raise Unreachable("there is no session with the orchestrator, whose inventory is asked")
        request = pb.QueryAssetsRequest(
            tags=filters.get("tags") or (),
            limit=int(filters.get("limit", 100)),
            **{name: filters[name] for name in _TEXTS if filters.get(name)},
        )
        query: Any = pb_grpc.InventoryServiceStub(self.channel).Query
        try:
            answer = await query(request, timeout=QUERY_TIMEOUT)
        except grpc.RpcError as exc:
            raise from_rpc_error(exc) from exc
        return {
            "success": True,
            "total_count": answer.total_count,
            "breakdown": dict(answer.breakdown),
            "assets": [_asset(asset) for asset in answer.assets],
        }


def _asset(asset: pb.Asset) -> dict[str, Any]:
    values = {name: getattr(asset, name) for name in _ASSET_FIELDS if getattr(asset, name)}
    return {**values, "tags": list(asset.tags), "labels": dict(asset.labels)}
