"""Reads: pages of the list and of the threads, from an inbox with a thousand emails and from one with a million."""

from __future__ import annotations

from functools import partial

from tests.bench import loads, mail
from tests.bench.figures import Figure, Goal, Run, at_least, at_most, in_turns, one
from tests.bench.house import House, serving
from tests.bench.machine import Spread
from tests.bench.stores import Fill, filled
from tests.support.dns_server import DnsServerThread

GROUP = "reads"
CLIENTS = 16
SMALL = 1_000
SMALL_INBOX, LARGE_INBOX = "box0@tenant0.bench", "box1@tenant0.bench"
LIST = "/api/v1/emails?page=1&limit=20"
THREADS = "/api/v1/threads?limit=100"
#: pages at each end of the walk over the threads that are timed.
WALK_PAGES = 20


async def run(run: Run) -> None:
    """Every figure of this file."""
    large = run.pick(50_000, 1_000_000)
    fill = Fill(f"inbox-{large}", 1, 2, [(1, SMALL), (1, large)], mail.SIZE)
    with DnsServerThread({}) as dns:
        async with filled(run, fill) as directory, serving(directory, dns.nameserver) as house:
            keys = {address: await house.key(address) for address in (SMALL_INBOX, LARGE_INBOX)}
            inboxes = {f"inbox of {SMALL:,}": keys[SMALL_INBOX], f"inbox of {large:,}": keys[LARGE_INBOX]}
            await _pages(run, house, inboxes)
            await _deep(run, house, keys[LARGE_INBOX])


async def _load(house: House, key: str, path: str, seconds: float, clients: int = CLIENTS) -> loads.LoadResult:
    result = await loads.http(loads.HttpJob(house.api_port, key, [("GET", path, "")], clients, seconds=seconds))
    if result.refused:
        raise RuntimeError(f"refused: {result.refused}")
    return result


async def _pages(run: Run, house: House, inboxes: dict[str, str]) -> None:
    """The first page, of everything and of what is unread."""
    seconds = run.pick(0.6, 6.0)
    work = {
        f"{what}, {name}": partial(_load, house, key, path, seconds)
        for what, path in (("first page", LIST), ("first page of unread", f"{LIST}&is_read=false"))
        for name, key in inboxes.items()
    }
    results = await in_turns(run.rounds, work)
    for name, found in results.items():
        _record(run, name, "requests/s", [each.rate for each in found], at_least(1500))
        _record(run, f"{name}, p99", "ms", [each.p99 for each in found], at_most(20))
    small, large = (Spread.of([each.rate for each in results[name]]).median for name in list(work)[:2])
    run.record(Figure(GROUP, "first page, large inbox by small", "ratio", one(large / small), goal=at_least(0.8)))


def _record(run: Run, name: str, unit: str, values: list[float], goal: Goal) -> None:
    run.record(Figure(GROUP, name, unit, Spread.of(values), goal=goal))


async def _deep(run: Run, house: House, key: str) -> None:
    """Page 1,000 of the list, and the threads from their first page to their last."""
    path = "/api/v1/emails?page=1000&limit=20"
    waits = [(await _load(house, key, path, run.pick(0.5, 2.0), clients=1)).p50 for _ in range(run.rounds)]
    _record(run, "page 1,000, p50", "ms", waits, at_most(30))
    job = loads.HttpJob(house.api_port, key, [("GET", THREADS, "")], 1, total=WALK_PAGES)
    first = (await loads.http(job)).p50
    cursor = await _walk(house, key)
    job = loads.HttpJob(house.api_port, key, [("GET", f"{THREADS}&cursor={cursor}", "")], 1, total=WALK_PAGES)
    last = (await loads.http(job)).p50
    run.record(Figure(GROUP, "threads by cursor, first page, p50", "ms", one(first)))
    run.record(Figure(GROUP, "threads by cursor, last full page, p50", "ms", one(last), goal=at_most(1.25 * first)))


async def _walk(house: House, key: str) -> str:
    """The cursor before the last full page of threads."""
    before, cursor = "", ""
    while True:
        page = await house.daemon.get(f"{THREADS}{f'&cursor={cursor}' if cursor else ''}", key)
        if page["next_cursor"] is None:
            return before
        before, cursor = cursor, page["next_cursor"]
