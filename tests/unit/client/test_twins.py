"""The synchronous client is the asynchronous one without an event loop, method by method."""

from __future__ import annotations

import inspect

import pytest

from opsconductor.client import Client, SyncClient


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    assert methods(Client).keys() == methods(SyncClient).keys()


@pytest.mark.parametrize("name", sorted(methods(Client)))
def test_each_method_takes_and_gives_the_same(name: str) -> None:
    ours, theirs = methods(Client)[name], methods(SyncClient)[name]
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    given = str(ours.return_annotation).replace("AsyncIterator", "Iterator")
    assert given == str(theirs.return_annotation)
    assert inspect.getdoc(getattr(Client, name)) == inspect.getdoc(getattr(SyncClient, name))
