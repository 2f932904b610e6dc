"""Transport security of other domains: MTA-STS policies as fetched, and how TLS sessions went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, NamedTuple

from clawmail.store.db import Connection
from clawmail.store.queries import load

PolicyType = Literal["sts", "tlsa", "no-policy-found"]

_sql = load("policies")


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """An MTA-STS policy as it was last fetched."""

    policy_id: str
    #: the file.
    text: str
    expires_at: datetime


class TlsCount(NamedTuple):
    """What sessions are counted by (RFC 8460 section 4.4)."""

    day: date
    policy_domain: str
    policy_type: PolicyType
    mx_host: str
    #: "successful", or a result type of RFC 8460 section 4.3.
    result: str


async def mta_sts(conn: Connection, domain: str, now: datetime) -> KeptPolicy | None:
    """The policy of ``domain`` that has not expired."""
    row = await conn.fetchrow(_sql.mta_sts, domain, now)
    return None if row is None else KeptPolicy(row["policy_id"], row["policy"], row["expires_at"])


async def keep_mta_sts(conn: Connection, domain: str, policy: KeptPolicy, now: datetime) -> None:
    """Keeps a policy that was fetched."""
    await conn.execute(_sql.keep_mta_sts, domain, policy.policy_id, policy.text, now, policy.expires_at)


async def count_tls(conn: Connection, counts: Mapping[TlsCount, int]) -> None:
    """Adds to the counts."""
    rows = sorted(counts.items())
    await conn.execute(
        _sql.count_tls,
        [count.day for count, _ in rows],
        [count.policy_domain for count, _ in rows],
        [count.policy_type for count, _ in rows],
        [count.mx_host for count, _ in rows],
        [count.result for count, _ in rows],
        [sessions for _, sessions in rows],
    )


async def tls_of_day(conn: Connection, day: date, domain: str) -> list[tuple[str, str, str, int]]:
    """``(policy type, host, result, sessions)`` of one day and domain."""
    rows = await conn.fetch(_sql.tls_of_day, day, domain)
    return [(row["policy_type"], row["mx_host"], row["result"], row["sessions"]) for row in rows]


async def forget_old(conn: Connection, policies_before: datetime, results_before: date) -> None:
    """Removes expired policies, and counts of days long past."""
    await conn.execute(_sql.forget_policies, policies_before)
    await conn.execute(_sql.forget_tls, results_before)
