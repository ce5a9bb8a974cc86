"""A lost server is waited for, one that never answered is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opsconductor.client.endpoints import NoneAnswers
from opsconductor.client.persistence import REPEATED, Persistence
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
    persistence = Persistence(timedelta(seconds=10), clock, lambda: 1.0, contacted=True)
    episode = persistence.episode()
    for expected in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0):
        assert episode.delay_after(Unreachable()) == expected
        clock.now += expected
    with pytest.raises(Unreachable, match="gone"):
        episode.delay_after(Unreachable("gone"))


def test_an_answer_in_between_starts_the_patience_anew() -> None:
    clock = Clock()
    persistence = Persistence(timedelta(seconds=1), clock, lambda: 1.0, contacted=True)
    episode = persistence.episode()
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


def test_tries_are_spread_over_the_whole_delay() -> None:
    persistence = Persistence(chance=lambda: 0.25, contacted=True)
    assert persistence.episode().delay_after(Unreachable()) == 0.025


def test_all_tries_together_end_at_the_deadline() -> None:
    clock = Clock()
    episode = Persistence(monotonic=clock, chance=lambda: 1.0, contacted=True).episode(
        timedelta(seconds=1)
    )
    assert episode.options(timedelta(seconds=30), repeatable=True) == {"timeout": 1.0}
    assert episode.delay_after(Unreachable()) == 0.1
    clock.now = 0.9
    assert episode.options(None, repeatable=True)["timeout"] == pytest.approx(0.1)
    with pytest.raises(Unreachable, match="gone"):
        episode.delay_after(Unreachable("gone"))


def test_what_may_be_sent_once_is_not_made_again_after_a_lost_answer() -> None:
    episode = Persistence(contacted=True).episode()
    with pytest.raises(Unreachable, match="may have been carried out"):
        episode.delay_after(Unreachable("gone"), repeatable=False)


def test_what_was_not_sent_is_made_again_even_if_it_may_be_sent_once() -> None:
    episode = Persistence(contacted=True).episode()
    assert episode.delay_after(NoneAnswers(), repeatable=False) >= 0
    with pytest.raises(NotFound) as refused:
        episode.delay_after(NotFound(), repeatable=False)
    assert REPEATED not in refused.value.metadata


def test_an_answer_after_a_lost_one_says_so() -> None:
    episode = Persistence(contacted=True).episode()
    episode.delay_after(Unreachable())
    with pytest.raises(NotFound) as refused:
        episode.delay_after(NotFound())
    assert REPEATED in refused.value.metadata
