"""Large messages in pieces: whoever reads them sees them as they were sent, and they go as a whole."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from clawmail.base.ids import new_id
from clawmail.core.verify import Verifier
from clawmail.core.writer import COMPANY_SECONDS, MAX_REST_SECONDS, RESTS, rest_after
from clawmail.model.mail import Filing, Posting
from clawmail.store import archive, deliveries, mailbox, originals, pieces, postings
from clawmail.store.db import Database
from clawmail.store.pieces import LARGE_BYTES, PIECE_BYTES
from tests.support import mail
from tests.support.tenants import Tenant

SIZES = [LARGE_BYTES, LARGE_BYTES + 1, LARGE_BYTES + PIECE_BYTES - 1, 3 * LARGE_BYTES + 77]


def raw_of(size: int) -> bytes:
    """A message of just that size, no two pieces of which are alike."""
    head = b"Subject: large\r\n\r\n"
    return head + random.Random(size).randbytes(size - len(head))


async def message_row(db: Database, email_id: UUID) -> UUID:
    """The id of an email's message."""
    async with db.connection() as conn:
        found: UUID = await conn.fetchval("SELECT message_id FROM emails WHERE id = $1", email_id)
        return found


@pytest.mark.parametrize("size", SIZES)
async def test_every_reader_gets_the_bytes_as_they_were_sent(db: Database, tenant: Tenant, size: int) -> None:
    raw = raw_of(size)
    email_id = await mail.file(db, tenant, raw)
    row = await message_row(db, email_id)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT raw FROM messages WHERE id = $1", row) is None
        assert await conn.fetchval("SELECT count(*) FROM message_pieces") == -(-size // PIECE_BYTES)
        assert await deliveries.body(conn, row) == await pieces.read(conn, row, size) == raw
        original = await originals.original(conn, email_id, tenant.inbox.id)
        assert original is not None and original.raw == raw
        assert [kept.raw for kept in await archive.emails(conn, tenant.inbox.id, [email_id])] == [raw]
        for start in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, 5 * PIECE_BYTES + 3, size - 1, size, size + PIECE_BYTES):
            for octets in (1, 1000, PIECE_BYTES, 3 * PIECE_BYTES + 1, size):
                assert await mailbox.raw_piece(conn, row, start, octets) == raw[start : start + octets]


async def test_what_is_lost_or_changed_is_found(db: Database, tenant: Tenant) -> None:
    await mail.file(db, tenant, raw_of(LARGE_BYTES))
    assert [problem async for problem in Verifier(db).run()] == []
    for change in (
        "UPDATE message_pieces SET octets = set_byte(octets, 7, get_byte(octets, 7) # 1) WHERE number = 3",
        "DELETE FROM message_pieces WHERE number = 3",
        "DELETE FROM message_pieces",
    ):
        async with db.transaction() as conn:
            await conn.execute(change)
        assert [problem.check async for problem in Verifier(db).run()] == ["bytes"]


async def test_they_go_with_their_message(db: Database, tenant: Tenant) -> None:
    email_id = await mail.file(db, tenant, raw_of(LARGE_BYTES))
    async with db.transaction() as conn:
        assert await mailbox.delete(conn, tenant.inbox.id, [email_id])
        assert await conn.fetchval("SELECT count(*) FROM message_pieces") == 0


async def test_there_is_a_rest_after_each_piece(db: Database, tenant: Tenant) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    filing = Filing(new_id(), tenant.organisation_id, tenant.domain.id, tenant.inbox.id, "inbound", False)
    async with db.transaction() as conn:
        await postings.post(conn, [Posting(mail.message_of(raw_of(LARGE_BYTES)), (filing,))], rest)
    assert len(rests) == LARGE_BYTES // PIECE_BYTES
    assert min(rests) > 0


def test_the_large_lane_rests_in_company_some_times_as_long_as_it_works() -> None:
    assert rest_after(0.002, alone=COMPANY_SECONDS / 2) == RESTS * 0.002
    assert rest_after(10.0, alone=0.0) == MAX_REST_SECONDS
    assert rest_after(0.002, alone=COMPANY_SECONDS) == 0
