"""Growth: the same mail into an empty store and into one that holds much, whose size should not matter."""

from __future__ import annotations

from functools import partial

from tests.bench import loads, mail
from tests.bench.figures import Figure, Run, at_least, in_turns, one
from tests.bench.house import furnished
from tests.bench.inbound import WARM_UP, WAYS, measure, message_file
from tests.bench.machine import Spread
from tests.bench.peers import Peer, at_once
from tests.bench.stores import Fill, filled
from tests.support.dns_server import DnsServerThread

GROUP = "growth"
#: of a store with ten million messages: a hundred in an inbox, ten inboxes in a domain.
MESSAGES_PER_INBOX, MESSAGES_PER_DOMAIN = 100, 1000
#: small texts: what is looked at is how indexes grow.
TEXT_BYTES = 300


async def run(run: Run) -> None:
    """Every figure of this file."""
    if not run.needs(GROUP, *loads.SMTP_SOURCE):
        return
    stored = run.stored or run.pick(100_000, 10_000_000)
    inboxes, domains = stored // MESSAGES_PER_INBOX, stored // MESSAGES_PER_DOMAIN
    fill = Fill(f"stored-{stored}", domains, inboxes, [(inboxes, stored)], TEXT_BYTES)
    raw, zone = mail.signed_with_zone()
    with DnsServerThread(zone) as dns, message_file(raw) as file:
        async with (
            filled(run, fill) as directory,
            furnished(dns.nameserver) as empty,
            furnished(dns.nameserver, directory=directory) as full,
        ):
            kept, count = WAYS[1], run.pick(600, 4000)
            peers = [
                Peer(name, [house.pid], house.smtp_port, at_once)
                for name, house in (("empty store", empty), (f"store of {stored:,} messages", full))
            ]
            for peer in peers:
                await loads.smtp_source(peer.port, WARM_UP, file, kept=True)
            costs = await in_turns(run.rounds, {peer.name: partial(measure, peer, kept, count, file) for peer in peers})
            rates = {name: Spread.of([cost.messages_per_second for cost in found]) for name, found in costs.items()}
            for peer in peers:
                used = Spread.of([cost.cpu_seconds_per_1000 for cost in costs[peer.name]])
                run.record(
                    Figure(
                        *(GROUP, f"{kept.name}, {peer.name}", "messages/s", rates[peer.name]),
                        cpu_seconds_per_1000=used,
                        memory_mib=peer.memory_mib(),
                    )
                )
            ratio = rates[peers[1].name].median / rates[peers[0].name].median
            run.record(Figure(GROUP, "large store by empty one", "ratio", one(ratio), goal=at_least(0.9)))
