"""The queue: deliveries claimed under a lease, renewed, given back and settled.

At-least-once is what a queue on a shared database can promise, and the promise is kept like this. A claim commits
before any work begins; it carries an owner, and a fence that counts the claims of the row. Only the owner renews the
lease. Whoever writes a result names owner and fence, and a row that was taken over meanwhile does not match. Every
statement that moves ``state`` names the states it may come from (``model.delivery.MOVES``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from clawmail.base.ids import new_id
from clawmail.model.delivery import MOVES, ClaimedDelivery, Settlement, State, may_move
from clawmail.model.events import Event, EventType
from clawmail.store import events
from clawmail.store.db import Connection
from clawmail.store.queries import load

#: lanes, and tenants, that one claim walks past when much is due, as its SQL says; a step costs some 10 µs.
RING_STEPS = 32
#: messages of up to so many bytes come with their claim; larger ones are read when they are sent.
CARRIED_BYTES = 64 * 1024
#: expired leases taken over by one statement.
TAKE_OVER_ROWS = 500

_FIRST_ID = UUID(int=0)
_sql = load("deliveries")
_json = msgspec.json.Encoder()


@dataclass(slots=True)
class Rings:
    """Where the two walks over the queue go on: each process turns its own, so that claimers rarely meet."""

    lane_destination: str = ""
    lane_domain: UUID = _FIRST_ID
    tenant: UUID = _FIRST_ID
    #: this turn of the lanes began at their start.
    whole: bool = False
    #: something was claimed in this turn.
    fruitful: bool = False
    #: much was due, and the last claim brought its fill of it: the next one need not look how much there is.
    much: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim brought."""

    deliveries: tuple[ClaimedDelivery, ...]
    #: every due row was looked at: what is left has no room, and there is no use in asking again at once.
    complete: bool
    #: where it brought nothing: when something becomes due, or a parked destination opens.
    next_due: datetime | None


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A delivery whose owner did not renew its lease."""

    id: UUID
    recipient: str
    destination: str
    old_owner: UUID


async def claim(
    conn: Connection,
    *,
    owner: UUID,
    now: datetime,
    lease_until: datetime,
    limit: int,
    rings: Rings,
    rooms: Mapping[str, int],
    other_room: int,
) -> Claim:
    """Claims about ``limit`` due deliveries (and other recipients of the same messages), fairly.

    ``rooms``: for each site the caller works on, how many deliveries more it takes now; any other site takes
    ``other_room``. ``rings`` is moved on.
    """
    rows = await conn.fetch(
        _sql.claim,
        owner,
        now,
        lease_until,
        limit,
        rings.lane_destination,
        rings.lane_domain,
        rings.tenant,
        _json.encode(rooms).decode(),
        other_room,
        CARRIED_BYTES,
        rings.much,
    )
    head = rows[0]
    claimed = tuple(_claimed(row) for row in rows if row["id"] is not None)
    rings.much = not head["is_all"] and len(claimed) >= limit // 2
    complete = head["is_all"] or _turn(rings, head, claimed=bool(claimed))
    return Claim(claimed, complete, head["next_due"])


def _turn(rings: Rings, head: Any, *, claimed: bool) -> bool:
    """Moves the rings on; True when the ring of lanes has come round and nothing was claimed all the way."""
    if (head["tenant_step"] or 0) < RING_STEPS:
        rings.tenant = _FIRST_ID
    else:
        rings.tenant = head["tenant"]
    rings.fruitful |= claimed
    if (head["lane_step"] or 0) == RING_STEPS:
        rings.lane_destination, rings.lane_domain = head["lane_destination"], head["lane_domain"]
        return False
    # The end of the ring. What lies before the place where this turn began has to be walked before it counts as whole.
    fruitless = not rings.fruitful and rings.whole
    rings.lane_destination, rings.lane_domain = "", _FIRST_ID
    rings.whole, rings.fruitful = True, False
    return fruitless


def _claimed(row: Any) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row["id"],
        organisation_id=row["organisation_id"],
        domain_id=row["domain_id"],
        inbox_id=row["inbox_id"],
        email_id=row["email_id"],
        rule_id=row["rule_id"],
        message_id=row["message_id"],
        kind=row["kind"],
        envelope_from=row["envelope_from"],
        recipient=row["recipient"],
        destination=row["destination"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        prefix=row["prefix"],
        options=msgspec.json.decode(row["options"]) if row["options"] != "{}" else {},
        lease_owner=row["lease_owner"],
        lease_fence=row["lease_fence"],
        delay_noticed=row["delay_noticed"],
        raw_size=row["raw_size"],
        raw=row["raw"],
    )


async def renew(conn: Connection, owner: UUID, ids: Sequence[UUID], lease_until: datetime) -> set[UUID]:
    """Prolongs the leases that ``owner`` still has on ``ids``; returns those it has."""
    return {row["id"] for row in await conn.fetch(_sql.renew, owner, ids, lease_until)}


async def take_over(conn: Connection, now: datetime) -> list[TakenOver]:
    """Puts deliveries with expired leases back in the queue, each with an event. In a transaction of the caller's.

    Whether their last attempt reached the recipient nobody knows, and the event says so.
    """
    rows = await conn.fetch(_sql.take_over, now, TAKE_OVER_ROWS)
    facts = {"result": "lease expired", "possible_duplicate": True}
    await events.append(
        conn,
        [
            Event(
                new_id(),
                row["organisation_id"],
                row["domain_id"],
                EventType.ATTEMPTED,
                now,
                row["inbox_id"],
                row["email_id"],
                row["id"],
                row["recipient"],
                facts | {"owner": str(row["old_owner"])},
            )
            for row in rows
        ],
    )
    return [TakenOver(row["id"], row["recipient"], row["destination"], row["old_owner"]) for row in rows]


async def release(conn: Connection, owner: UUID, rows: Sequence[tuple[UUID, int, datetime]]) -> set[UUID]:
    """Gives back ``(id, fence, next attempt)`` untried; returns the ids that were still ours."""
    ids, fences, moments = zip(*rows, strict=True)
    return {row["id"] for row in await conn.fetch(_sql.release, owner, ids, fences, moments)}


async def settle(conn: Connection, owner: UUID, settlements: Sequence[Settlement], now: datetime) -> set[UUID]:
    """Writes results and events in one statement; returns the ids that were still ours, the others have new owners."""
    for settlement in settlements:
        assert may_move(State.LEASED, settlement.state), f"{State.LEASED} may move to {MOVES[State.LEASED]} only"
    # A result that waited for the database beyond its lease may stand beside the one of the next claim: its fence no
    # longer fits, so it counts for nothing, and its events did not happen.
    settlements = list({s.delivery_id: s for s in sorted(settlements, key=lambda s: s.fence)}.values())
    told = [
        (new_id(), s.delivery_id, kind.value, _json.encode(detail).decode())
        for s in settlements
        for kind, detail in s.events
    ]
    rows = await conn.fetch(_sql.settle, owner, now, [result_row(s) for s in settlements], told)
    return {row["id"] for row in rows}


def result_row(settlement: Settlement) -> tuple[object, ...]:
    """A result as PostgreSQL's type ``delivery_result``."""
    return (
        settlement.delivery_id,
        settlement.fence,
        settlement.state.value,
        int(settlement.counted),
        settlement.next_attempt_at,
        settlement.reply,
        settlement.host,
        settlement.notice,
        settlement.notice == "delayed",
        settlement.reply_by,
    )


async def body(conn: Connection, message_id: UUID) -> bytes:
    """The raw bytes of a message."""
    raw: bytes = await conn.fetchval(_sql.body, message_id)
    return raw
