"""Every named query is one of these: it reads a few pages of the largest table, or says why it reads more.

As in ``test_plans``, pages are counted, not seconds. A query that is added has to be put somewhere here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clawmail.base.ids import new_id
from clawmail.store.queries import load, sql_folder
from tests.store.test_plans import pages_read
from tests.support.crowded import (
    DELIVERY,
    DOMAIN,
    EMAIL,
    EVENT,
    INBOX,
    KEY,
    MESSAGE,
    ORGANISATION,
    OTHER,
    ROWS,
    TENANTS,
    Crowd,
    crowded,
    identifier,
)
from tests.support.postgres import TestServer

#: pages that a query about a few rows may read; the smallest of the large tables has over 150.
FEW_PAGES = 100

#: one row of each kind: an outbound email of a verified domain.
N = 1_234
TENANT = N % TENANTS
NOW = datetime.now(UTC)
#: a hundred rows are older.
BEFORE = NOW - timedelta(seconds=ROWS - 100)
DOMAIN_ID, INBOX_ID, EMAIL_ID = identifier(TENANT, DOMAIN), identifier(TENANT, INBOX), identifier(N, EMAIL)
MESSAGE_ID, DELIVERY_ID = identifier(N, MESSAGE), identifier(N, DELIVERY)
EVENT_ID = identifier(N, EVENT)
KEY_ID, OTHER_ID = identifier(N, KEY), identifier(N, OTHER)
NAME = f"d{TENANT}.test"

CALLS: dict[str, tuple[Any, ...]] = {
    "accounts.domain_for_update": (NAME,),
    "accounts.domain_by_id": (DOMAIN_ID,),
    "accounts.renew_pending": (DOMAIN_ID, "v", NOW),
    "accounts.verify_domain": (DOMAIN_ID, True, NOW),
    "accounts.remove_domain": (DOMAIN_ID, NOW),
    "accounts.forget_expired": (NOW - timedelta(seconds=TENANTS - 20), 10),
    "accounts.delete_domains": ([identifier(TENANTS, DOMAIN)],),
    "accounts.delete_organisations": ([identifier(TENANTS + 1, ORGANISATION)],),
    "accounts.dkim_keys": (DOMAIN_ID,),
    "accounts.retire_active_key": (DOMAIN_ID, "rsa-sha256", NOW),
    "accounts.activate_key": (OTHER_ID, NOW),
    "accounts.inbox_for_share": (f"a@{NAME}",),
    "accounts.inboxes": (DOMAIN_ID,),
    "accounts.set_quota": (f"a@{NAME}", DOMAIN_ID, 1),
    "accounts.remove_inbox": (f"a@{NAME}", DOMAIN_ID, NOW),
    "accounts.rules": (DOMAIN_ID,),
    "accounts.lock_domain": (DOMAIN_ID,),
    "accounts.count_rules": (DOMAIN_ID,),
    "accounts.delete_rule": (OTHER_ID, DOMAIN_ID),
    "archive.next_emails": (INBOX_ID, EMAIL_ID, 50),
    "archive.emails": (INBOX_ID, [EMAIL_ID]),
    "archive.count": (INBOX_ID,),
    "archive.lock_counts": (INBOX_ID,),
    "archive.known": (INBOX_ID, [1], [b"x"], [OTHER_ID], [1], ["outbound"]),
    "backup.next_message": (MESSAGE_ID,),
    "backup.messages_between": (MESSAGE_ID, identifier(N + 50, MESSAGE)),
    "backup.messages_of_day": (MESSAGE_ID, identifier(N + 50, MESSAGE)),
    "backup.next_in_pieces": (MESSAGE_ID,),
    "backup.in_pieces_between": (MESSAGE_ID, identifier(N + 50, MESSAGE)),
    "backup.pieces_of_day": (MESSAGE_ID, identifier(N + 50, MESSAGE)),
    "deliveries.renew": (OTHER_ID, [DELIVERY_ID], NOW),
    "deliveries.take_over": (NOW, 50),
    "deliveries.release": (OTHER_ID, [DELIVERY_ID], [1], [NOW]),
    "deliveries.body": (MESSAGE_ID,),
    "destinations.answers": (NAME, NOW),
    "destinations.resume": (NAME, NOW),
    "destinations.closed": (NOW - timedelta(seconds=3_000), 20),
    "directory.domain": (NAME, NOW),
    "directory.inbox": (f"a@{NAME}",),
    "directory.rules": (DOMAIN_ID,),
    "directory.active_keys": (DOMAIN_ID,),
    "directory.used_bytes": (INBOX_ID,),
    "doctor.sealed_keys": (identifier(0, OTHER), 10),
    "doctor.webhook_secrets": (identifier(0, OTHER), 10, NOW),
    "doctor.oldest_due": (NOW,),
    "feedback.of_messages": ([INBOX_ID], [OTHER_ID], 1_000),
    "feedback.of_email": (EMAIL_ID, 1_000),
    "feedback.of_id": (DELIVERY_ID,),
    "feedback.of_forwards": ("srs@d.test", ["boss@c.test"], identifier(1, DOMAIN)),
    "feedback.inbox_of_sender": (f"a@{NAME}", DOMAIN_ID),
    "feedback.sender_of": (DELIVERY_ID, DOMAIN_ID),
    "feedback.come_back": (DELIVERY_ID, "550 no", NOW),
    "feedback.told": (EMAIL_ID, DELIVERY_ID, "bounced", True),
    "idempotency.kept": (INBOX_ID, "send", f"k{N}"),
    "idempotency.free": (INBOX_ID, "send", f"k{N}", OTHER_ID),
    "idempotency.renew": ([INBOX_ID], ["send"], [f"k{N}"], [OTHER_ID], 10.0),
    "idempotency.forget": (BEFORE, 10),
    "keys.candidates": (f"cm_{N}", ["creation", "domain"], NOW, 10),
    "keys.use_up": (KEY_ID, NOW),
    "keys.drop_tokens": (DOMAIN_ID,),
    "keys.forget_creation_keys": (BEFORE, 10),
    "keys.revocable": (DOMAIN_ID, "domain", KEY_ID, "cm_1", NOW),
    "keys.revoke": (KEY_ID, NOW),
    "keys.inbox_keys": (DOMAIN_ID, None),
    "keys.were_used": ([KEY_ID], [NOW]),
    "notices.due": (),
    "notices.take": (identifier(7, MESSAGE), identifier(7, INBOX), "failed"),
    "notices.original": (MESSAGE_ID, INBOX_ID),
    "originals.original": (EMAIL_ID, INBOX_ID),
    "outqueue.show": (DELIVERY_ID,),
    "outqueue.events_of": (EMAIL_ID, DELIVERY_ID),
    "outqueue.events_of_other": (DOMAIN_ID, DELIVERY_ID, DELIVERY_ID),
    "outqueue.retry": ([DELIVERY_ID], NOW),
    "outqueue.hold": ([DELIVERY_ID],),
    "outqueue.release": ([DELIVERY_ID], NOW),
    "outqueue.drop": ([DELIVERY_ID], NOW),
    "policies.mta_sts": (NAME, NOW),
    "policies.tls_of_day": (NOW.date(), NAME),
    "postings.take_back_messages": ([identifier(ROWS, MESSAGE)],),
    "postings.threads_of_references": ([INBOX_ID], [OTHER_ID]),
    "postings.is_stored": (MESSAGE_ID,),
    "postings.mark_answered": (EMAIL_ID, INBOX_ID),
    "postings.keep_answer": (INBOX_ID, "send", f"k{N}", 201, b"", OTHER_ID),
    "retention.removed_inboxes": (20,),
    "retention.emails_of_inbox": (INBOX_ID, 50),
    "retention.delete_inbox": (identifier(TENANTS + 8, INBOX),),
    "retention.delete_events_of_inbox": (INBOX_ID, 20),
    "retention.delete_events_of_domain": (DOMAIN_ID, 20),
    "retention.delete_deliveries_of_domain": (DOMAIN_ID, 20),
    "retention.delete_domain": (identifier(TENANTS, DOMAIN),),
    "retention.delete_organisation": (identifier(TENANTS + 1, ORGANISATION),),
    "retention.emails_before": (identifier(50, EMAIL), 20),
    "retention.emails_of_domain_before": (DOMAIN_ID, identifier(ROWS, EMAIL), 20),
    "retention.delete_events_of_domain_before": (DOMAIN_ID, identifier(ROWS, EVENT), 20),
    "retention.delete_ended_deliveries_of_domain": (DOMAIN_ID, BEFORE, 20),
    "retention.of_domain": (DOMAIN_ID,),
    "retention.delete_of_domain": (DOMAIN_ID,),
    "retention.delete_events_before": (identifier(50, EVENT), 20),
    "retention.delete_ended_deliveries": (BEFORE, 10),
    "retention.leftovers": (MESSAGE_ID, 20),
    "retention.delete_expired_suppressions": (BEFORE, 20),
    "retention.some_domain_has_its_own": (),
    "strangers.pass_triplet": (b"x",),
    "strangers.passes": (f"n{N}", NOW),
    "strangers.sweep_networks": (BEFORE,),
    "strangers.sweep_triplets": (BEFORE, BEFORE),
    "strangers.sender_rules": (DOMAIN_ID, 20),
    "strangers.remove_sender_rule": (OTHER_ID, DOMAIN_ID),
    "webhooks.hold_key": (KEY_ID,),
    "webhooks.inbox": (f"a@{NAME}", DOMAIN_ID),
    "webhooks.count": (DOMAIN_ID, INBOX_ID),
    "webhooks.of_owner": (DOMAIN_ID, None, None),
    "webhooks.change": (OTHER_ID, "https://b.test", KEY_ID, ["received"], True, NOW),
    "webhooks.rotate": (OTHER_ID, b"x", NOW),
    "webhooks.remove": (identifier(N + 1, OTHER), NOW),
    "webhooks.deliveries": (OTHER_ID, None, 20),
    "webhooks.retry": (OTHER_ID, EVENT_ID, NOW),
    "webhook_queue.claim": (
        OTHER_ID,
        NOW,
        NOW,
        50,
        [identifier(n, OTHER) for n in range(9)],
        4,
        1,
        [OTHER_ID],
        64,
        ["received"],
    ),
    "webhook_queue.emails": ([EMAIL_ID],),
    "webhook_queue.observe": (NOW, [OTHER_ID], [1], [NOW], [None], ["https://a.test"]),
    "webhook_queue.settle": (OTHER_ID, NOW, [OTHER_ID], [EVENT_ID], [1], ["delivered"], [None], [200], [None]),
    "webhook_queue.release": (OTHER_ID, NOW, [OTHER_ID], [EVENT_ID], [1]),
    "webhook_queue.hold": (OTHER_ID,),
    "webhook_queue.drop": (OTHER_ID, 10, 10),
    "webhook_queue.expire": (BEFORE, NOW, 10),
    "webhook_queue.forget": (NOW - timedelta(seconds=25_000), 10),
    "webhook_queue.removed": (BEFORE, 10),
    "webhook_queue.empty": (identifier(8, OTHER), 10),
    "webhook_queue.delete": (identifier(18, OTHER),),
    "retention.delete_webhook_deliveries_of_inbox": (INBOX_ID, 20),
    "retention.delete_webhook_deliveries_of_domain": (DOMAIN_ID, 20),
    "suppressions.list_after": (DOMAIN_ID, NOW, None, 20),
    "suppressions.get": (DOMAIN_ID, f"r{N}@c.test", NOW),
    "suppressions.delete": (DOMAIN_ID, f"r{N}@c.test"),
}

#: what reads a whole table, or as much as is asked for, and why it may.
READ_MUCH = {
    "accounts.domains": "the operator asks for all of them",
    "accounts.waiting_keys": "keys whose record is not yet seen, all few of them, once a minute",
    "backup.drop_unheld_messages": "a restore, before anything is served",
    "backup.hold_queue": "the same",
    "backup.hold_webhooks": "the same",
    "backup.holds_something": "the same; stops at the first row",
    "backup.analyse": "the same",
    "destinations.forget_old": "hourly, one row for each domain that was written to",
    "policies.forget_policies": "hourly, one row for each domain with a policy",
    "policies.forget_tls": "hourly, 35 days of counts",
    "doctor.queue": "the operator asks how much waits: partial indexes of just that",
    "outqueue.list": "the operator walks the queue, a page at a time",
    "outqueue.top": "the operator looks at all that waits",
    "outqueue.measure": "all that waits, at most every five seconds",
    "retention.removed_domains": "hourly, each removed domain that is not empty yet",
    "retention.days_of_domains": "hourly, and only where a domain has its own retention",
    "webhook_queue.waiting": "all that waits, once a minute: an index of just that",
    "rate_counts.forget": "one row for each caller of the last hour",
}
#: files whose queries are looked at elsewhere, or are walks by key over everything, a batch at a time.
ELSEWHERE = {
    "mailbox": "test_plans",
    "events": "test_plans",
    "verify": "an operator's walk by key over everything",
    "health": "asks no table",
}
#: nothing but catalogues, settings and server processes, or one query that a test of its own looks at.
ELSEWHERE_TOO = {
    "backup.tables",
    "backup.migrations",
    "doctor.server",
    "doctor.migrations",
    "postings.is_there",
    "events.settled",
    "deliveries.claim",  # test_deliveries
    "deliveries.settle",  # below
    "webhook_queue.open_endpoints",  # below
}
#: a new row: it looks for others by its own unique key.
_WRITES = re.compile(
    r"/\*.*?\*/\s*(?:INSERT INTO|WITH \w+ AS \(\s*INSERT INTO|SELECT pg_(?:notify|advisory))", re.DOTALL
)
#: what an upsert of many rows finds by its keys.
INSERTS_ELSEWHERE = {"postings.file", "postings.lock_usage", "postings.add_usage"}


@pytest.fixture(scope="module")
async def crowd(postgres: TestServer) -> AsyncIterator[Crowd]:
    async with crowded(postgres) as made:
        yield made


def test_every_query_is_somewhere_here() -> None:
    named = {
        f"{stem}.{name}": text for stem, _ in sql_folder("queries") for name, text in load(stem).statements.items()
    }
    known = {*CALLS, *READ_MUCH, *ELSEWHERE_TOO, *INSERTS_ELSEWHERE}
    assert known <= set(named), known - set(named)
    missing = [
        name
        for name, text in named.items()
        if name not in known and name.partition(".")[0] not in ELSEWHERE and not _WRITES.match(text)
    ]
    assert missing == []


@pytest.mark.parametrize("name", CALLS)
async def test_it_reads_a_few_pages_of_a_large_table(crowd: Crowd, name: str) -> None:
    stem, _, query = name.partition(".")
    assert await pages_read(crowd.conn, load(stem).statements[query], *CALLS[name]) <= FEW_PAGES


async def test_an_event_asks_the_index_who_listens(crowd: Crowd) -> None:
    """However many webhooks there are; EXPLAIN does not count what a trigger reads, the statistics do."""
    event_id = new_id()
    columns = ([event_id], [identifier(TENANT, ORGANISATION)], [DOMAIN_ID], [INBOX_ID], [None], [None])
    scans = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'webhooks'"
    transaction = crowd.conn.transaction()
    await transaction.start()
    before = await crowd.conn.fetchrow(scans)
    await crowd.conn.execute(load("events").statements["append"], *columns, ["received"], [None], ["{}"], [NOW])
    after = await crowd.conn.fetchrow(scans)
    told = await crowd.conn.fetchval("SELECT count(*) FROM webhook_deliveries WHERE event_id = $1", event_id)
    await transaction.rollback()
    assert (after["seq_scan"] - before["seq_scan"], after["idx_scan"] - before["idx_scan"], told) == (0, 1, 1)


async def test_a_look_at_what_waits_for_webhooks_costs_by_the_endpoint(crowd: Crowd) -> None:
    """Sixty-four of them, each found by its key in three indexes of two or three pages each."""
    look = load("webhook_queue").statements["open_endpoints"]
    assert await pages_read(crowd.conn, look, identifier(0, OTHER), NOW + timedelta(hours=1)) <= 64 * 3 * 3


async def test_a_row_goes_without_reading_all_that_may_refer_to_it(crowd: Crowd) -> None:
    """Each foreign key has an index that leads with its columns, for every row."""
    rows = await crowd.conn.fetch(
        """
        SELECT k.conrelid::regclass::text || ' (' || a.attname || ')' AS reference
        FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1]
              AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = '(' || a.attname || ' IS NOT NULL)')
        )
        """
    )
    assert [row["reference"] for row in rows] == []


async def test_a_result_costs_the_same_while_a_long_transaction_keeps_what_was_leased(crowd: Crowd) -> None:
    """Dead entries stay in the index of leases as long as somebody might see them: nobody is to look there."""
    conn, owner, later = crowd.conn, identifier(1, OTHER), NOW + timedelta(hours=1)
    async with crowd.reading():
        await conn.execute(
            "UPDATE deliveries SET state = 'leased', lease_owner = $1, lease_until = $2 WHERE kind = 'send'",
            owner,
            later,
        )
        await conn.execute(
            "UPDATE deliveries SET state = 'delivered', lease_owner = NULL, lease_until = NULL WHERE id <> $1",
            DELIVERY_ID,
        )
        result = (DELIVERY_ID, 0, "delivered", 1, None, "250 taken", "mx", None, False, "host")
        event = (identifier(0, OTHER), DELIVERY_ID, "delivered", "{}")
        calls: dict[str, tuple[Any, ...]] = {
            "settle": (owner, NOW, [result], [event]),
            "renew": (owner, [DELIVERY_ID], later),
            "release": (owner, [DELIVERY_ID], [0], [NOW]),
        }
        for name, values in calls.items():
            assert await pages_read(conn, load("deliveries").statements[name], *values) <= FEW_PAGES, name
