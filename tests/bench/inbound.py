"""Inbound: mail by ``smtp-source`` into servers that judge and keep it, in turns with the peers that are present.

Every rate is messages a second as the sender sees them: a message counts when its 250 is there. Then the wait for that
250 at half of the full rate, and messages of 24 MiB, ten at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import loads, mail
from tests.bench.figures import OURS, Figure, Goal, Run, at_least, at_most, in_turns, one
from tests.bench.house import House, furnished
from tests.bench.machine import MIB, Spread, cpu_seconds, forget_peak, peak_bytes
from tests.bench.peers import BARE, Peer, all_present, at_once
from tests.support.dns_server import DnsServerThread

GROUP = "inbound"
LARGE_BYTES = 24 * MIB
LARGE_SESSIONS = 10
#: sessions of the load at half of the full rate.
LATENCY_SESSIONS = 20
WARM_UP = 100


@dataclass(frozen=True, slots=True)
class Way:
    """One way to send."""

    name: str
    #: a session carries many messages.
    kept: bool
    #: messages a second that one process and two are meant to take.
    goals: tuple[float, float]
    #: what the bare listener takes on the machine that the goals were set for.
    bare: float


WAYS = (Way("new connections", False, (1000, 1500), 2015), Way("kept connections", True, (1300, 2000), 3640))
CPU_GOAL = at_most(1.2)


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of one load."""

    messages_per_second: float
    cpu_seconds_per_1000: float


@contextmanager
def message_file(raw: bytes) -> Iterator[Path]:
    """A message for smtp-source, which wants lines that end in LF and sends them with CRLF."""
    with tempfile.NamedTemporaryFile(suffix=".eml") as file:
        path = Path(file.name)
        path.write_bytes(raw.replace(b"\r\n", b"\n"))
        yield path


@asynccontextmanager
async def contenders(run: Run, zone: mail.Zone, nameserver: str) -> AsyncIterator[tuple[House, list[Peer]]]:
    """The server with one process, and everybody in the race: it, itself with two, the peers."""
    async with AsyncExitStack() as stack:
        single = await stack.enter_async_context(furnished(nameserver))
        double = await stack.enter_async_context(furnished(nameserver, {"server": {"workers": 2}}))
        ours = [
            Peer(f"{OURS}, {words}", [house.pid], house.smtp_port, at_once)
            for words, house in (("1 process", single), ("2 processes", double))
        ]
        yield single, [*ours, *await stack.enter_async_context(all_present(run, zone, nameserver))]


async def measure(peer: Peer, way: Way, count: int, file: Path) -> Cost:
    """One load on one server."""
    before = cpu_seconds(peer.pids)
    seconds = await loads.smtp_source(peer.port, count, file, kept=way.kept)
    await peer.settled()
    return Cost(count / seconds, (cpu_seconds(peer.pids) - before) * 1000 / count)


async def run(run: Run) -> None:
    """Every figure of this file."""
    if not run.needs(GROUP, *loads.SMTP_SOURCE):
        return
    raw, zone = mail.signed_with_zone()
    with DnsServerThread(zone) as dns, message_file(raw) as file:
        async with contenders(run, zone, dns.nameserver) as (house, peers):
            for peer in peers:
                await loads.smtp_source(peer.port, WARM_UP, file, kept=True)
            rate = 0.0
            for way in WAYS:
                rate = await _race(run, way, peers, file)
            await _latency(run, house, file, rate / 2)
        await _large(run)


async def _race(run: Run, way: Way, peers: list[Peer], file: Path) -> float:
    """One way of sending, everybody in turns; messages a second of our one process."""
    count = run.pick(300, 3000)
    costs = await in_turns(run.rounds, {peer.name: partial(measure, peer, way, count, file) for peer in peers})
    goals: dict[str, Goal] = {peers[index].name: at_least(way.goals[index]) for index in range(2)}
    for peer in peers:
        figure = Figure(
            GROUP,
            way.name,
            "messages/s",
            Spread.of([cost.messages_per_second for cost in costs[peer.name]]),
            peer.name,
            goals.get(peer.name),
            Spread.of([cost.cpu_seconds_per_1000 for cost in costs[peer.name]]),
            peer.memory_mib(),
        )
        run.record(figure)
    for index in range(2):
        pairs = zip(costs[peers[index].name], costs[BARE], strict=True)
        ratios = Spread.of([ours.messages_per_second / bare.messages_per_second for ours, bare in pairs])
        goal = at_least(round(way.goals[index] / way.bare, 3))
        run.record(Figure(GROUP, f"{way.name}, by the bare listener", "ratio", ratios, peers[index].name, goal))
    used = Spread.of([cost.cpu_seconds_per_1000 for cost in costs[peers[0].name]])
    run.record(Figure(GROUP, f"CPU, {way.name}", "s per 1,000", used, peers[0].name, CPU_GOAL))
    return Spread.of([cost.messages_per_second for cost in costs[peers[0].name]]).median


async def _latency(run: Run, house: House, file: Path, rate: float) -> None:
    """From the final dot to its 250."""
    job = loads.SmtpJob(
        house.smtp_port,
        str(file),
        (mail.RECIPIENT,),
        rate,
        total=int(rate * run.pick(1.0, 10)),
        sessions=LATENCY_SESSIONS,
    )
    results = [await loads.smtp(job) for _ in range(run.rounds)]
    for result in results:
        if result.refused:
            raise RuntimeError(f"refused: {result.refused}")
    name = "250 after the final dot at half of the full rate"
    run.record(Figure(GROUP, f"{name}, p50", "ms", Spread.of([each.p50 for each in results]), goal=at_most(10)))
    run.record(Figure(GROUP, f"{name}, p99", "ms", Spread.of([each.p99 for each in results]), goal=at_most(50)))


async def _large(run: Run) -> None:
    """Messages of 24 MiB, ten at a time, into a server of their own."""
    raw, zone = mail.signed_with_zone(LARGE_BYTES)
    count = run.pick(20, 60)
    rates = []
    with DnsServerThread(zone) as dns, message_file(raw) as file:
        async with furnished(dns.nameserver) as house:
            forget_peak(house.pid)
            for _ in range(run.pick(1, 3)):
                seconds = await loads.smtp_source(house.smtp_port, count, file, sessions=LARGE_SESSIONS)
                rates.append(count * len(raw) / MIB / seconds)
            peak = peak_bytes(house.pid) / MIB
    name = "messages of 24 MiB, ten at a time"
    run.record(Figure(GROUP, name, "MiB/s", Spread.of(rates), goal=at_least(100)))
    run.record(Figure(GROUP, f"{name}, peak of the process", "MiB", one(peak), goal=at_most(400)))
