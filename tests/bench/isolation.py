"""Isolation: what a tenant notices of another who floods the server with mail, requests, huge mail and a long queue.

The quiet tenant reads its list and gets mail at a moderate rate, from addresses of its own. Measured with the limits
as they are shipped, and with them switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import loads, mail
from tests.bench.figures import Figure, Run, at_most, one
from tests.bench.house import House, furnished
from tests.bench.inbound import LARGE_BYTES, message_file
from tests.bench.reads import LIST
from tests.bench.seed import add_mail, add_queue, owner_of
from tests.bench.world import SMTP_SINK, domains, sink, zone_of
from tests.support.dns_server import DnsServerThread

GROUP = "isolation"
QUIET = "quiet@calm.bench"
#: the flood comes from elsewhere, as two tenants' clients do.
QUIET_SOURCES = tuple(f"127.0.2.{number}" for number in range(1, 51))
READS_PER_SECOND, MAILS_PER_SECOND = 40, 20
FLOOD_QUEUE = 5_000
FLOOD_INBOX = 10_000
#: pause of a flooder who was refused.
REFUSED_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Quiet:
    """What the quiet tenant saw: milliseconds at the 99th percentile."""

    read: float
    mail: float


async def run(run: Run) -> None:
    """Every figure of this file."""
    if not (run.needs(GROUP, *SMTP_SINK) and run.needs(GROUP, *loads.SMTP_SOURCE)):
        return
    for name, limits in (("limits as shipped", True), ("limits off", False)):
        alone, beside = await _measure(run, limits=limits)
        for what, before, after in (
            ("reading its list", alone.read, beside.read),
            ("250 to its mail", alone.mail, beside.mail),
        ):
            run.record(Figure(GROUP, f"{what}, p99, alone, {name}", "ms", one(before)))
            run.record(
                Figure(GROUP, f"{what}, p99, beside a flood, {name}", "ms", one(after), goal=at_most(1.25 * before))
            )


async def _measure(run: Run, *, limits: bool) -> tuple[Quiet, Quiet]:
    names, seconds = domains(50), run.pick(3.0, 20.0)
    raw, zone = mail.signed_with_zone()
    with DnsServerThread({**zone, **zone_of(names, apart=False)}) as dns, message_file(raw) as file:
        async with sink("127.0.0.1") as port:
            changes: dict[str, dict[str, Any]] = {
                "limits": {"enabled": limits},
                "outbound": {"allow_private": True, "port": port},
            }
            async with furnished(dns.nameserver, changes) as house:
                await house.command("domain", "add", QUIET.partition("@")[2], "--trusted")
                key = await house.key(QUIET)
                await _quiet(house, key, file, 1.0)
                alone = await _quiet(house, key, file, seconds)
                async with _flood(house, file, names):
                    return alone, await _quiet(house, key, file, seconds)


async def _quiet(house: House, key: str, file: Path, seconds: float) -> Quiet:
    """The quiet tenant's day: some reading, some mail."""
    reading = loads.HttpJob(
        *(house.api_port, key, [("GET", LIST, "")], len(QUIET_SOURCES)),
        seconds=seconds,
        rate=READS_PER_SECOND,
        sources=QUIET_SOURCES,
    )
    total = int(MAILS_PER_SECOND * seconds)
    getting = loads.SmtpJob(
        *(house.smtp_port, str(file), [QUIET], MAILS_PER_SECOND, total),
        sessions=10,
        sources=QUIET_SOURCES,
    )
    read, got = await asyncio.gather(loads.http(reading), loads.smtp(getting))
    if read.refused or got.refused:
        raise RuntimeError(f"the quiet tenant was refused: {read.refused} {got.refused}")
    return Quiet(read.p99, got.p99)


@asynccontextmanager
async def _flood(house: House, file: Path, names: list[str]) -> AsyncIterator[None]:
    """The other tenant, until the end of the block."""
    key = await house.key()
    async with house.sql() as connection:
        owner = await owner_of(connection, mail.RECIPIENT)
        await add_mail(connection, [owner], FLOOD_INBOX, text_bytes=mail.SIZE)
        await add_queue(connection, [owner], FLOOD_QUEUE, names, mail.unsigned())
        await connection.execute("NOTIFY deliveries")
    with message_file(mail.unsigned(LARGE_BYTES)) as huge:
        floods = [
            asyncio.create_task(_again_and_again(lambda: loads.smtp_source(house.smtp_port, 1000, file))),
            asyncio.create_task(_again_and_again(lambda: loads.smtp_source(house.smtp_port, 4, huge, sessions=2))),
            asyncio.create_task(
                _again_and_again(
                    lambda: loads.http(loads.HttpJob(house.api_port, key, [("GET", LIST, "")], seconds=3600))
                )
            ),
        ]
        await asyncio.sleep(1)
        try:
            yield
        finally:
            for flood in floods:
                flood.cancel()
            await asyncio.gather(*floods, return_exceptions=True)


async def _again_and_again(work: Callable[[], Awaitable[object]]) -> None:
    """A flooder does not mind being refused."""
    while True:
        with suppress(RuntimeError):
            await work()
        await asyncio.sleep(REFUSED_SECONDS)
