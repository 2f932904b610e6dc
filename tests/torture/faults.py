"""The faults: each does its harm, holds it for a while, takes it back, and waits until the server is well again.

Nothing is ever repaired by hand: what is taken back is the fault, never its consequences. A killed server is started
again, as systemd would; a killed worker and a killed embedded PostgreSQL have to come back by themselves.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.torture.ledger import Strike
from tests.torture.world import LEASE_SECONDS, Node, World

#: how long a fault that can be held is held.
HOLD_SECONDS = 3.0
#: the promise for the embedded PostgreSQL.
POSTGRES_BACK_SECONDS = 30.0
CLOCK_JUMPS_SECONDS = (3600, -3600, 86_400 * 30)


@dataclass(frozen=True)
class Fault:
    """A kind of harm; ``possible`` says why not, "" if it is."""

    name: str
    strike: Callable[[World, Strike], Awaitable[None]]
    possible: Callable[[World], str] = lambda _world: ""


async def inflict(world: World, fault: Fault) -> Strike:
    """Strikes once and writes it down."""
    strike = Strike(fault.name, time.monotonic())
    world.ledger.strikes.append(strike)
    await fault.strike(world, strike)
    strike.over = strike.over or time.monotonic()
    strike.recovered += await world.well()
    strike.ended = time.monotonic()
    return strike


async def _restart(node: Node, how: signal.Signals, strike: Strike) -> int:
    assert node.daemon is not None
    strike.victim = node.address
    status = await node.daemon.stop(how)
    strike.over = time.monotonic()
    await node.start()
    strike.recovered = time.monotonic() - strike.over
    if how is signal.SIGTERM:
        strike.note = f"ended in {strike.over - strike.began:.1f} s"
    return status


async def kill_server(world: World, strike: Strike) -> None:
    """SIGKILL for a server, which is started again."""
    await _restart(random.choice(world.nodes), signal.SIGKILL, strike)


async def kill_worker(world: World, strike: Strike) -> None:
    """SIGKILL for a further process of a server; its parent starts another."""
    (node,) = world.nodes
    before = node.workers()
    os.kill(random.choice(before), signal.SIGKILL)
    strike.over = time.monotonic()
    async with asyncio.timeout(30):
        while len(node.workers()) < len(before) or set(node.workers()) == set(before):
            await asyncio.sleep(0.05)


async def terminate_server(world: World, strike: Strike) -> None:
    """SIGTERM under load: the server ends by itself, with 0."""
    status = await _restart(random.choice(world.nodes), signal.SIGTERM, strike)
    if status != 0:
        world.ledger.turned_away.append(f"a server ended with {status} after SIGTERM")


async def freeze_process(world: World, strike: Strike) -> None:
    """SIGSTOP for longer than a lease: others take the work over, and the sleeper wakes up with old leases."""
    node = random.choice(world.nodes)
    strike.victim = node.address
    pid = random.choice(node.workers() or [node.pid])
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(LEASE_SECONDS + 2)
    finally:
        os.kill(pid, signal.SIGCONT)


async def kill_postgres(world: World, strike: Strike) -> None:
    """SIGKILL for PostgreSQL: it recovers from its log, by itself, within its time."""
    pid = int((world.postgres_directory / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.02)
    async with asyncio.timeout(POSTGRES_BACK_SECONDS):
        while True:
            try:
                await world.sql("SELECT 1")
                break
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
    strike.recovered = time.monotonic() - began


async def promote_standby(world: World, strike: Strike) -> None:
    """The primary is killed for good, its synchronous standby takes over, and gets a standby of its own."""
    assert world.pair is not None
    assert world.proxy is not None
    began = time.monotonic()
    await world.pair.fail_over()
    world.proxy.redirect(str(world.pair.socket))
    world.database_url = world.pair.url
    await asyncio.sleep(1)  # for longer than the servers remember that they were well
    await world.well()
    strike.recovered = time.monotonic() - began
    await world.pair.replace_the_dead()


async def cut_network(world: World, strike: Strike) -> None:
    """The network to the database breaks, or swallows every byte."""
    assert world.proxy is not None
    how = random.choice(("reset", "silence"))
    strike.note = how
    world.proxy.cut("reset" if how == "reset" else "silence")
    try:
        await asyncio.sleep(HOLD_SECONDS if how == "reset" else 2 * HOLD_SECONDS)
    finally:
        world.proxy.heal()


async def fill_disk(world: World, strike: Strike) -> None:
    """Not a byte is left on the disk of the database."""
    assert world.disk is not None
    ballast = world.disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            for piece in (1 << 24, 1 << 16, 1 << 12):
                while True:
                    try:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                    except OSError:
                        break

    await asyncio.to_thread(fill)
    strike.note = f"{ballast.stat().st_size >> 20} MiB taken"
    try:
        await asyncio.sleep(2 * HOLD_SECONDS)
    finally:
        ballast.unlink()


async def forbid_writing(world: World, _strike: Strike) -> None:
    """The database turns read-only, as after a failover to a standby."""
    await world.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    await world.sql("SELECT pg_reload_conf()")
    try:
        await asyncio.sleep(HOLD_SECONDS)
    finally:
        await world.sql("ALTER SYSTEM RESET default_transaction_read_only")
        await world.sql("SELECT pg_reload_conf()")


async def hang_up_after_dot(world: World, _strike: Strike) -> None:
    """The sink takes messages and hangs up instead of saying so."""
    world.sink.hang_up = "AFTER DOT"
    try:
        await asyncio.sleep(HOLD_SECONDS / 2)
    finally:
        world.sink.hang_up = ""


async def set_clock(world: World, strike: Strike) -> None:
    """Somebody sets the wall clock of one server, and back."""
    seconds = random.choice(CLOCK_JUMPS_SECONDS)
    strike.note = f"{seconds:+} s"
    world.set_clock(seconds)
    try:
        await asyncio.sleep(HOLD_SECONDS)
    finally:
        world.set_clock(0)


def _why_no_disk(world: World) -> str:
    return "the other world's disk is small" if world.proxy else "no small disk: mounting is not allowed here"


FAULTS = (
    Fault("kill -9 a server", kill_server),
    Fault("kill -9 a worker", kill_worker, lambda w: "" if len(w.nodes) == 1 else "servers of one process"),
    Fault("kill -9 PostgreSQL", kill_postgres, lambda w: "its standby is promoted instead" if w.pair else ""),
    Fault("standby promoted", promote_standby, lambda w: "" if w.pair else "no standby in this world"),
    Fault("SIGTERM", terminate_server),
    Fault("SIGSTOP beyond the lease", freeze_process),
    Fault("sink hangs up after the dot", hang_up_after_dot),
    Fault("database read-only", forbid_writing),
    Fault("disk full", fill_disk, lambda w: "" if w.disk else _why_no_disk(w)),
    Fault("network to the database cut", cut_network, lambda w: "" if w.proxy else "the database is embedded"),
    Fault("clock set", set_clock, lambda w: "" if w.set_clock else "no clock that can be set"),
)
