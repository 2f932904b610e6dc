"""The account: every promise in the ledger against what the database and the sinks hold, at the end.

A second copy is explained by two witnesses. Ours: the delivery has an event, written in the transaction that gave up on
the earlier copy, which says that it may have arrived; or the client that sent it twice did not hear 250 the first time,
or was told in so many words that nobody knew. Theirs: the sink hung up instead of answering; or the server that it
answered was killed, stopped or cut off from the database before it can have written the answer down.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID

from clawmail.core.verify import Verifier
from clawmail.store.db import Database
from tests.torture.ledger import Copy, Ledger, Mail, Sent, Strike
from tests.torture.world import LEASE_SECONDS, World

#: longest way from a sink's 250 to our commit while nothing is broken, on a busy machine.
COMMIT_SECONDS = 1.0
#: how far around an unexplained copy the faults are listed.
AROUND_SECONDS = 10.0
#: what 451 says when a commit was not answered, and PostgreSQL could not be asked about it either.
IN_DOUBT = "did not say in time"
#: ends a process: nothing is sent by it afterwards.
DEADLY = ("kill -9 a server", "kill -9 a worker")
#: keeps results from being written until it is over, or the lease is. A server that is told to end by SIGTERM, or whose
#: clock is set, owes no copy to anybody.
HINDERING = (
    "kill -9 PostgreSQL",
    "standby promoted",
    "SIGSTOP beyond the lease",
    "database read-only",
    "disk full",
    "network to the database cut",
)

STORED = """
    SELECT m.rfc_message_id AS name, m.raw_sha256 = sha256(coalesce(m.raw, pieces_of(m.id))) AS sound,
           m.raw_sha256 AS sha256
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.direction = 'inbound' AND m.rfc_message_id LIKE '%@sender.test>'
"""
SENT = """
    SELECT e.id, m.rfc_message_id AS name, d.state, d.notice,
           coalesce(v.told_delivered, 0) AS told_delivered, coalesce(v.told_twice, 0) AS told_twice
    FROM emails e JOIN messages m ON m.id = e.message_id JOIN deliveries d ON d.email_id = e.id
    LEFT JOIN (
        SELECT delivery_id, count(*) FILTER (WHERE type = 'delivered') AS told_delivered,
               count(*) FILTER (WHERE type = 'attempted' AND detail @> '{"possible_duplicate": true}') AS told_twice
        FROM events WHERE delivery_id IS NOT NULL GROUP BY 1
    ) v ON v.delivery_id = d.id
    WHERE e.direction = 'outbound'
"""
LOCAL = """
    SELECT m.rfc_message_id AS name, count(*) AS copies FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.direction = 'inbound' AND m.rfc_message_id NOT LIKE '%@sender.test>' GROUP BY 1
"""


@dataclass
class Account:
    """What the comparison found."""

    promised_in: int = 0
    stored_in: int = 0
    promised_out: int = 0
    states: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    #: longest time in seconds from a sink's 250 to the harm that kept it from being written down.
    longest_ahead: float = 0.0
    #: broken promises, each in words.
    lost: list[str] = field(default_factory=list)
    #: answers that a server in trouble may not give, each in words.
    turned_away: list[str] = field(default_factory=list)
    #: copies that nothing explains.
    unexplained: list[str] = field(default_factory=list)
    #: what ``clawmail verify`` finds.
    wrong: list[str] = field(default_factory=list)
    #: what the servers logged with a traceback.
    tracebacks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything promised was kept, once or with a reason."""
        return not (self.lost or self.turned_away or self.unexplained or self.wrong or self.tracebacks)


async def settle_accounts(world: World) -> Account:
    """Compares the ledger with the store and the sinks."""
    account = Account()
    await _count_incoming(world, account)
    await _count_sent(world, account)
    account.turned_away = world.ledger.turned_away
    account.tracebacks = [line for node in world.nodes for line in node.faults_of_ours()]
    db = Database(world.database_url, pool_size=2)
    await db.open()
    try:
        async for problem in Verifier(db).run():
            account.wrong.append(f"{problem.check}: {problem.table} {problem.id}: {problem.problem}")
    finally:
        await db.close()
    return account


