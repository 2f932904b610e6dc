"""What an idle server costs, and how long it takes to be there."""

from __future__ import annotations

import asyncio
import re
import sys
import time

from tests.bench.figures import Figure, Run, at_most, one
from tests.bench.house import House, scratch, serving
from tests.bench.machine import MIB, Spread, memory_bytes, postgres_of
from tests.support.dns_server import DnsServerThread

GROUP = "footprint"
#: seconds until a server that has just started is taken for idle.
CALM_SECONDS = 2.0
#: has PostgreSQL write every statement that it is sent into its log.
LOG_STATEMENTS = ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
#: how such a line looks, whichever protocol the statement came by.
STATEMENT = re.compile(r" LOG:  (?:statement|execute [^:]*): ")


async def run(run: Run) -> None:
    """Every figure of this file."""
    await _imports(run)
    new: list[float] = []
    existing: list[float] = []
    own, postgres = [], []
    with DnsServerThread({}) as dns:
        for number in range(run.pick(1, 5)):
            async with scratch() as directory:
                for durations in (new, existing):
                    began = time.perf_counter()
                    async with serving(directory, dns.nameserver) as house:
                        durations.append(time.perf_counter() - began)
                        if durations is existing:
                            await asyncio.sleep(CALM_SECONDS)
                            own.append(house.own_memory_mib())
                            postgres.append(memory_bytes(postgres_of(house.pid)) / MIB)
                            if number == 0:
                                await _idle_queries(run, house)
    run.record(Figure(GROUP, "start to ready, new database", "s", Spread.of(new), goal=at_most(4)))
    run.record(Figure(GROUP, "start to ready, existing database", "s", Spread.of(existing), goal=at_most(1.5)))
    run.record(Figure(GROUP, "idle process", "MiB", Spread.of(own), goal=at_most(90)))
    run.record(Figure(GROUP, "idle embedded PostgreSQL", "MiB", Spread.of(postgres), goal=at_most(60)))


async def _idle_queries(run: Run, house: House) -> None:
    """Statements a second of a server that nobody talks to."""
    seconds = run.pick(5, 60)
    async with house.sql() as connection:
        for statement in LOG_STATEMENTS:
            await connection.execute(statement)
    await asyncio.sleep(1)
    log = house.directory / "data" / "postgres.log"
    before = len(STATEMENT.findall(log.read_text()))
    await asyncio.sleep(seconds)
    asked = len(STATEMENT.findall(log.read_text())) - before
    run.record(Figure(GROUP, "idle queries", "1/s", one(asked / seconds), goal=at_most(2)))


async def _imports(run: Run) -> None:
    commands = {
        "import clawmail": ("-c", "import clawmail"),
        "clawmail --help": ("-m", "clawmail", "--help"),
    }
    for name, words in commands.items():
        seconds = []
        for _ in range(run.rounds + 1):
            began = time.perf_counter()
            silent = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=silent)
            if await process.wait() != 0:
                raise RuntimeError(f"{name} failed")
            seconds.append(time.perf_counter() - began)
        run.record(Figure(GROUP, name, "s", Spread.of(seconds[1:]), goal=at_most(0.25)))  # the first one fills caches
