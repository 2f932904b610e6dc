"""Two processes tell one owner: each event once, and what a killed process held is told by the other."""

from __future__ import annotations

import signal
from typing import Any

from tests.flow.test_webhooks import WEBHOOKS, furnish, mail, settled, webhook
from tests.support.house import HOSTS, furnished_house
from tests.support.webhook_sink import WebhookSink

SETTINGS: dict[str, dict[str, Any]] = {**WEBHOOKS, "server": {"secret_key": "5a" * 32}}


async def test_a_killed_process_is_followed_by_the_other(database_url: str) -> None:
    async with (
        WebhookSink({"slow": [0, 200]}) as sink,
        furnished_house(database_url, SETTINGS) as one,
    ):
        _, inbox = await furnish(one)
        hook = await webhook(one, inbox.key, sink.url("slow"), "received")
        await one.deliver(mail("first"), inbox.address)
        (first,) = await sink.reached("slow", 1)
        # It waits for an answer that does not come, and dies over it.
        await one.daemon.stop(signal.SIGKILL)
        async with furnished_house(database_url, SETTINGS, public_ip=HOSTS[0], neighbour=one) as two:
            (again,) = (await sink.reached("slow", 2))[1:]
            assert (again.id, again.signed_with(hook["secret"])) == (first.id, True)
            (delivery,) = await settled(two, inbox.key, hook, "delivered")
            assert delivery["attempts"] == 1  # what the dead one was told nobody knows
            await two.daemon.logged("lease taken over", event_id=first.id)


async def test_two_processes_tell_each_event_once(database_url: str) -> None:
    async with (
        WebhookSink(delay=0.02) as sink,
        furnished_house(database_url, SETTINGS) as one,
        furnished_house(database_url, SETTINGS, public_ip=HOSTS[0], neighbour=one) as two,
    ):
        _, inbox = await furnish(one)
        hook = await webhook(one, inbox.key, sink.url("mine"), "received")
        for number in range(40):
            await (one, two)[number % 2].deliver(mail(f"m{number}"), inbox.address)
        await settled(two, inbox.key, hook, "delivered", 40)
        assert len(sink.told) == len({told.id for told in sink.told}) == 40
        assert sink.most_at_once <= 4


async def test_a_stopped_process_gives_back_what_it_holds(database_url: str) -> None:
    patient = {**SETTINGS, "webhooks": {**WEBHOOKS["webhooks"], "timeout_seconds": 50.0, "lease_seconds": 600.0}}
    settings = {**patient, "server": {**SETTINGS["server"], "grace_seconds": 0.2}}
    async with WebhookSink({"slow": [0, 200]}) as sink, furnished_house(database_url, settings) as one:
        _, inbox = await furnish(one)
        hook = await webhook(one, inbox.key, sink.url("slow"), "received")
        await one.deliver(mail("first"), inbox.address)
        await sink.reached("slow", 1)
        assert await one.daemon.stop() == 0
        async with furnished_house(database_url, settings, public_ip=HOSTS[0], neighbour=one) as two:
            await settled(two, inbox.key, hook, "delivered")  # ten minutes before the lease would have ended
