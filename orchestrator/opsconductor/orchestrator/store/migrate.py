"""Brings a database to the newest schema."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert, inspect, text

from opsconductor.orchestrator.store.base import SchemaTooNew
from opsconductor.orchestrator.store.schema import HEAD, meta
from opsconductor.rpc.failpoints import hit

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

SCRIPTS = Path(__file__).with_name("migrations")
"""Folder of the migration scripts."""
INCARNATION = "incarnation"
"""Key in ``meta`` of the database's random name."""
CREATE_TIME = "create_time"
"""Key in ``meta`` of when the database was made."""

# Any number will do as long as every orchestrator uses the same one: "opsc" in ASCII.
_ADVISORY_LOCK = 0x6F707363


def upgrade(connection: Connection, now: datetime) -> None:
    """Runs the missing migrations and names a new database, in one transaction.

    Orchestrators that start at the same time on one PostgreSQL wait for each other.

    Raises:
        SchemaTooNew: A newer version of OpsConductor wrote this database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
    version = current_version(connection)
    if version > HEAD:
        raise SchemaTooNew(
            f"the database has schema {version} and this program knows schemas up to {HEAD}: "
            "start the version of OpsConductor that wrote it, or a newer one"
        )
    if version < HEAD:
        _run_scripts(connection)
        hit("migrate.mid")
    if not version:
        first = {INCARNATION: secrets.token_hex(16), CREATE_TIME: now.isoformat()}
        rows = [{"key": key, "value": value} for key, value in first.items()]
        connection.execute(insert(meta), rows)
    connection.commit()


def current_version(connection: Connection) -> str:
    """Returns the number of the newest migration that ran; empty for a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _run_scripts(connection: Connection) -> None:
    # Alembic takes longer to load than the rest of the store and is needed once per release.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
