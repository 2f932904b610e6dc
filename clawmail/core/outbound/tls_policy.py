"""What a connection to a host has to prove before mail may go over it.

DANE speaks first, because nothing may override it (RFC 8461 section 2); then MTA-STS; then what the message itself
requires (REQUIRETLS) and what is known of the provider. Without any of them TLS is opportunistic. How each session went
is counted by policy, for the reports of RFC 8460.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.mta_sts import MtaSts
from clawmail.net.mx import HostAddresses
from clawmail.net.tls import Demand, Level
from clawmail.protocol import dane
from clawmail.protocol.dns import TLSA, Resolver
from clawmail.protocol.replies import Reply, our_reply
from clawmail.store import policies
from clawmail.store.db import Database
from clawmail.store.policies import PolicyType, TlsCount

#: different counts held until they are written down; beyond that, sessions go uncounted.
MAX_COUNTS = 10_000


class TlsPolicies:
    """Decides what is demanded, and counts what came of it."""

    def __init__(
        self,
        resolver: Resolver,
        mta_sts: MtaSts | None,
        *,
        with_dane: bool,
        port: int,
        metrics: OutboundMetrics,
        clock: Callable[[], datetime],
    ) -> None:
        """``mta_sts`` None: such policies are not looked for."""
        self._resolver = resolver
        self._mta_sts = mta_sts
        self._with_dane = with_dane
        self._port = port
        self._metrics = metrics
        self._clock = clock
        self._counts: Counter[TlsCount] = Counter()

    async def demand(self, job: Job, host: str, found: HostAddresses, *, encrypted: bool) -> Demand | Reply:
        """What ``host`` has to offer for ``job``, or a reply when it must not be used at all.

        ``found``: its addresses; ``encrypted``: clear text is out of the question for this provider.
        """
        if self._with_dane and job.route.authenticated and found.authenticated:
            by_dane = await self._by_dane(job, host, found)
            if by_dane is not None:
                return by_dane
        if self._mta_sts is not None:
            by_sts = await self._by_sts(job, host)
            if by_sts is not None:
                return by_sts
        if any(delivery.options.get("require_tls") for delivery in job.deliveries):
            return Demand(Level.PKIX)  # RFC 8689 section 4.2.1
        return Demand(Level.ENCRYPT if encrypted else Level.MAY)

    async def _by_dane(self, job: Job, host: str, found: HostAddresses) -> Demand | Reply | None:
        """RFC 7672 section 2.2: TLSA records at the name the addresses were found at, else at the MX name."""
        names = list(dict.fromkeys(name for name in (found.canonical_name, host) if name))
        for name in names:
            answer = await self._resolver.tlsa(f"_{self._port}._tcp.{name}")
            if answer.failed:
                # Section 2.1.3: in a signed zone a failed look-up may be an attack; the host is not used for now.
                self.count(job, host, "tlsa", "dnssec-invalid")  # RFC 8460 section 4.3.2.1
                return our_reply(451, "4.7.5", f"TLSA records of {name}: {answer.problem}")
            if answer.found and answer.authenticated:
                records = dane.usable(answer.records)
                if not records:
                    return Demand(Level.ENCRYPT, policy="tlsa")  # section 2.2: TLS, unverified
                check = partial(self._mismatch, records, [name, *names])
                return Demand(Level.DANE, check=check, policy="tlsa")
        return None

    def _mismatch(self, records: tuple[TLSA, ...], names: list[str], chain: list[bytes]) -> str:
        return dane.mismatch(chain, records, names, self._clock())

    async def _by_sts(self, job: Job, host: str) -> Demand | Reply | None:
        assert self._mta_sts is not None
        domain = job.route.destination
        policy = await self._mta_sts.policy(domain)
        if policy is None or policy.mode == "none":
            return None
        testing = policy.mode == "testing"
        if policy.allows(host):
            return Demand(Level.PKIX, policy="sts", forgiving=testing)
        self.count(job, host, "sts", "validation-failure")
        if testing:
            return Demand(Level.MAY, policy="sts")
        return our_reply(451, "4.7.5", f"{host} is not an MX that the MTA-STS policy of {domain} names")

    def count(self, job: Job, host: str, policy: PolicyType, result: str) -> None:
        """One session, or one host that could not be used."""
        self._metrics.tls_sessions.labels(policy, result).inc()
        count = TlsCount(self._clock().date(), job.route.destination, policy, host, result)
        if count in self._counts or len(self._counts) < MAX_COUNTS:
            self._counts[count] += 1

    async def write_counts(self, db: Database) -> None:
        """Writes down what was counted. Raises StoreUnwell; then nothing is lost."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        try:
            async with db.connection() as conn:
                await policies.count_tls(conn, counts)
        except BaseException:
            self._counts.update(counts)
            raise
