"""Patience with callers who do not wait: at first at once, then later and later, then as from the beginning."""

from __future__ import annotations

from clawmail.api.patience import FORGET_SECONDS, FREE_REFUSALS, MAX_CALLERS, MOST_SECONDS, Patience


def test_the_first_refusals_are_said_at_once_and_further_ones_later_and_later() -> None:
    patience = Patience(lambda: 0.0)
    waits = [patience.wait("203.0.113.1") for _ in range(100)]
    assert waits[:FREE_REFUSALS] == [0.0] * FREE_REFUSALS
    assert waits == sorted(waits)
    assert 0 < waits[FREE_REFUSALS] < waits[-1] == MOST_SECONDS
    assert patience.wait("203.0.113.2") == 0


def test_who_waits_is_forgiven() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    assert [patience.wait("203.0.113.1") for _ in range(100)][-1] == MOST_SECONDS
    now += FORGET_SECONDS
    assert patience.wait("203.0.113.1") == MOST_SECONDS
    now += FORGET_SECONDS + 1
    assert patience.wait("203.0.113.1") == 0


def test_only_so_many_are_remembered() -> None:
    patience = Patience(lambda: 0.0)
    for _ in range(FREE_REFUSALS + 1):
        first = patience.wait("203.0.113.1")
    assert first > 0
    for number in range(MAX_CALLERS):
        patience.wait(str(number))
    assert patience.wait("203.0.113.1") == 0
