"""Collects lists that come in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Page(Protocol):
    """An answer that may have a next page."""

    next_page_token: str


P = TypeVar("P", bound=Page)
T = TypeVar("T")


def collect(
    fetch: Callable[[int, str], P],
    items_of: Callable[[P], Iterable[T]],
    *,
    limit: int,
    page_size: int,
) -> list[T]:
    """Returns the first items of all pages together.

    Args:
        fetch: Fetches a page by its size and token.
        items_of: Returns the items of a page.
        limit: How many items at most.
        page_size: The largest page the server gives.
    """
    found: list[T] = []
    token = ""
    while len(found) < limit:
        page = fetch(min(page_size, limit - len(found)), token)
        found.extend(items_of(page))
        token = page.next_page_token
        if not token:
            break
    return found[:limit]
