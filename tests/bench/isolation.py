"""Isolation: what a tenant notices of another who floods the server with mail, huge mail, requests, a queue, rules.

The quiet tenant reads its list and gets mail at a moderate rate, from addresses of its own; alone and beside each flood
in turns, and beside all of them at once. What floods stands for other machines: it runs at the lowest priority, and the
quiet tenant's clients at the usual one, so that what is seen is the server and not a fight for the cores it runs on.

What is to be reached holds for the limits as they are shipped, because limits are the means: the first seconds, before
a limit closes, are measured with the rest. Without limits the figures tell what the machine can do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from clawmail.base.ids import new_id
from clawmail.core.routing import MAX_INSTRUCTIONS, compile_rule
from tests.bench import loads, mail
from tests.bench.figures import Figure, Goal, Run, at_most
from tests.bench.house import House, furnished
from tests.bench.inbound import LARGE_BYTES, message_file
from tests.bench.machine import Spread
from tests.bench.reads import LIST
from tests.bench.seed import Owner, add_mail, add_queue, owner_of
from tests.bench.world import SMTP_SINK, domains, sink, zone_of
from tests.support.dns_server import DnsServerThread

GROUP = "isolation"
QUIET = "quiet@calm.bench"
#: the flood comes from elsewhere, as two tenants' clients do.
QUIET_SOURCES = tuple(f"127.0.2.{number}" for number in range(1, 51))
READS_PER_SECOND, MAILS_PER_SECOND = 40, 20
#: what nobody can tell from noise: waits differ by so much from one quiet run to the next.
NOISE_MS = 0.3
#: the flooding tenant: what waits in its queue, emails in its inbox, characters of a subject.
FLOOD_QUEUE, FLOOD_INBOX, FLOOD_SUBJECT = 20_000, 10_000, 8_000
#: a file that makes a message of LARGE_BYTES out of a send.
LARGE_FILE = LARGE_BYTES // 78 * 57
#: a pattern for which RE2 is as slow as it gets, some hundred steps a character, with a number to make it one's own.
COSTLY_PATTERN = r"a(a|b){0,500}c%d"
#: as many of them as the API lets a domain have.
FLOOD_RULES = MAX_INSTRUCTIONS // compile_rule(COSTLY_PATTERN % 10).programsize
#: destinations that an operator stopped, started and stopped again.
CLOSED = (
    "INSERT INTO destinations (name, site, paused_at, updated_at) SELECT n, n, now(), now() FROM unnest($1::text[]) n"
)
OPEN = "UPDATE destinations SET paused_at = NULL"
CLOSE = "UPDATE destinations SET paused_at = now()"
#: pause of a flooder who was refused.
REFUSED_SECONDS = 0.05
#: seconds between two measurements, in which what a flood left behind is worked off.
REST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """What the quiet tenant saw: milliseconds at the 99th percentile."""

    read: float
    mail: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A server, its two tenants, and what the flooding one sends."""

    house: House
    quiet_key: str
    flood_key: str
    flood_owner: Owner
    small: Path
    huge: Path
    #: with a subject that is a feast for patterns.
    subject: Path
    far: Sequence[str]


Flood = Callable[[Scene], Awaitable[object]]


async def run(run: Run) -> None:
    """Every figure of this file."""
    if not (run.needs(GROUP, *SMTP_SINK) and run.needs(GROUP, *loads.SMTP_SOURCE)):
        return
    seconds = run.pick(4.0, 10.0)
    floods = {"everything": everything} if run.quick else {**FLOODS, "everything": everything}
    for name, flood in floods.items():
        alone, beside = await compare(flood, rounds=run.pick(1, 2), seconds=seconds)
        _record(run, name, alone, beside, "limits as shipped", aims=True)
    if not run.quick:
        alone, beside = await compare(everything, rounds=1, seconds=seconds, limits=False)
        _record(run, "everything", alone, beside, "limits off", aims=False)


def _record(run: Run, flood: str, alone: list[Quiet], beside: list[Quiet], limits: str, *, aims: bool) -> None:
    for what, field in (("reading its list", "read"), ("250 to its mail", "mail")):
        before, after = (Spread.of([getattr(each, field) for each in seen]) for seen in (alone, beside))
        run.record(Figure(GROUP, f"{what}, p99, alone ({limits}, before {flood})", "ms", before))
        goal = worst_allowed(before.median) if aims else None
        run.record(Figure(GROUP, f"{what}, p99, beside {flood}, {limits}", "ms", after, goal=goal))


def worst_allowed(alone: float) -> Goal:
    """No more than a quarter above what the tenant sees alone, as far as that can be told from noise."""
    return at_most(round(max(1.25 * alone, alone + NOISE_MS), 2))


async def compare(flood: Flood, *, rounds: int, seconds: float, limits: bool = True) -> tuple[list[Quiet], list[Quiet]]:
    """The quiet tenant alone and beside ``flood``, in turns, on a server that no other flood has met."""
    alone, beside = [], []
    async with _scene({"enabled": limits}) as scene:
        await _quiet(scene, 1.0)
        for _ in range(rounds):
            alone.append(await _quiet(scene, seconds))
            async with _during(flood(scene)):
                beside.append(await _quiet(scene, seconds))
            await asyncio.sleep(REST_SECONDS)
    return alone, beside


