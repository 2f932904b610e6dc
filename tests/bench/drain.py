"""A black hole among the destinations: how much longer the others' mail takes when one host never says a word."""

from __future__ import annotations

import time
from functools import partial

from tests.bench import mail
from tests.bench.figures import Figure, Run, at_most, in_turns
from tests.bench.house import furnished
from tests.bench.machine import Spread
from tests.bench.seed import add_queue, owner_of
from tests.bench.world import BLACK_HOLE_ADDRESS, SMTP_SINK, black_hole, domains, sink, zone_of
from tests.support.dns_server import DnsServerThread

GROUP = "drain"
RELEASE = "UPDATE deliveries SET state = 'queued' WHERE state = 'held'"


async def run(run: Run) -> None:
    """Every figure of this file."""
    if not run.needs(GROUP, *SMTP_SINK):
        return
    messages, names = run.pick((1_000, domains(100)), (10_000, domains(500)))
    good = zone_of(names, apart=False)
    bad = {**good, f"mx.{names[0]}": {"A": [BLACK_HOLE_ADDRESS]}}
    with DnsServerThread(good) as dns, DnsServerThread(bad) as dns_with_hole:
        async with sink("127.0.0.1") as port, black_hole(port):
            work = {
                "all hosts answer": partial(_drain, dns.nameserver, port, messages, names),
                "one is a black hole": partial(_drain, dns_with_hole.nameserver, port, messages, names),
            }
            results = await in_turns(run.pick(1, 5), work)
    what = f"{messages:,} messages to {len(names)} domains"
    for name, drains in results.items():
        seconds, cpu = (Spread.of(values) for values in zip(*drains, strict=True))
        run.record(Figure(GROUP, f"{what}, {name}", "s", seconds, cpu_seconds_per_1000=cpu))
    # By turns: what the machine does beside it changes less from one run to the next than in all the time they take.
    turns = list(zip(*results.values(), strict=True))
    seconds, cpu = (Spread.of([bad[n] / good[n] for good, bad in turns]) for n in range(2))
    run.record(Figure(GROUP, "with the black hole by without", "ratio", seconds, goal=at_most(1.1)))
    run.record(Figure(GROUP, "with the black hole by without, processor time", "ratio", cpu))


async def _drain(nameserver: str, port: int, messages: int, names: list[str]) -> tuple[float, float]:
    """How many seconds a new server takes until everything is delivered but what goes to the first of ``names``, and
    how much processor time for a thousand messages."""
    changes = {"outbound": {"allow_private": True, "port": port}}
    async with furnished(nameserver, changes) as house, house.sql() as connection:
        owner = await owner_of(connection, mail.RECIPIENT)
        await add_queue(connection, [owner], messages, names, mail.unsigned(), state="held")
        used, began = house.cpu_seconds(), time.perf_counter()
        await connection.execute(RELEASE)
        await connection.execute("NOTIFY deliveries")
        await house.drained(except_for=names[0])
        return time.perf_counter() - began, (house.cpu_seconds() - used) * 1000 / messages
