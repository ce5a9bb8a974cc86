"""The database's own clock: the only one that orchestrators on one store compare times with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class DatabaseNow(FunctionElement[int]):
    """Microseconds since 1970 as the database counts them, at the moment it is asked."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseNow, "sqlite")
def _sqlite(element: Any, compiler: Any, **_: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


@compiles(DatabaseNow, "postgresql")
def _postgresql(element: Any, compiler: Any, **_: Any) -> str:
    # Not now(): that is when the transaction began, and it may have waited for a lock since.
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
