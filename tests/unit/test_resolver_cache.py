"""What the resolver remembers and for how long, and questions that several callers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import dns.message
import pytest

from clawmail.net.dns_cache import DnsCache
from clawmail.net.resolver import FAILURE_TTL, DnsResolver
from clawmail.protocol.dns import Answer, Status
from tests.support.dns_server import SERVFAIL, DnsServer, Fault

ZONE: dict[str, dict[str, Any]] = {"example.org": {"A": ["192.0.2.1"]}, "dead.example.org": {"*": SERVFAIL}}


class Clock:
    """Seconds that pass when told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(**options: Any) -> AsyncIterator[tuple[DnsServer, DnsResolver, Clock]]:
    clock = Clock()
    async with DnsServer(ZONE) as server:
        resolver = DnsResolver([server.nameserver], timeout_seconds=5, clock=clock, **options)
        yield server, resolver, clock
        await resolver.close()


def without_suspending(question: Any) -> Any:
    """The result of a coroutine that must not wait for anything."""
    with pytest.raises(StopIteration) as done:
        question.send(None)
    return done.value.value


async def test_an_answer_is_kept_for_its_time_and_given_without_a_pause() -> None:
    async with asking() as (server, resolver, clock):
        server.ttl = 60
        first = await resolver.a("Example.org.")
        clock.now += 59
        assert without_suspending(resolver.a("example.ORG")) is first
        assert server.asked == [("A", "example.org")]
        clock.now += 1
        assert (await resolver.a("example.org")).found
        assert len(server.asked) == 2


async def test_a_missing_name_is_kept_as_long_as_the_soa_says() -> None:
    async with asking() as (server, resolver, clock):
        server.negative_ttl = 30
        first = await resolver.a("gone.example.org")
        assert (first.status, first.ttl) == (Status.NO_NAME, 30)
        clock.now += 29
        assert without_suspending(resolver.a("gone.example.org")) is first
        clock.now += 1
        await resolver.a("gone.example.org")
        assert len(server.asked) == 2


async def test_without_an_soa_a_missing_name_is_not_kept() -> None:
    def without_soa(reply: bytes) -> list[bytes]:
        message = dns.message.from_wire(reply)
        message.authority.clear()
        return [message.to_wire()]

    async with asking() as (server, resolver, _):
        server.fault("*", Fault(tamper=without_soa))
        assert (await resolver.a("gone.example.org")).status is Status.NO_NAME
        assert (await resolver.a("gone.example.org")).status is Status.NO_NAME
        assert len(server.asked) == 2


@pytest.mark.parametrize(("ttl", "kept"), [(0, 0), (10**6, 86_400)])
async def test_the_time_to_live_has_bounds(ttl: int, kept: int) -> None:
    async with asking() as (server, resolver, clock):
        server.ttl = ttl
        assert (await resolver.a("example.org")).ttl == kept
        clock.now += kept
        await resolver.a("example.org")
        assert len(server.asked) == 2


async def test_a_failure_is_kept_for_a_moment() -> None:
    async with asking() as (server, resolver, clock):
        assert (await resolver.a("dead.example.org")).failed
        assert without_suspending(resolver.a("dead.example.org")).failed
        server.set("dead.example.org", "*", ())
        server.set("dead.example.org", "A", ["192.0.2.1"])
        server.remove("dead.example.org", "*")
        clock.now += FAILURE_TTL
        assert (await resolver.a("dead.example.org")).found


async def test_equal_questions_are_asked_once() -> None:
    async with asking() as (server, resolver, _):
        server.fault("*", Fault(delay=0.02))
        answers = await asyncio.gather(*[resolver.a("example.org") for _ in range(50)], resolver.mx("example.org"))
        assert sorted(server.asked) == [("A", "example.org"), ("MX", "example.org")]
        assert all(answer is answers[0] for answer in answers[:50])


async def test_one_who_gives_up_does_not_spoil_it_for_the_others() -> None:
    async with asking() as (server, resolver, _):
        server.fault("*", Fault(delay=0.02))
        waiting = [asyncio.ensure_future(resolver.a("example.org")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert (await waiting[1]).found and (await waiting[2]).found
        assert waiting[0].cancelled()
        assert len(server.asked) == 1


async def test_the_answer_is_kept_though_everybody_gave_up() -> None:
    async with asking() as (server, resolver, _):
        server.fault("*", Fault(delay=0.02))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await resolver.a("example.org")
        assert (await resolver.a("example.org")).found
        assert len(server.asked) == 1


async def test_close_answers_those_who_wait() -> None:
    async with asking() as (server, resolver, _):
        server.fault("*", Fault(silent=True))
        waiting = asyncio.ensure_future(resolver.a("example.org"))
        await asyncio.sleep(0.01)
        await resolver.close()
        assert (await waiting).failed
        assert (await resolver.a("other.example.org")).failed


async def test_a_storm_of_names_does_not_grow_the_cache() -> None:
    async with asking(max_entries=40) as (server, resolver, _):
        for i in range(100):
            await resolver.a(f"{i}.example.org")
            await resolver.a("example.org")
        assert server.asked.count(("A", "example.org")) == 1  # what is popular stays
        assert len(resolver._cache) <= 40


def _address(last: int) -> Answer[object]:
    return Answer(Status.FOUND, (IPv4Address(last),))


def test_the_cache_is_bounded_in_octets() -> None:
    cache = DnsCache(max_entries=1_000, max_octets=1_000)
    for i in range(100):
        cache.put(("A", str(i)), _address(i), expires=10, size=100)
    assert len(cache) <= 10
    assert cache.get(("A", "99"), 0) == _address(99)
    assert cache.get(("A", "0"), 0) is None


def test_what_is_larger_than_half_the_cache_is_not_kept() -> None:
    cache = DnsCache(max_entries=1_000, max_octets=1_000)
    cache.put(("A", "small"), _address(1), expires=10, size=10)
    cache.put(("A", "large"), _address(2), expires=10, size=501)
    assert cache.get(("A", "large"), 0) is None
    assert cache.get(("A", "small"), 0) == _address(1)


def test_a_new_answer_takes_the_place_of_the_old_one() -> None:
    cache = DnsCache(max_entries=4, max_octets=1_000)
    cache.put(("A", "x"), _address(1), expires=10, size=10)
    cache.put(("A", "y"), _address(0), expires=10, size=10)
    cache.put(("A", "z"), _address(0), expires=10, size=10)  # x and y are old now
    cache.put(("A", "x"), _address(2), expires=20, size=10)
    assert cache.get(("A", "x"), 15) == _address(2)
    assert cache.get(("A", "y"), 15) is None
