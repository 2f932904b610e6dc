"""The account: every promise in the ledger against what the database and the sinks hold, at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID

from clawmail.core.verify import Verifier
from clawmail.store.db import Database
from tests.torture.ledger import Copy, Ledger, Mail, Sent
from tests.torture.world import DATABASE_SECONDS, LEASE_SECONDS, World

#: a fault explains what its victims did so long after it was over: recovery has its own waves.
AFTERMATH_SECONDS = 2.0
#: what breaks a process or its way to the database; a server that is told to end by SIGTERM owes no copy to anybody.
BREAKING = (
    "kill -9 a server",
    "kill -9 a worker",
    "kill -9 PostgreSQL",
    "standby promoted",
    "SIGSTOP beyond the lease",
    "database read-only",
    "disk full",
    "network to the database cut",
)

STORED = """
    SELECT m.rfc_message_id AS name, m.raw_sha256 = sha256(m.raw) AS sound, m.raw_sha256 AS sha256
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.direction = 'inbound' AND m.rfc_message_id LIKE '%@sender.test>'
"""
SENT = """
    SELECT e.id, m.rfc_message_id AS name, d.state, d.notice, d.lease_fence AS claims,
           (SELECT count(*) FROM events v WHERE v.delivery_id = d.id AND v.type = 'delivered') AS told_delivered
    FROM emails e JOIN messages m ON m.id = e.message_id JOIN deliveries d ON d.email_id = e.id
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
    #: broken promises, each in words.
    lost: list[str] = field(default_factory=list)
    #: copies that nothing explains.
    unexplained: list[str] = field(default_factory=list)
    #: what ``clawmail verify`` finds.
    wrong: list[str] = field(default_factory=list)
    #: what the servers logged with a traceback.
    tracebacks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything promised was kept, once or with a reason."""
        return not (self.lost or self.unexplained or self.wrong or self.tracebacks)


async def settle_accounts(world: World) -> Account:
    """Compares the ledger with the store and the sinks."""
    account = Account()
    await _count_incoming(world, account)
    await _count_sent(world, account)
    account.lost += world.ledger.turned_away
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
            unsure = min(extra - cut, _commits_cut_off(world.ledger, mail))
            account.explained["the database's connection died in the middle of the commit, 451 was said"] += unsure
            if extra > cut + unsure:
                account.unexplained.append(
                    f"{mail.message_id} is stored {found} times, with {mail.doubts} doubts"
                    + _put_off(world.ledger, mail)
                )


def _put_off(ledger: Ledger, mail: Mail) -> str:
    """What was answered instead of 250, and what held then: where to look when a copy is not explained."""
    return "".join(
        f"; {reply!r} during {[s.kind for s in ledger.struck_between(at - AFTERMATH_SECONDS, at)]}"
        for at, reply in mail.put_off
    )


def _commits_cut_off(ledger: Ledger, mail: Mail) -> int:
    """How many 451 came while the database, or the way to it, was breaking."""
    breaking = ("kill -9 PostgreSQL", "standby promoted", "network to the database cut", "disk full")
    # 451 may be said as late as the database's time-out after the cut.
    waited = AFTERMATH_SECONDS + DATABASE_SECONDS
    return sum(any(s.kind in breaking for s in ledger.struck_between(at - waited, at)) for at, _ in mail.put_off)


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
    if is_local:  # no sink saw it: one claim more than copies needed is the trace of a process that died
        known = row["claims"] >= taken
        account.explained["handed over in the house, process died before our commit"] += (taken - 1) * known
        if not known:
            account.unexplained.append(f"{sent.message_id} was filed {taken} times in {row['claims']} claims")
        return
    copies = ledger.copies[sent.message_id]
    for earlier, later in pairwise(copies):
        reason = _reason(ledger, earlier, later)
        if reason:
            account.explained[reason] += 1
        else:
            account.unexplained.append(f"{sent.message_id} went out twice, {later.at - earlier.at:.1f} s apart")


def _reason(ledger: Ledger, earlier: Copy, later: Copy) -> str:
    """Why the peer's 250 for the earlier copy never became our commit."""
    if not earlier.answered:
        return "the sink hung up after the dot"
    # The commit follows the 250 at once, so what prevented it held then, or before the lease was over.
    end = min(later.at, earlier.at + LEASE_SECONDS)
    struck = [s.kind for s in ledger.struck_between(earlier.at - AFTERMATH_SECONDS, end) if s.kind in BREAKING]
    return f"{struck[0]} between the sink's 250 and our commit" if struck else ""
