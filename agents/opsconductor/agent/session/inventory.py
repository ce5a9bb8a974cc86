"""Asks and changes the orchestrator's inventory, for the asset tools."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from opsconductor.rpc.errors import NotFound
from opsconductor.rpc.status import from_rpc_error
from opsconductor.rpc.transport import Unreachable
from opsconductor.v1 import inventory_service_pb2 as pb
from opsconductor.v1 import inventory_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opsconductor.agent.executors.inventory import InventoryRequest
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
_ALL_FIELDS = (*_ASSET_FIELDS, "credential", "service_command")
_LISTS = ("tags", "host_keys")


class InventoryQueries:
    """Requests over whatever sessions there are now."""

    def __init__(self) -> None:
        self._channels: list[grpc.aio.Channel] = []

    @contextlib.contextmanager
    def over(self, channel: grpc.aio.Channel) -> Iterator[None]:
        """Lets requests go over a channel too, for as long as its session lasts."""
        self._channels.append(channel)
        try:
            yield
        finally:
            self._channels.remove(channel)

    async def __call__(self, request: InventoryRequest) -> dict[str, Any]:
        """Returns what the inventory says; raises the call's error."""
        args, name = request.args, str(request.args.get("name", ""))
        match request.handler:
            case "asset_query":
                return _answer(await self._query(_filter(args)))
            case "asset_get":
                return {"asset": _document(await self._one(name))}
            case "asset_create":
                asset = _asset(args.get("asset") or args)
                await self._change(request, create=asset)
            case "asset_replace":
                asset = _asset(args["asset"])
                await self._change(request, replace=asset)
            case "asset_update":
                asset = _asset({**_document(await self._one(name)), **args})
                await self._change(request, replace=asset)
            case _:
                await self._change(request, delete=name)
                return {"deleted": name}
        return {"asset": _document(asset)}

    async def _one(self, name: str) -> pb.Asset:
        found = await self._query(pb.QueryAssetsRequest(exact_name=name, limit=1))
        if not name or not found.assets:
            raise NotFound(f"there is no asset {name}")
        return found.assets[0]

    async def _query(self, request: pb.QueryAssetsRequest) -> pb.QueryAssetsResponse:
        failure = _no_session()
        for channel in list(self._channels):
            query: Any = pb_grpc.InventoryServiceStub(channel).Query
            try:
                answer: pb.QueryAssetsResponse = await query(request, timeout=QUERY_TIMEOUT)
            except grpc.RpcError as exc:
                failure = from_rpc_error(exc)
            else:
                return answer
            if not failure.retryable:
                break
        raise failure

    async def _change(self, request: InventoryRequest, **change: Any) -> None:
        """Sends a change once: what was lost on the way may have been carried out."""
        if not self._channels:
            raise _no_session()
        send: Any = pb_grpc.InventoryServiceStub(self._channels[0]).Change
        message = pb.ChangeAssetRequest(attempt_id=request.attempt_id, **change)
        request.sent = True
        try:
            await send(message, timeout=QUERY_TIMEOUT)
        except grpc.RpcError as exc:
            raise from_rpc_error(exc) from exc


def _no_session() -> OpsConductorError:
    return Unreachable("there is no session with the orchestrator, whose inventory is asked")


def _filter(args: Mapping[str, Any]) -> pb.QueryAssetsRequest:
    return pb.QueryAssetsRequest(
        tags=args.get("tags") or (),
        limit=int(args.get("limit", 100)),
        **{name: args[name] for name in _TEXTS if args.get(name)},
    )


def _answer(answer: pb.QueryAssetsResponse) -> dict[str, Any]:
    return {
        "success": True,
        "total_count": answer.total_count,
        "breakdown": dict(answer.breakdown),
        "assets": [_listed(asset) for asset in answer.assets],
    }


def _listed(asset: pb.Asset) -> dict[str, Any]:
    values = {name: getattr(asset, name) for name in _ASSET_FIELDS if getattr(asset, name)}
    return {**values, "tags": list(asset.tags), "labels": dict(asset.labels)}


def _document(asset: pb.Asset) -> dict[str, Any]:
    """Returns all of an asset, so that it can be put back as it was."""
    values = {name: getattr(asset, name) for name in _ALL_FIELDS if getattr(asset, name)}
    lists = {name: list(getattr(asset, name)) for name in _LISTS}
    return {**values, **lists, "labels": dict(asset.labels)}


def _asset(document: Mapping[str, Any]) -> pb.Asset:
    known = (*_ALL_FIELDS, *_LISTS, "labels")
    return pb.Asset(**{name: document[name] for name in known if document.get(name)})
