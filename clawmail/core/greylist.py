"""Greylisting (RFC 6647): the first mail of a network, sender and recipient is asked to come again.

A mail server does; most programs that only spray do not. The client's network (/24, /64) stands for its address,
because large senders retry from another host of theirs. Whoever passed some times is not asked again, nor is mail
that SPF says is sent by whom it claims (the caller sees to that).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_network

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Refused
from clawmail.protocol.dns import Address
from clawmail.store import strangers as store
from clawmail.store.db import Database

#: a first mail that does not come again within this time has to wait anew.
RETRY_WINDOW = timedelta(days=2)
#: what was not seen for so long is forgotten (RFC 6647 section 5 suggests some weeks).
FORGET_AFTER = timedelta(days=40)


class Greylist:
    """Remembers in the store, so that all processes know the same."""

    def __init__(
        self, settings: Smtp, db: Database, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._delay = timedelta(seconds=settings.greylist_delay_seconds)
        self._passes = settings.greylist_passes
        self._db = db
        self._now = now

    async def judge(self, ip: Address, mail_from: str, recipient: str) -> None:
        """Raises Refused (451 4.7.1) as long as the mail has to wait; StoreUnwell if nobody can tell."""
        now, network = self._now(), _network(ip)
        triplet = hashlib.sha256(f"{network}\n{mail_from.lower()}\n{recipient.lower()}".encode()).digest()
        async with self._db.transaction() as conn:
            if await store.passes(conn, network, now) >= self._passes:
                return
            first_seen_at, passed = await store.knock(conn, triplet, now, forget_before=now - RETRY_WINDOW)
            if passed:
                return
            wait = first_seen_at + self._delay - now
            if wait <= timedelta(0):
                await store.let_pass(conn, triplet, network, now)
                return
        seconds = int(wait.total_seconds()) + 1
        raise Refused(451, "4.7.1", f"greylisted, try again in {seconds} seconds")

    async def sweep(self) -> None:
        """Forgets what nobody came back for; a chore for once an hour."""
        now = self._now()
        async with self._db.transaction() as conn:
            await store.sweep(conn, waiting_before=now - RETRY_WINDOW, seen_before=now - FORGET_AFTER)


def _network(ip: Address) -> str:
    return str(ip_network((ip, 64 if isinstance(ip, IPv6Address) else 24), strict=False))
