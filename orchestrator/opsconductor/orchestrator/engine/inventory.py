"""Inventory: assets kept in the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.orchestrator.domain.plans.assets import read_assets
from opsconductor.orchestrator.domain.plans.segments import read_segments
from opsconductor.orchestrator.engine.planning import segments_of
from opsconductor.orchestrator.store.base import DeleteAsset, PutAsset
from opsconductor.rpc import canonical
from opsconductor.rpc.errors import DocumentInvalid, NotFound
from opsconductor.tool_registry.documents import yaml_reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsconductor.orchestrator.engine.planning import Planner
    from opsconductor.orchestrator.store.store import Store
    from opsconductor.rpc.errors import Fault

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024

Asset = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which assets are asked for; empty fields do not filter."""

    type: str = ""
    tags: tuple[str, ...] = ()
    segment: str = ""
    name: str = ""
    environment: str = ""
    exact_name: str = ""

    def matches(self, asset: Asset) -> bool:
        """Tells whether an asset is one of those asked for."""
        return (
            self.type in ("", asset["type"])
            and self.segment in ("", asset["segment"])
            and self.environment in ("", asset["environment"])
            and self.name.lower() in asset["name"].lower()
            and self.exact_name in ("", asset["name"])
            and set(self.tags) <= set(asset["tags"])
        )


@dataclass(frozen=True)
class Found:
    """Assets that match a filter."""

    total: int
    breakdown: dict[str, int]
    assets: list[Asset]


class Inventory:
    """Lists, counts and changes assets."""

    def __init__(self, store: Store, planner: Planner) -> None:
        self._store = store
        self._planner = planner

    async def query(self, tenant: str, wanted: Filter, limit: int) -> Found:
        """Returns how many assets match, by type, and the first of them by name."""
        assets = await self._planner.assets(tenant)
        matching = [dict(asset) for _, asset in sorted(assets.items()) if wanted.matches(asset)]  # type: ignore[arg-type]
        breakdown = dict(sorted(Counter(asset["type"] for asset in matching).items()))
        return Found(len(matching), breakdown, matching[:limit])

    async def page(self, tenant: str, after: str, size: int) -> tuple[list[Asset], str]:
        """Returns assets by name after one, and the last name when there are more."""
        rows = await self._store.query_assets(tenant, after=after, limit=size + 1)
        assets = [canonical.loads(row.document) for row in rows[:size]]
        return assets, rows[size - 1].name if len(rows) > size else ""

    async def put(self, tenant: str, source: bytes | Sequence[Asset]) -> tuple[int, int]:
        """Creates or replaces assets by name, all or none; returns (created, replaced).

        A document may hold ``segments`` too: that list is the whole segments map from then on.

        Raises:
            DocumentInvalid: With every fault.
        """
        lines = None
        document: Any = source
        if isinstance(source, bytes):
            document, lines, unreadable = yaml_reader.load_collection(
                source, max_bytes=MAX_DOCUMENT_BYTES, too_large="INVENTORY_TOO_LARGE"
            )
            if unreadable:
                raise DocumentInvalid("the inventory could not be read", faults=unreadable)
        segments: list[dict[str, Any]] | None = None
        faults: tuple[Fault, ...] = ()
        if isinstance(document, dict) and "segments" in document:
            document = {"assets": [], **document}
            segments, faults = read_segments(document.pop("segments"), lines)
        assets, wrong = read_assets(document, lines)
        faults = (*wrong, *faults)
        if faults:
            count = len(faults)
            text = f"the inventory has {count} fault{'s' * (count != 1)}; nothing was imported"
            raise DocumentInvalid(text, faults=faults)
        known = await self._planner.assets(tenant)
        created = sum(1 for asset in assets if asset["name"] not in known)
        changes: list[PutAsset | DeleteAsset] = [
            PutAsset(tenant, asset["name"], asset["type"], asset["segment"], canonical.dumps(asset))
            for asset in assets
        ]
        if segments is not None:
            changes += await self._replace_segments(tenant, segments)
        if changes:
            await self._store.commit(*changes)
        self._planner.assets_changed(tenant)
        return created, len(assets) - created

    async def _replace_segments(
        self, tenant: str, segments: Sequence[Asset]
    ) -> list[PutAsset | DeleteAsset]:
        owner = segments_of(tenant)
        names = {segment["name"] for segment in segments}
        gone = [row.name for row in await self._store.assets(owner) if row.name not in names]
        return [
            *(DeleteAsset(owner, name) for name in gone),
            *(
                PutAsset(owner, segment["name"], "segment", "", canonical.dumps(segment))
                for segment in segments
            ),
        ]

    async def has(self, tenant: str, name: str) -> bool:
        """Tells whether there is an asset of a name."""
        return name in await self._planner.assets(tenant)

    async def delete(self, tenant: str, name: str) -> None:
        """Deletes an asset. Raises NotFound."""
        (there,) = await self._store.commit(DeleteAsset(tenant, name))
        self._planner.assets_changed(tenant)
        if not there:
            raise NotFound(f"there is no asset {name}")
