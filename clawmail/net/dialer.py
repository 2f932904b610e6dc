"""A TCP connection to one of a host's addresses, the fastest that answers (RFC 8305, "Happy Eyeballs").

The addresses are tried in order, each with a head start over the next. Whichever connects first wins and the others are
given up, so a host whose IPv6 is broken costs a quarter of a second and not half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, TypeVar

from clawmail.net.addresses import Address

#: head start of an address over the next one, in seconds (RFC 8305 section 5 recommends 0.25).
HEAD_START_SECONDS = 0.25

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Unreachable(Exception):
    """No address took the connection; the text says what each of them did."""


@dataclass(slots=True)
class Dialed(Generic[P]):
    """An open connection."""

    protocol: P
    address: Address


@dataclass(slots=True)
class _Race(Generic[P]):
    """The tries of one call."""

    port: int
    source_ip: str
    make: Callable[[], P]
    problems: list[str] = field(default_factory=list)

    async def connect(self, address: Address) -> Dialed[P] | None:
        loop = asyncio.get_running_loop()
        local = (self.source_ip, 0) if self.source_ip else None
        try:
            _, protocol = await loop.create_connection(self.make, str(address), self.port, local_addr=local)
        except OSError as error:
            self.problems.append(f"{address}: {error.strerror or error}")
            return None
        return Dialed(protocol, address)


async def dial(
    addresses: Sequence[Address],
    port: int,
    make: Callable[[], P],
    *,
    timeout: float,
    source_ip: str = "",
    head_start: float = HEAD_START_SECONDS,
) -> Dialed[P]:
    """Connects to the first of ``addresses`` that answers within ``timeout`` seconds. Raises Unreachable.

    ``make``: the protocol of the connection. ``source_ip``: where to connect from; addresses of the other family are
    then left out, because the receiver would see a host that nobody vouches for.
    """
    if source_ip:
        addresses = [address for address in addresses if address.version == ip_address(source_ip).version]
    if not addresses:
        raise Unreachable("no address of the family of outbound.source_ip")
    race = _Race(port, source_ip, make)
    try:
        async with asyncio.timeout(timeout):
            won = await race.connect(addresses[0]) if len(addresses) == 1 else await _run(race, addresses, head_start)
    except TimeoutError:
        race.problems.append(f"no answer within {timeout:g} s")
        won = None
    if won is None:
        raise Unreachable("; ".join(race.problems))
    return won


async def _run(race: _Race[P], addresses: Sequence[Address], head_start: float) -> Dialed[P] | None:
    waiting = list(addresses)
    running: set[asyncio.Task[Dialed[P] | None]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(race.connect(waiting.pop(0))))
            done, running = await asyncio.wait(
                running, timeout=head_start if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winners = [won for task in done if (won := task.result()) is not None]
            if winners:
                for late in winners[1:]:
                    _abort(late)
                return winners[0]
        return None
    finally:
        for task in running:
            task.add_done_callback(_give_up)
            task.cancel()


def _give_up(task: asyncio.Task[Dialed[P] | None]) -> None:
    if not task.cancelled() and task.exception() is None and (late := task.result()) is not None:
        _abort(late)


def _abort(late: Dialed[P]) -> None:
    transport = getattr(late.protocol, "transport", None)
    if transport is not None:
        transport.abort()
