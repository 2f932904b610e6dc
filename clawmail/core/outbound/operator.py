"""The queue in an operator's hands: look, try again, hold, let go, drop; stop a destination and let it go on.

Results are JSON values, so the command line can print them as they are. A delivery that is being attempted cannot be
moved; the operator is told how many of those he named were.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from clawmail.base.errors import Conflict, Invalid, NotFound
from clawmail.model.delivery import State
from clawmail.protocol.address import normalise_domain
from clawmail.store import destinations, outqueue
from clawmail.store.db import Database

#: states of deliveries that have not come to their end.
OPEN = (State.QUEUED, State.LEASED, State.DEFERRED, State.HELD)
MAX_LISTED = 1_000


def _now() -> datetime:
    return datetime.now(UTC)


class OutboundQueue:
    """See the module's text. Every method may raise StoreUnwell."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = _now) -> None:
        self._db = db
        self._clock = clock

    async def page(
        self,
        *,
        domain: str | None = None,
        states: Sequence[str] = (),
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Deliveries, oldest first. ``domain``: of the sender or the recipient. ``states``: the open ones unless given.

        ``destination``: the recipient's domain, or a site as ``top`` names it. ``after``: the id the last list ended
        with. Raises Invalid for a state or id that is none.
        """
        unknown = [state for state in states if state not in set(State)]
        if unknown:
            raise Invalid(f"no such state: {unknown[0]}; there are {', '.join(State)}", field="state")
        name = None if domain is None else normalise_domain(domain) or domain.lower()
        wanted = list(states) or [state.value for state in OPEN]
        async with self._db.connection() as conn:
            found = await outqueue.page(
                conn,
                domain=name,
                states=wanted,
                destination=None if destination is None else _destination(destination),
                after=None if after is None else _id(after),
                limit=min(max(limit, 1), MAX_LISTED),
            )
        return [_plain(row) for row in found]

    async def show(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its events. Raises NotFound."""
        async with self._db.connection() as conn:
            found = await outqueue.show(conn, _id(delivery_id))
        if found is None:
            raise NotFound(f"no delivery {delivery_id}")
        events = [_plain(event) for event in found.pop("events")]
        return _plain(found) | {"events": events}

    async def retry(self, ids: Sequence[str]) -> int:
        """Makes deliveries due now. Raises Conflict if none of them waits."""
        return await self._move(ids, partial(outqueue.retry, now=self._clock()), "waiting", wake=True)

    async def hold(self, ids: Sequence[str]) -> int:
        """Keeps deliveries from being tried until they are released. Raises Conflict if none of them waits."""
        return await self._move(ids, outqueue.hold, "waiting")

    async def release(self, ids: Sequence[str]) -> int:
        """Lets held deliveries go on. Raises Conflict if none of them is held."""
        return await self._move(ids, partial(outqueue.release, now=self._clock()), "held", wake=True)

    async def drop(self, ids: Sequence[str]) -> int:
        """Cancels deliveries; their senders are not told. Raises Conflict if none of them waits or is held."""
        return await self._move(ids, partial(outqueue.drop, now=self._clock()), "waiting or held")

    async def pause(self, destination: str, reason: str = "") -> dict[str, Any]:
        """Stops mail to a domain, or to a site as ``top`` names it, until ``resume``."""
        name = _destination(destination)
        async with self._db.connection() as conn:
            await destinations.pause(conn, name, self._clock(), reason)
        return {"destination": name, "paused": True, "reason": reason}

    async def resume(self, destination: str) -> dict[str, Any]:
        """Lets it go on, and forgets that it was parked. Raises NotFound if it was neither."""
        name = _destination(destination)
        async with self._db.transaction() as conn:
            if not await destinations.resume(conn, name, self._clock()):
                raise NotFound(f"{name} is neither paused nor parked")
            await outqueue.wake(conn)
        return {"destination": name, "paused": False}

    async def closed(self) -> list[dict[str, Any]]:
        """Destinations that are paused or parked."""
        async with self._db.connection() as conn:
            found = await destinations.closed(conn, self._clock(), limit=MAX_LISTED)
        return [_plain({name: getattr(one, name) for name in one.__slots__}) for one in found]

    async def top(self, limit: int = 20) -> list[dict[str, Any]]:
        """Where mail waits: a row for each site, the most first."""
        async with self._db.connection() as conn:
            return [_plain(row) for row in await outqueue.top(conn, self._clock(), min(max(limit, 1), MAX_LISTED))]

    async def _move(
        self, ids: Sequence[str], move: Callable[..., Awaitable[int]], needed: str, *, wake: bool = False
    ) -> int:
        wanted = [_id(one) for one in ids]
        async with self._db.transaction() as conn:
            count = await move(conn, wanted)
            if count and wake:
                await outqueue.wake(conn)
        if not count and wanted:
            raise Conflict(f"none of these deliveries is {needed}")
        return count


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid(f"not a delivery id: {text}", field="id") from None


def _destination(text: str) -> str:
    """A domain in A-labels, or a site's name as it is."""
    return normalise_domain(text) or text.strip().lower()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON values: times as ISO 8601 in UTC, ids as text, stored JSON decoded."""
    plain = {name: value for name, value in row.items() if name not in ("options", "detail")}
    for name in row.keys() - plain.keys():
        plain[name] = msgspec.json.decode(row[name])
    kept: dict[str, Any] = msgspec.to_builtins(plain)
    return kept
