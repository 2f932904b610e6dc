"""Rules that send mail round in circles: every circle ends by itself, and no mail is lost in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from clawmail.core.trace import MAX_RECEIVED_BY_US
from tests.support.house import House, OwnedDomain, OwnedInbox, eventually, furnished_house
from tests.support.postgres import TestServer

LETTER = b"From: ann@author.test\r\nTo: agent@one.example\r\nSubject: round and round\r\n\r\nHi there\r\n"


@pytest.fixture
async def houses(postgres: TestServer) -> AsyncIterator[tuple[House, House]]:
    """Two servers that find each other by MX."""
    urls = [await postgres.create(), await postgres.create()]
    main = {"server": {"hostname": "mx.one.example"}}, {"server": {"hostname": "mx.two.example"}}
    async with (
        furnished_house(urls[0], main[0], public_ip="127.0.0.2") as one,
        furnished_house(urls[1], main[1], public_ip="127.0.0.3", neighbour=one) as two,
    ):
        yield one, two
    for url in urls:
        await postgres.drop(url)


async def ended(*domains: OwnedDomain) -> list[dict[str, object]]:
    """Waits until a loop has been refused; the bounces that tell of it."""
    bounces: list[dict[str, object]] = []

    async def there() -> bool:
        bounces[:] = [event for domain in domains for event in await domain.events("bounced")]
        return bool(bounces)

    await eventually(there, lambda: "nobody has noticed the loop")
    return bounces


async def copies(inbox: OwnedInbox) -> int:
    """How often the letter has come to an inbox."""
    return len(await inbox.emails("?limit=100"))


async def test_a_rule_to_the_address_it_watches_sends_nothing(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        domain = await house.domain("one.example")
        inbox = await domain.inbox("agent")
        await domain.rule("round", inbox.address.upper())
        await domain.rule("round", "ann@author.test")  # back to who sent it
        assert (await house.deliver(LETTER, inbox.address, sender="ann@author.test"))[0] == 250
        assert await copies(inbox) == 1
        assert await domain.events("accepted") == []


async def test_two_inboxes_that_forward_to_each_other_stop(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        domain = await house.domain("one.example")
        agent, other = await domain.inbox("agent"), await domain.inbox("other")
        await domain.rule("round", other.address)
        await domain.rule("round", agent.address)
        assert (await house.deliver(LETTER, agent.address))[0] == 250
        (bounce,) = await ended(domain)
        assert "5.4.6" in str(bounce["detail"])
        assert await copies(agent) + await copies(other) == MAX_RECEIVED_BY_US + 1


async def test_two_domains_of_one_server_that_forward_to_each_other_stop(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        one, two = await house.domain("one.example"), await house.domain("two.example")
        agent, other = await one.inbox("agent"), await two.inbox("other")
        await one.rule("round", other.address)
        await two.rule("round", agent.address)
        assert (await house.deliver(LETTER, agent.address))[0] == 250
        (bounce,) = await ended(one, two)
        assert "5.4.6" in str(bounce["detail"])
        assert await copies(agent) + await copies(other) == MAX_RECEIVED_BY_US + 1


async def test_rules_that_feed_each_other_do_not_multiply_a_letter_without_end(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        domain = await house.domain("one.example")
        for number in range(6):
            await domain.rule("round", f"name{number}@one.example")
        assert (await house.deliver(LETTER, "somebody@one.example"))[0] == 250
        first, second = 6, 6 * 5

        async def over() -> bool:
            return len(await domain.events("bounced")) == second

        await eventually(over, lambda: "the circles have not ended")
        # A third and a fourth time each copy becomes one more; the fifth is refused as a loop. Not 6 + 30 + 150 + 750.
        assert len(await domain.events("accepted")) == first + second + second + second


async def test_two_servers_that_forward_to_each_other_stop(houses: tuple[House, House]) -> None:
    one, two = await houses[0].domain("one.example"), await houses[1].domain("two.example")
    agent, other = await one.inbox("agent"), await two.inbox("other")
    await one.rule("round", other.address)
    await two.rule("round", agent.address)
    assert (await houses[0].deliver(LETTER, agent.address))[0] == 250
    (bounce,) = await ended(one, two)
    assert "5.4.6" in str(bounce["detail"])
    assert await copies(agent) == MAX_RECEIVED_BY_US + 1
    assert await copies(other) == MAX_RECEIVED_BY_US + 1


async def test_a_message_that_has_been_everywhere_is_refused(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        inbox = await (await house.domain("one.example")).inbox("agent")
        passed = b"".join(b"Received: from a by hop%d.test; Thu, 1 Jan 2026 00:00:00 +0000\r\n" % n for n in range(51))
        code, said = await house.deliver(passed + LETTER, inbox.address)
        assert (code, said[:5]) == (554, b"5.4.6")
        assert await copies(inbox) == 0