async def _count_incoming(world: World, account: Account) -> None:
    rows = await world.sql(STORED)
    copies: Counter[str] = Counter()
    for row in rows:
        mail = world.ledger.incoming.get(row["name"])
        if mail is None or not row["sound"] or row["sha256"] != mail.sha256:
            account.lost.append(f"{row['name']} was stored with other bytes than were sent")
        copies[row["name"]] += 1
    for mail in world.ledger.incoming.values():
        found = copies[mail.message_id]
        if mail.promised_at is not None:
            account.promised_in += 1
            account.stored_in += found > 0
            if not found:
                account.lost.append(f"{mail.message_id} was answered 250 and is not there")
        extra = found - (mail.promised_at is not None)
        if extra > 0:
            account.duplicates += extra * (mail.promised_at is not None)
            cut = min(extra, mail.doubts)
            account.explained["the sender's connection died before our 250"] += cut
            unsure = min(extra - cut, sum(IN_DOUBT in reply for _, reply in mail.put_off))
            account.explained["the database was gone in the middle of the commit, and 451 said so"] += unsure
            if extra > cut + unsure:
                account.unexplained.append(
                    f"{mail.message_id} is stored {found} times, with {mail.doubts} doubts"
                    + _put_off(world.ledger, mail)
                )


def _put_off(ledger: Ledger, mail: Mail) -> str:
    """What was answered instead of 250, and what held then: where to look when a copy is not explained."""
    return "".join(
        f"; {reply!r} during {[s.kind for s in ledger.struck_between(at - COMMIT_SECONDS, at)]}"
        for at, reply in mail.put_off
    )


async def _count_sent(world: World, account: Account) -> None:
    rows = {row["id"]: row for row in await world.sql(SENT)}
    local = {row["name"]: row["copies"] for row in await world.sql(LOCAL)}
    for sent in world.ledger.sent.values():
        account.promised_out += 1
        row = rows.get(UUID(sent.email_id))
        if row is None:
            account.lost.append(f"{sent.email_id} was answered 201 and is not there")
            continue
        account.states[row["state"]] += 1
        is_local = not sent.recipient.endswith("far.test")
        taken = local.get(sent.message_id, 0) if is_local else len(world.ledger.copies[sent.message_id])
        _check_one(world.ledger, account, sent, row, taken, is_local=is_local)


def _check_one(ledger: Ledger, account: Account, sent: Sent, row: Any, taken: int, *, is_local: bool) -> None:
    if row["state"] == "delivered" and (not taken or row["told_delivered"] != 1):
        account.lost.append(
            f"{sent.message_id} is delivered, {taken} copies arrived, told {row['told_delivered']} times"
        )
    if row["state"] in ("expired", "suppressed", "cancelled", "held"):
        account.lost.append(f"{sent.message_id} to {sent.recipient} ended as {row['state']}")
    if row["state"] == "bounced" and "nobody" not in sent.recipient:
        account.lost.append(f"{sent.message_id} to {sent.recipient} bounced")
    if taken <= 1:
        return
    account.duplicates += taken - 1
    if is_local:
        account.unexplained.append(f"{sent.message_id} was filed {taken} times in the house")
    elif row["told_twice"] < taken - 1:
        account.unexplained.append(f"{sent.message_id} arrived {taken} times, {row['told_twice']} events own up to it")
    else:
        _explain(ledger, account, ledger.copies[sent.message_id])


def _explain(ledger: Ledger, account: Account, copies: list[Copy]) -> None:
    """Why the answers to all copies but the last were never written down."""
    for earlier, later in pairwise(copies):
        if not earlier.answered:
            account.explained["the sink hung up after the dot"] += 1
        elif strike := next((strike for strike in ledger.strikes if _prevented(strike, earlier)), None):
            account.explained[f"{strike.kind} between the sink's 250 and our commit"] += 1
            account.longest_ahead = max(account.longest_ahead, strike.began - earlier.at)
        else:
            account.unexplained.append(_went_out_twice(ledger, earlier, later))


def _went_out_twice(ledger: Ledger, earlier: Copy, later: Copy) -> str:
    """What happened about then, for whoever looks for the reason."""
    about = [
        f"{strike.kind} {strike.victim} from {strike.began - earlier.at:+.2f} to {strike.over - earlier.at:+.2f} s"
        for strike in ledger.struck_between(earlier.at - AROUND_SECONDS, earlier.at + AROUND_SECONDS)
    ]
    return f"{earlier.peer} brought a copy, {later.peer} another {later.at - earlier.at:.1f} s later; {about}"


def _prevented(strike: Strike, copy: Copy) -> bool:
    """Whether a fault kept the server that brought ``copy`` from writing down the answer it got."""
    if strike.kind not in (*DEADLY, *HINDERING) or strike.victim not in ("", copy.peer):
        return False
    # A lease that could not be renewed in time is lost although the way is free again.
    over = strike.over if strike.kind in DEADLY else max(strike.over, strike.began + LEASE_SECONDS)
    return strike.began - COMMIT_SECONDS <= copy.at <= over + COMMIT_SECONDS
