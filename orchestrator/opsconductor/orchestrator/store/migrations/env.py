"""Alembic's entry: runs migrations on the connection it is handed; imported, it does nothing."""

from __future__ import annotations

from alembic import context

from opsconductor.orchestrator.store.schema import metadata


def run_migrations() -> None:
    """Runs the scripts in the transaction of the connection in ``config.attributes``."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        # SQLite's schema changes are transactional once the driver does not interfere.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# The name under which Alembic runs this file.
if __name__ == "env_py":
    run_migrations()
