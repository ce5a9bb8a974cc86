"""Plans of the chaos suite: what operators do, with names that tell the ledger what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chaos.tools import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    Plan = dict[str, Any]

SMALL, MUCH = 2_000, 300_000


def _plan(name: str, steps: Iterable[dict[str, Any]], **fields: Any) -> Plan:
    return {"name": name, "context": {"environment": "staging"}, "steps": list(steps), **fields}


def _change(key: str, id: str, random: Random, **fields: Any) -> dict[str, Any]:
    inputs = {"bytes": random.randrange(SMALL), "milliseconds": random.choice((0, 0, 100, 300))}
    undo = call("chaos_change", f"{key}.{id}.undo", bytes=74)
    step = {"id": id, **call("chaos_change", f"{key}.{id}", **inputs), "undo": undo}
    return {**step, **fields}


def chain(key: str, random: Random) -> Plan:
    """Returns three changes, one after the other."""
    return _plan("chain", (_change(key, id, random) for id in ("one", "two", "three")))


def graph(key: str, random: Random) -> Plan:
    """Returns changes that run side by side, and one that needs two of them."""
    steps = [
        _change(key, "a", random),
        _change(key, "b", random, needs=["a"]),
        _change(key, "c", random, needs=["a"]),
        _change(key, "d", random, needs=["b", "c"]),
        {"id": "look", **call("chaos_read", f"{key}.look", bytes=random.randrange(MUCH))},
    ]
    return _plan("graph", steps, mode="graph")


def rollback(key: str, random: Random) -> Plan:
    """Returns a plan whose last step fails, so that all before it is undone."""
    failing = {"id": "three", **call("chaos_change", f"{key}.three", code=3), "undo": "none"}
    steps = [_change(key, "one", random), _change(key, "two", random), failing]
    return _plan("rollback", steps, on_failure="rollback")


def retry(key: str, random: Random) -> Plan:
    """Returns an idempotent change that fails twice before it works."""
    step = {
        "id": "again",
        **call("chaos_set", f"{key}.again", failures=2, bytes=random.randrange(SMALL)),
        "undo": "none",
        "retry": {"max_attempts": 6, "backoff": "fixed", "delay": "200ms", "on": ["failed"]},
    }
    return _plan("retry", [step])


def read(key: str, random: Random) -> Plan:
    """Returns reads, which nobody has to approve."""
    steps = [
        {"id": id, **call("chaos_read", f"{key}.{id}", bytes=random.randrange(MUCH))}
        for id in ("look", "again")
    ]
    return _plan("read", steps, mode="parallel")


def talk(key: str, random: Random) -> Plan:
    """Returns a change that prints much, slowly enough to be caught at it."""
    step = {
        "id": "talk",
        **call("chaos_change", f"{key}.talk", bytes=MUCH, milliseconds=800),
        "undo": "none",
    }
    return _plan("talk", [step])


def slow(key: str, random: Random) -> Plan:
    """Returns a change that still runs when an agent has started again, and prints meanwhile."""
    step = {
        "id": "slow",
        **call("chaos_change", f"{key}.slow", bytes=SMALL, milliseconds=6_000),
        "undo": "none",
    }
    return _plan("slow", [step])


def cancel(key: str, random: Random) -> Plan:
    """Returns a long step that grows a process tree; the workload cancels it."""
    step = {
        "id": "long",
        **call("chaos_change", f"{key}.long", milliseconds=60_000, bytes=SMALL, tree=1),
        "undo": "none",
    }
    return _plan("cancel", [_change(key, "first", random), step])


def timeout(key: str, random: Random) -> Plan:
    """Returns a change that takes longer than it may."""
    step = {
        "id": "slow",
        **call("chaos_change", f"{key}.slow", milliseconds=60_000, bytes=SMALL),
        "timeout": "1s",
        "undo": "none",
    }
    return _plan("timeout", [step])


def small(key: str, random: Random) -> Plan:
    """Returns one change that prints a little."""
    step = {"id": "one", **call("chaos_change", f"{key}.one", bytes=2_000), "undo": "none"}
    return _plan("small", [step])


KINDS: dict[str, Callable[[str, Random], Plan]] = {
    kind.__name__: kind
    for kind in (chain, graph, rollback, retry, read, talk, slow, cancel, timeout, small)
}
