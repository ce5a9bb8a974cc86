"""Tells data that a database refuses from a database that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from opsconductor.rpc.errors import InvalidArgument, OpsConductorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from opsconductor.orchestrator.store.base import T

# SQLSTATE classes: data exception, integrity violation, raised by a trigger.
_FAULTS_OF_THE_DATA = ("22", "23", "P0")


def is_fault_of_the_data(exc: BaseException) -> bool:
    """Returns whether the caller's own data is at fault, so that others may go on."""
    if isinstance(exc, DBAPIError):
        state = str(getattr(exc.orig, "sqlstate", None) or "")
        return (
            isinstance(exc, IntegrityError | DataError)
            or state.startswith(_FAULTS_OF_THE_DATA)
            # What asyncpg cannot encode, it refuses before the server sees it.
            or isinstance(exc.orig and exc.orig.__cause__, ValueError)
        )
    return isinstance(
        exc, OpsConductorError | StatementError | ValueError | TypeError | OverflowError
    )


def answer(query: Callable[[Connection], T], connection: Connection) -> T:
    """Runs a query; raises InvalidArgument when it looks for what no database can hold."""
    try:
        return query(connection)
    except (StatementError, UnicodeError, OverflowError) as exc:
        if not is_fault_of_the_data(exc):
            raise
        raise InvalidArgument(f"the store cannot look for this: {brief(exc)}") from exc


def brief(exc: BaseException | None) -> str:
    """Returns the database's own words, without the statement and its parameters."""
    if isinstance(exc, StatementError) and exc.orig is not None:
        return str(exc.orig)
    return str(exc) or type(exc).__name__
