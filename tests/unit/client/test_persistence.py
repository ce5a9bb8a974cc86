"""A lost server is waited for, one that never answered is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opsconductor.client.persistence import Persistence
from opsconductor.rpc.errors import NotFound, OpsConductorError, QueueFull, StoreUnavailable
from opsconductor.rpc.transport import CallTimedOut, Unreachable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_server_that_never_answered_is_reported_at_once() -> None:
    with pytest.raises(Unreachable):
        Persistence().episode().delay_after(Unreachable())


def test_delays_grow_to_two_seconds_and_end_at_the_limit() -> None:
    clock = Clock()
    episode = Persistence(timedelta(seconds=10), clock, contacted=True).episode()
    for expected in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0):
        assert episode.delay_after(Unreachable()) == expected
        clock.now += expected
    with pytest.raises(Unreachable, match="gone"):
        episode.delay_after(Unreachable("gone"))


def test_an_answer_in_between_starts_the_patience_anew() -> None:
    clock = Clock()
    episode = Persistence(timedelta(seconds=1), clock, contacted=True).episode()
    assert episode.delay_after(Unreachable()) == 0.1
    clock.now = 100.0
    episode.succeeded()
    assert episode.delay_after(Unreachable()) == 0.1


def test_the_first_success_shows_that_the_server_exists() -> None:
    persistence = Persistence()
    persistence.episode().succeeded()
    assert persistence.episode().delay_after(Unreachable()) > 0


def test_a_refusal_shows_that_the_server_exists_too() -> None:
    persistence = Persistence()
    with pytest.raises(NotFound):
        persistence.episode().delay_after(NotFound())
    assert persistence.episode().delay_after(Unreachable()) > 0


def test_a_store_that_did_not_take_the_write_is_asked_again() -> None:
    assert Persistence().episode().delay_after(StoreUnavailable()) > 0


@pytest.mark.parametrize("error", [NotFound(), QueueFull(), CallTimedOut()])
def test_any_other_failure_is_final(error: OpsConductorError) -> None:
    with pytest.raises(type(error)):
        Persistence(contacted=True).episode().delay_after(error)
