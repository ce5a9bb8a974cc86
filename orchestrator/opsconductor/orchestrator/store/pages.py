"""Pages of long lists: newest first, each page found by the place the one before it ended at."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import select, tuple_

from opsconductor.orchestrator.store.schema import microseconds
from opsconductor.rpc.errors import Fault, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Select, Table

R = TypeVar("R")

PAGE_LIMIT = 1000
"""Most rows of one page."""
_LATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some rows of a list and, when there are more, the token of the next page."""

    rows: tuple[R, ...]
    next_page_token: str


def columns_of(table: Table, row: type[R]) -> Select[Any]:
    """Selects a table's columns in the order of a row's fields."""
    return select(*(table.c[item.name] for item in fields(row)))  # type: ignore[arg-type]


class Listing(Generic[R]):
    """Reads one table newest first; its keys are ``create_time`` and an id that breaks ties."""

    def __init__(self, table: Table, row: type[R], key: str) -> None:
        self._table = table
        self._row = row
        self._key = key
        self._order = (table.c.create_time, table.c[key])

    def page(
        self,
        connection: Connection,
        filters: Sequence[ColumnElement[bool]],
        states: Sequence[str],
        page_size: int,
        page_token: str,
    ) -> Page[R]:
        """Returns one page; raises InvalidArgument for a token that is not one of ours."""
        size = min(max(page_size, 1), PAGE_LIMIT)
        query = columns_of(self._table, self._row).where(*filters)
        if page_token:
            query = query.where(tuple_(*self._order) < tuple_(*_place(page_token)))
        query = query.order_by(*(column.desc() for column in self._order)).limit(size + 1)
        found = [self._row(*row) for row in self._rows(connection, query, states)]
        found.sort(key=self._place_of, reverse=True)
        token = _token(*self._place_of(found[size - 1])) if len(found) > size else ""
        return Page(tuple(found[:size]), token)

    def _rows(self, connection: Connection, query: Select[Any], states: Sequence[str]) -> list[Any]:
        if not states:
            return list(connection.execute(query))
        # One walk of the index per state: IN would sort everything that ever had one of them.
        column = self._table.c.state
        return [row for s in set(states) for row in connection.execute(query.where(column == s))]

    def _place_of(self, row: R) -> tuple[int, str]:
        return microseconds(getattr(row, "create_time")), getattr(row, self._key)  # noqa: B009


def _token(time: int, key: str) -> str:
    return base64.urlsafe_b64encode(f"{time}.{key}".encode()).decode().rstrip("=")


def _place(token: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        time, _, key = text.partition(".")
        place = int(time), key
        if not key or abs(place[0]) > _LATEST:
            raise ValueError("no place in a list")
    except (ValueError, binascii.Error) as exc:
        fault = Fault(
            "PAGE_TOKEN",
            field="page_token",
            found=token[:80],
            expected="the next_page_token of an earlier answer",
        )
        raise InvalidArgument(f"page_token: {fault.expected} was expected", faults=[fault]) from exc
    return place