@asynccontextmanager
async def _scene(limits: Mapping[str, Any]) -> AsyncIterator[Scene]:
    names, (raw, zone) = domains(50), mail.signed_with_zone()
    lines = (bytes(random.Random(number).choices(b"ab", k=78)) for number in range(FLOOD_SUBJECT // 78))
    subject = raw.replace(b"Subject: ", b"Subject: " + b"\r\n ".join(lines), 1)
    async with AsyncExitStack() as stack:
        dns = stack.enter_context(DnsServerThread({**zone, **zone_of(names, apart=False)}))
        small, huge, long = (
            stack.enter_context(message_file(each)) for each in (raw, mail.unsigned(LARGE_BYTES), subject)
        )
        port = await stack.enter_async_context(sink("127.0.0.1", nice=loads.ELSEWHERE))
        changes = {"limits": dict(limits), "outbound": {"allow_private": True, "port": port}}
        house = await stack.enter_async_context(furnished(dns.nameserver, changes))
        await house.command("domain", "add", QUIET.partition("@")[2], "--trusted")
        quiet, flooding = await house.key(QUIET), await house.key()
        async with house.sql() as connection:
            owner = await owner_of(connection, mail.RECIPIENT)
            await add_mail(connection, [owner], FLOOD_INBOX, text_bytes=mail.SIZE)
            await connection.execute(CLOSED, names)
            await add_queue(connection, [owner], FLOOD_QUEUE, names, mail.unsigned())
            # What was seeded is none of the flood's, nor is what PostgreSQL has to do about it.
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
        yield Scene(house, quiet, flooding, owner, small, huge, long, names)


async def _quiet(scene: Scene, seconds: float) -> Quiet:
    """The quiet tenant's day: some reading, some mail."""
    house = scene.house
    reading = loads.HttpJob(
        *(house.api_port, scene.quiet_key, [("GET", LIST, "")], len(QUIET_SOURCES)),
        seconds=seconds,
        rate=READS_PER_SECOND,
        sources=QUIET_SOURCES,
    )
    getting = loads.SmtpJob(
        *(house.smtp_port, str(scene.small), [QUIET], MAILS_PER_SECOND, int(MAILS_PER_SECOND * seconds)),
        sessions=10,
        sources=QUIET_SOURCES,
    )
    read, got = await asyncio.gather(loads.http(reading), loads.smtp(getting))
    if read.refused or got.refused:
        raise RuntimeError(f"the quiet tenant was refused: {read.refused} {got.refused}")
    return Quiet(read.p99, got.p99)


@asynccontextmanager
async def _during(flood: Awaitable[object]) -> AsyncIterator[None]:
    """The other tenant, until the end of the block."""
    task = asyncio.ensure_future(flood)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _again_and_again(work: Callable[[], Awaitable[object]]) -> None:
    """A flooder does not mind being refused."""
    while True:
        with suppress(RuntimeError):
            await work()
        await asyncio.sleep(REFUSED_SECONDS)


def _smtp(scene: Scene, count: int, file: Path, sessions: int) -> Awaitable[None]:
    send = partial(loads.smtp_source, scene.house.smtp_port, count, file, sessions=sessions, nice=loads.ELSEWHERE)
    return _again_and_again(send)


async def mail_flood(scene: Scene) -> None:
    """As much mail as one address gets rid of."""
    await _smtp(scene, 1000, scene.small, 10)


async def huge_flood(scene: Scene) -> None:
    """Mail of 24 MiB, four at a time."""
    await _smtp(scene, 8, scene.huge, 4)


async def rules_flood(scene: Scene) -> None:
    """Mail whose long subjects meet as many rules as a domain may have."""
    async with scene.house.sql() as connection:
        await _add_rules(connection, scene.flood_owner, FLOOD_RULES)
    await _smtp(scene, 1000, scene.subject, 10)


async def _add_rules(connection: asyncpg.Connection, owner: Owner, count: int) -> None:
    """``count`` rules, the domain's only ones, that read a text of a's and b's to its end and match nothing."""
    await connection.execute("DELETE FROM forwarding_rules WHERE domain_id = $1", owner.domain_id)
    home = (owner.organisation_id, owner.domain_id)
    rules = ((new_id(), *home, "subject", COSTLY_PATTERN % number, f"u{number}@far.bench") for number in range(count))
    columns = "id organisation_id domain_id match_field regex_pattern destination_email"
    await connection.copy_records_to_table("forwarding_rules", columns=columns.split(), records=rules)
    await connection.execute("SELECT pg_notify('directory', name) FROM domains WHERE id = $1", owner.domain_id)


def _http(scene: Scene, request: tuple[str, str, str], clients: int) -> Awaitable[loads.LoadResult]:
    job = loads.HttpJob(scene.house.api_port, scene.flood_key, [request], clients, seconds=3600)
    return loads.http(job, nice=loads.ELSEWHERE)


async def api_flood(scene: Scene) -> None:
    """Requests for its list, each as soon as the last is answered."""
    await _http(scene, ("GET", LIST, ""), 16)


async def huge_api_flood(scene: Scene) -> None:
    """Sends with a file that makes them 24 MiB."""
    file = {"filename": "bench.bin", "content": base64.b64encode(random.Random(1).randbytes(LARGE_FILE)).decode()}
    body = {"to": f"user@{scene.far[0]}", "subject": "Bench", "text": "see the file", "attachments": [file]}
    await _http(scene, ("POST", "/api/v1/emails/send", json.dumps(body)), 2)


async def queue_flood(scene: Scene) -> None:
    """A long queue, all of it due: its destinations open, and are closed again at the end."""
    async with scene.house.sql() as connection:
        try:
            await connection.execute(OPEN)
            await connection.execute("NOTIFY deliveries")
            await asyncio.Event().wait()
        finally:
            await connection.execute(CLOSE)


async def everything(scene: Scene) -> None:
    """All of it at once."""
    await asyncio.gather(*(flood(scene) for flood in FLOODS.values()))


FLOODS: dict[str, Flood] = {
    "mail": mail_flood,
    "huge mail": huge_flood,
    "rules": rules_flood,
    "requests": api_flood,
    "huge sends": huge_api_flood,
    "a queue": queue_flood,
}
