"""The budget of a message: questions are counted, and none outlasts the time that is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from clawmail.protocol.dns import Answer, BudgetedResolver, Status
from tests.support.zones import ScriptedResolver

FOUND = Answer(Status.FOUND, (b"here",))


class Waiting(ScriptedResolver):
    """A resolver whose answers come once ``wait`` is over."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        super().__init__({})
        self.wait = wait
        #: questions that came to their end, and those that were cut off.
        self.ended = self.cut_off = 0

    async def txt(self, name: str) -> Answer[bytes]:
        """See ``Resolver.txt``."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        self.ended += 1
        return FOUND


async def at_hand() -> None:
    """No wait at all."""


async def some_turns() -> None:
    """Several waits, of every kind."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    await asyncio.create_task(asyncio.sleep(0))


async def for_ever() -> None:
    """A server that never answers."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("wait", [at_hand, some_turns])
@pytest.mark.parametrize("seconds", [5.0, 50.0])
async def test_answers_come_through(wait: Callable[[], Awaitable[None]], seconds: float) -> None:
    resolver = Waiting(wait)
    inner = BudgetedResolver(resolver, seconds=seconds)
    assert await BudgetedResolver(inner, seconds=seconds).txt("a.test") is FOUND
    assert await inner.txt("b.test") is FOUND
    assert (resolver.ended, resolver.cut_off) == (2, 0)


async def test_an_answer_at_hand_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_timer(_seconds: float) -> None:
        raise AssertionError("a timer was set")

    monkeypatch.setattr(asyncio, "timeout", no_timer)
    assert await BudgetedResolver(Waiting(at_hand), seconds=5).txt("a.test") is FOUND


@pytest.mark.parametrize(("outer", "inner"), [(0.01, 5.0), (5.0, 0.01), (0.01, 0.01)])
async def test_a_question_is_cut_off_when_the_time_is_over(outer: float, inner: float) -> None:
    resolver = Waiting(for_ever)
    answer = await BudgetedResolver(BudgetedResolver(resolver, seconds=inner), seconds=outer).txt("a.test")
    assert answer.failed and "time budget" in answer.problem
    assert (resolver.ended, resolver.cut_off) == (0, 1)
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()


async def test_whoever_gives_up_takes_his_question_with_him() -> None:
    resolver = Waiting(for_ever)
    asking = asyncio.create_task(BudgetedResolver(resolver, seconds=5).txt("a.test"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert resolver.cut_off == 1


async def test_a_fault_of_the_resolver_is_not_hidden() -> None:
    async def break_later() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await BudgetedResolver(Waiting(break_later), seconds=5).txt("a.test")


async def test_questions_are_counted() -> None:
    resolver = Waiting(at_hand)
    budget = BudgetedResolver(resolver, queries=2, seconds=5)
    answers = [await budget.txt(name) for name in ("a.test", "b.test", "c.test")]
    assert [answer.status for answer in answers] == [Status.FOUND, Status.FOUND, Status.FAILURE]
    assert resolver.ended == 2
