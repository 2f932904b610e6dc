"""Outbound: mail handed in over the API, signed, carried to Postfix's smtp-sink; Postfix with OpenDKIM beside it.

A rate counts from the first request until the last message is with the sink and its result is written. Postfix gets the
same text over SMTP, from as many sessions, and is done when its queue is empty.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import loads, mail
from tests.bench.figures import OURS, Figure, Goal, Note, Run, at_least, at_most, in_turns
from tests.bench.house import House, furnished
from tests.bench.inbound import message_file
from tests.bench.machine import MIB, Spread, cpu_seconds, memory_bytes, percentile, tree
from tests.bench.milters import PROGRAMS, signing_milter
from tests.bench.peers import emptied, master_of
from tests.bench.world import SMTP_SINK, domains, host_of, sink, zone_of
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.postfix import Postfix, missing, run_postfix
from tests.support.smtp_sink import SmtpSink

GROUP = "outbound"
CLIENTS = 16
MANY = 500
PAUSED = "paused.far.bench"
IDLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of one load."""

    messages_per_second: float
    cpu_seconds_per_1000: float


@dataclass(frozen=True)
class Contender:
    """Somebody who sends."""

    name: str
    #: processes; what is below them is theirs as well.
    pids: Sequence[int]
    #: sends so many messages to these domains; the messages a second.
    send: Callable[[int, Sequence[str]], Awaitable[float]]

    async def measure(self, count: int, names: Sequence[str]) -> Cost:
        """One load."""
        before = cpu_seconds(self.pids)
        rate = await self.send(count, names)
        return Cost(rate, (cpu_seconds(self.pids) - before) * 1000 / count)


def send_request(domain: str) -> tuple[str, str, str]:
    """The request that sends a mail of 5 KB."""
    text, html = mail.texts()
    body = {"to": f"somebody@{domain}", "subject": "Bench", "text": text, "html": f"<html><body>{html}</body></html>"}
    return "POST", "/api/v1/emails/send", json.dumps(body)


async def run(run: Run) -> None:
    """Every figure of this file."""
    names = domains(MANY)
    if not run.needs(GROUP, *SMTP_SINK):
        return
    with DnsServerThread(zone_of([*names, PAUSED])) as dns:
        port = free_port("127.0.0.1")
        async with furnished(dns.nameserver, {"outbound": {"allow_private": True, "port": port}}) as house:
            key = await house.key()
            await _first_attempts(run, house, key, names[0], port)
            async with sink(port=port):
                await _race(run, house, key, port, names)
                await _acceptance(run, house, key)


async def _first_attempts(run: Run, house: House, key: str, domain: str, port: int) -> None:
    """From the request to the first word about it at the MX, with nothing else to do."""
    heard: list[float] = []
    arrived = asyncio.Event()

    def note(_argument: str) -> None:
        heard.append(time.perf_counter())
        arrived.set()

    waits = []
    async with SmtpSink(host=host_of(0), port=port, replies={"MAIL": note}):
        for _ in range(run.pick(20, 100) + 1):
            arrived.clear()
            began = time.perf_counter()
            await house.daemon.post("/api/v1/emails/send", key, json.loads(send_request(domain)[2]))
            await asyncio.wait_for(arrived.wait(), 30)
            waits.append((heard[-1] - began) * 1000)
            await asyncio.sleep(IDLE_SECONDS)
    spread = Spread(percentile(waits[1:], 50), min(waits[1:]), max(waits[1:]))  # the first one has to ask the DNS
    run.record(Figure(GROUP, "submit to first attempt when idle, p50", "ms", spread, goal=at_most(20)))


async def _race(run: Run, house: House, key: str, port: int, names: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        contenders = [Contender(OURS, [house.pid], partial(_send, house, key))]
        if problem := missing():
            run.record(Note(GROUP, f"no comparison with Postfix: {problem}"))
        else:
            file = stack.enter_context(message_file(mail.unsigned(sender=f"agent@{mail.DOMAIN}")))
            contenders.append(await _postfix(run, stack, file, port, names))
        loads_to_carry = (("to one destination", names[:1], 1000), (f"to {MANY} destinations", names, 800))
        for name, those, goal in loads_to_carry:
            count = run.pick(500, 4000)
            work = {each.name: partial(each.measure, count, those) for each in contenders}
            costs = await in_turns(run.rounds, work)
            for each in contenders:
                _record(run, name, each, costs[each.name], at_least(goal) if each.name == OURS else None)


def _record(run: Run, name: str, who: Contender, costs: Sequence[Cost], goal: Goal | None) -> None:
    rates = Spread.of([cost.messages_per_second for cost in costs])
    used = Spread.of([cost.cpu_seconds_per_1000 for cost in costs])
    memory = memory_bytes(set().union(*(tree(pid) for pid in who.pids))) / MIB
    run.record(Figure(GROUP, name, "messages/s", rates, who.name, goal, used, memory))


async def _send(house: House, key: str, count: int, names: Sequence[str]) -> float:
    job = loads.HttpJob(house.api_port, key, [send_request(name) for name in names], CLIENTS, total=count)
    result = await loads.http(job)
    if result.refused:
        raise RuntimeError(f"refused: {result.refused}")
    await house.drained(except_for=PAUSED)
    return count / (time.time() - result.began)


async def _postfix(run: Run, stack: AsyncExitStack, file: Path, port: int, names: Sequence[str]) -> Contender:
    """A Postfix that sends to the same sink; with OpenDKIM if that is here."""
    milter, pids = "", []
    if run.needs(GROUP, *PROGRAMS[0]):
        milter, pid = await stack.enter_async_context(signing_milter())
        pids.append(pid)
    transports = {name: f"smtp:[{host_of(number)}]:{port}" for number, name in enumerate(names)}
    server = await stack.enter_async_context(run_postfix(transports, milter))
    return Contender(
        "Postfix + OpenDKIM" if milter else "Postfix, not signing",
        [master_of(server), *pids],
        partial(_send_by_postfix, server, file),
    )


async def _send_by_postfix(server: Postfix, file: Path, count: int, names: Sequence[str]) -> float:
    recipients = [f"somebody@{name}" for name in names]
    result = await loads.smtp(loads.SmtpJob(server.port, str(file), recipients, 0.0, count, sessions=CLIENTS))
    if result.refused:
        raise RuntimeError(f"refused: {result.refused}")
    await emptied(server)
    return count / (time.time() - result.began)


async def _acceptance(run: Run, house: House, key: str) -> None:
    """The API alone: the destination is paused, so that nothing is carried meanwhile."""
    await house.command("queue", "pause", PAUSED)
    count = run.pick(600, 6000)
    job = loads.HttpJob(house.api_port, key, [send_request(PAUSED)], CLIENTS, total=count)
    results, costs = [], []
    for _ in range(run.rounds):
        before = house.cpu_seconds()
        results.append(await loads.http(job))
        costs.append((house.cpu_seconds() - before) * 1000 / count)
    spread = Spread.of([result.rate for result in results])
    run.record(
        Figure(
            GROUP,
            "accepted by the API",
            "messages/s",
            spread,
            goal=at_least(1200),
            cpu_seconds_per_1000=Spread.of(costs),
            memory_mib=house.memory_mib(),
        )
    )
