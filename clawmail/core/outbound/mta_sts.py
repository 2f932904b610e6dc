"""MTA-STS policies of the domains we write to: looked up, fetched, remembered (RFC 8461 section 5.1).

A policy that was fetched holds until it expires, whatever happens to its TXT record or its web server: that is what
keeps an attacker from making it vanish. A changed id in the TXT record has it fetched again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.tenant import house_task
from clawmail.net.fetch import Fetcher
from clawmail.protocol.dns import Resolver
from clawmail.protocol.mtasts import MAX_POLICY_OCTETS, POLICY_URL, StsPolicy, Unreadable, policy_id, read_policy
from clawmail.store import policies
from clawmail.store.db import Database
from clawmail.store.policies import KeptPolicy

#: seconds a fetch may take (RFC 8461 section 3.3 suggests one minute).
FETCH_SECONDS = 30.0
#: after a failed fetch, no other one for so long (section 3.3: at most one in five minutes).
FETCH_PAUSE = timedelta(minutes=5)
#: what a process remembers of a domain without asking the database again.
MEMORY = timedelta(minutes=10)
MAX_DOMAINS = 10_000

log = logger("queue")


@dataclass(slots=True)
class _Known:
    policy: StsPolicy | None
    policy_id: str
    expires_at: datetime
    read_at: datetime
    not_before: datetime


class MtaSts:
    """Policies by domain."""

    def __init__(
        self,
        db: Database,
        resolver: Resolver,
        fetcher: Fetcher,
        *,
        clock: Callable[[], datetime],
        policy_url: str = POLICY_URL,
    ) -> None:
        self._db = db
        self._resolver = resolver
        self._fetcher = fetcher
        self._clock = clock
        self._url = policy_url
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[_Known]] = {}

    async def policy(self, domain: str) -> StsPolicy | None:
        """The policy in force for ``domain``; None if it has none."""
        if domain.startswith("["):
            return None
        now = self._clock()
        announced = await self._resolver.txt(f"_mta-sts.{domain}")
        current = policy_id(announced.records) if announced.found else None
        known = self._known.get(domain)
        if known is None or known.read_at + MEMORY < now:
            known = await self._remembered(domain, now)
        if current is not None and (current != known.policy_id or known.expires_at <= now) and known.not_before <= now:
            known = await self._fetch_once(domain, current, known)
        return known.policy if known.expires_at > now else None

    async def _remembered(self, domain: str, now: datetime) -> _Known:
        try:
            async with self._db.connection() as conn:
                kept = await policies.mta_sts(conn, domain, now)
        except StoreUnwell:
            kept = None
        policy = read_policy(kept.text.encode()) if kept is not None else None
        before = self._known.get(domain)
        known = _Known(
            policy if isinstance(policy, StsPolicy) else None,
            kept.policy_id if kept is not None else "",
            kept.expires_at if kept is not None else now,
            now,
            before.not_before if before is not None else now,
        )
        return self._remember(domain, known)

    def _remember(self, domain: str, known: _Known) -> _Known:
        self._known[domain] = known
        self._known.move_to_end(domain)
        if len(self._known) > MAX_DOMAINS:
            self._known.popitem(last=False)
        return known

    async def _fetch_once(self, domain: str, current: str, known: _Known) -> _Known:
        """However many deliveries wait for a policy, it is fetched once."""
        task = self._fetching.get(domain)
        if task is None:
            task = house_task(self._fetch(domain, current, known), f"mta-sts {domain}")
            self._fetching[domain] = task
            task.add_done_callback(lambda _task: self._fetching.pop(domain, None))
        return await asyncio.shield(task)

    async def _fetch(self, domain: str, current: str, known: _Known) -> _Known:
        url = self._url.format(domain=domain)
        fetched = await self._fetcher.get(url, max_bytes=MAX_POLICY_OCTETS, timeout=FETCH_SECONDS)
        now = self._clock()
        # Section 3.3: 200 and nothing else, text/plain, with a certificate that is good for the name.
        policy: StsPolicy | Unreadable = Unreadable(fetched.problem or f"HTTP status {fetched.status}")
        if fetched.status == 200:
            policy = read_policy(fetched.body)
        if isinstance(policy, Unreadable):
            log.warning("mta-sts policy not fetched", domain=domain, problem=policy.problem)
            known.not_before = now + FETCH_PAUSE
            return known
        kept = KeptPolicy(current, fetched.body.decode("utf-8", "replace"), now + timedelta(seconds=policy.max_age))
        try:
            async with self._db.connection() as conn:
                await policies.keep_mta_sts(conn, domain, kept, now)
        except StoreUnwell as unwell:
            log.warning("mta-sts policy not kept", domain=domain, problem=unwell.message)
        return self._remember(domain, _Known(policy, current, kept.expires_at, now, now))
