"""InventoryService. See inventory_service.proto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.engine.inventory import Filter
from opsconductor.orchestrator.servicers import wire
from opsconductor.rpc.errors import InvalidArgument
from opsconductor.rpc.identity import identity_of
from opsconductor.v1 import inventory_service_pb2 as pb
from opsconductor.v1 import inventory_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.orchestrator.engine.asset_changes import AssetChanges
    from opsconductor.orchestrator.engine.inventory import Inventory
    from opsconductor.orchestrator.servicers.call import Context

_TEXTS = (
    "name",
    "type",
    "address",
    "segment",
    "connection",
    "credential",
    "service_manager",
    "service_command",
    "environment",
)


class InventoryServicer(pb_grpc.InventoryServiceServicer):
    """Keeps assets."""

    def __init__(self, inventory: Inventory, changes: AssetChanges) -> None:
        self._inventory = inventory
        self._changes = changes

    async def List(  # noqa: N802
        self, request: pb.ListAssetsRequest, context: Context
    ) -> pb.ListAssetsResponse:
        """See inventory_service.proto."""
        size = wire.page_size(request.page_size, 200, 1000)
        tenant = identity_of(context).tenant
        assets, more = await self._inventory.page(tenant, request.page_token, size)
        return pb.ListAssetsResponse(
            assets=[_message(asset) for asset in assets], next_page_token=more
        )

    async def Query(  # noqa: N802
        self, request: pb.QueryAssetsRequest, context: Context
    ) -> pb.QueryAssetsResponse:
        """See inventory_service.proto."""
        wanted = Filter(
            request.type,
            tuple(request.tags),
            request.segment,
            request.name,
            request.environment,
            request.exact_name,
        )
        limit = wire.page_size(request.limit, 0, 1000)
        found = await self._inventory.query(identity_of(context).tenant, wanted, limit)
        return pb.QueryAssetsResponse(
            total_count=found.total,
            breakdown=found.breakdown,
            assets=[_message(asset) for asset in found.assets],
        )

    async def Import(  # noqa: N802
        self, request: pb.ImportAssetsRequest, context: Context
    ) -> pb.ImportAssetsResponse:
        """See inventory_service.proto."""
        if bool(request.document) == bool(request.assets):
            raise InvalidArgument("give either assets or a document")
        source = request.document or [_plain(asset) for asset in request.assets]
        created, updated = await self._inventory.put(identity_of(context).tenant, source)
        return pb.ImportAssetsResponse(created=created, updated=updated)

    async def Delete(  # noqa: N802
        self, request: pb.DeleteAssetRequest, context: Context
    ) -> pb.DeleteAssetResponse:
        """See inventory_service.proto."""
        await self._inventory.delete(identity_of(context).tenant, request.name)
        return pb.DeleteAssetResponse()

    async def Change(  # noqa: N802
        self, request: pb.ChangeAssetRequest, context: Context
    ) -> pb.ChangeAssetResponse:
        """See inventory_service.proto."""
        agent, attempt = identity_of(context), request.attempt_id
        match request.WhichOneof("change"):
            case "create":
                await self._changes.create(agent, attempt, _plain(request.create))
            case "replace":
                await self._changes.replace(agent, attempt, _plain(request.replace))
            case "delete":
                await self._changes.delete(agent, attempt, request.delete)
            case _:
                raise InvalidArgument("name a change: create, replace or delete")
        return pb.ChangeAssetResponse()


def _message(asset: Mapping[str, Any]) -> pb.Asset:
    return pb.Asset(
        **{name: asset[name] for name in _TEXTS},
        port=asset["port"],
        tags=asset["tags"],
        host_keys=asset["host_keys"],
        labels=asset["labels"],
    )


def _plain(asset: pb.Asset) -> dict[str, Any]:
    return {
        **{name: getattr(asset, name) for name in _TEXTS},
        "port": asset.port,
        "tags": list(asset.tags),
        "host_keys": list(asset.host_keys),
        "labels": dict(asset.labels),
    }
