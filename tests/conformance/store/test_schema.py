"""The schema: migrations add up to it, and a store opens only what it understands."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from conformance.store.samples import NOON, append, stored_event
from opsconductor.orchestrator.store import migrate
from opsconductor.orchestrator.store.base import SchemaTooNew
from opsconductor.orchestrator.store.schema import HEAD, metadata
from opsconductor.orchestrator.store.store import Store
from opsconductor.rpc.errors import InvalidArgument, StoreUnavailable

_SQLITE_SHAPE = """
SELECT type, name, tbl_name, sql FROM sqlite_master
WHERE name NOT LIKE '%alembic%' AND name NOT LIKE 'sqlite_%'
"""
_POSTGRES_SHAPES = (
    """
    SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    """,
    "SELECT tablename, indexname, indexdef FROM pg_indexes "
    "WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'",
    "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger "
    "WHERE NOT tgisinternal",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
)


def _shape(connection: Connection) -> set[tuple[object, ...]]:
    """Returns everything the database says about its own schema, spacing aside."""
    sqlite = connection.dialect.name == "sqlite"
    queries = (_SQLITE_SHAPE,) if sqlite else _POSTGRES_SHAPES
    return {
        tuple(" ".join(item.split()) if isinstance(item, str) else item for item in row)
        for query in queries
        for row in connection.execute(text(query))
    }


async def _described(url: str) -> set[tuple[object, ...]]:
    store = await Store.open(url, clock=lambda: NOON)
    try:
        return await store._database.read(_shape)
    finally:
        await store.close()


async def test_the_migrations_add_up_to_the_schema(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated = await _described(store_url)
    connection_of_first: list[Connection] = []

    def create_all(connection: Connection) -> None:
        connection_of_first.append(connection)
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP FUNCTION refuse_change"))
        metadata.create_all(connection)

    monkeypatch.setattr(migrate, "current_version", lambda _connection: "")
    monkeypatch.setattr(migrate, "_run_scripts", create_all)
    created = await _described(store_url)
    assert connection_of_first
    assert len(migrated) > 20
    assert migrated == created


def test_the_newest_script_is_the_one_the_store_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.SCRIPTS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_alembics_entry_can_be_imported_and_does_nothing_then() -> None:
    importlib.import_module("opsconductor.orchestrator.store.migrations.env")
    importlib.import_module("opsconductor.orchestrator.store.migrations.versions.m0001_initial")


async def test_a_reopened_store_keeps_its_content_and_its_name(store_url: str) -> None:
    first = await Store.open(store_url, clock=lambda: NOON)
    await first.commit(append("exe_1", 1))
    await first.close()
    again = await Store.open(store_url, clock=lambda: NOON)
    assert await again.events("exe_1") == (stored_event(1),)
    assert again.incarnation == first.incarnation
    assert len(again.incarnation) == 32
    assert await again.meta("create_time") == NOON.isoformat()
    await again.close()


async def test_a_database_of_a_newer_version_is_refused(store_url: str) -> None:
    store = await Store.open(store_url, clock=lambda: NOON)
    await store.close()

    async def set_version(version: str) -> None:
        def change(connection: Connection) -> None:
            if connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA query_only = OFF"))
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))

        await store._database.read(change)
        await store.close()

    store = await Store.open(store_url, clock=lambda: NOON)
    await set_version("9999")
    with pytest.raises(SchemaTooNew, match=r"9999.*newer"):
        await Store.open(store_url, clock=lambda: NOON)


@pytest.mark.parametrize("url", ["mysql://host/db", "nonsense", "sqlite://", ""])
async def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="sqlite:////path"):
        await Store.open(url, clock=lambda: NOON)


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open("postgresql://ops:hunter2@127.0.0.1:1/x", clock=lambda: NOON)
    assert "127.0.0.1:1/x" in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_orchestrators_that_start_together_agree_on_one_name(postgres_url: str) -> None:
    opening = (Store.open(postgres_url, clock=lambda: NOON) for _ in range(4))
    stores = await asyncio.gather(*opening)
    assert len({store.incarnation for store in stores}) == 1
    for store in stores:
        await store.close()
