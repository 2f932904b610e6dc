"""A session with one MX host: allowed addresses, the protection that is demanded, and what to do when it breaks.

Opportunistic TLS that fails is followed by clear text, a policy in testing by opportunistic TLS; anything else that
falls short means that this host is not used. Every try leaves a trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from clawmail.core.outbound.hosts import Hosts
from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.tls_policy import TlsPolicies
from clawmail.model.attempt import OF_THE_HOST, Stage, Try
from clawmail.net.addresses import Address, is_public
from clawmail.net.mx import HostAddresses, find_addresses
from clawmail.net.smtp_client import Session, SessionEnded, Timeouts, open_session
from clawmail.net.tls import Demand, Level, TlsContexts
from clawmail.protocol.dns import Resolver
from clawmail.protocol.replies import Reply, our_reply


@dataclass(frozen=True, slots=True)
class Way:
    """How connections leave this server."""

    ehlo_name: str
    port: int = 25
    source_ip: str = ""
    #: private and loopback addresses may be dialled.
    allow_private: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    #: our own addresses: where our own SMTP door is, or is seen from outside.
    own_addresses: Callable[[], Sequence[Address]] = lambda: ()
    #: whether mail for a domain belongs to this server.
    is_ours: Callable[[str], Awaitable[bool]] | None = None


class Connector:
    """Opens sessions."""

    def __init__(
        self, resolver: Resolver, way: Way, contexts: TlsContexts, hosts: Hosts, policies: TlsPolicies
    ) -> None:
        self._resolver = resolver
        self._way = way
        self._contexts = contexts
        self._hosts = hosts
        self._policies = policies

    async def fits(self, session: Session, job: Job) -> bool:
        """Whether an open session offers what ``job`` demands of its host."""
        if not session.usable:
            return False
        if session.opened_for == job.route.destination and not _requires_tls(job):
            return True  # judged when it was opened, seconds ago
        found = await self._addresses(job, session.host)
        demand = found if isinstance(found, Reply) else await self._demand(job, session.host, found)
        if isinstance(demand, Reply):
            return False
        return demand.level <= Level.MAY or demand.forgiving or session.level >= demand.level

    async def open(self, job: Job, host: str, tries: list[Try]) -> Session | None:
        """A session with ``host`` for ``job``, or None after adding to ``tries`` why not."""
        started = asyncio.get_running_loop().time()
        found = await self._addresses(job, host)
        if isinstance(found, Reply):
            tries.append(_failed(host, Stage.DNS, found, started))
            return None
        demand = await self._demand(job, host, found)
        if isinstance(demand, Reply):
            tries.append(_failed(host, Stage.TLS, demand, started))
            return None
        return await self._connect(job, host, tries, found.addresses, demand)

    async def _demand(self, job: Job, host: str, found: HostAddresses) -> Demand | Reply:
        demand = await self._policies.demand(job, host, found, encrypted=job.encrypted)
        if isinstance(demand, Demand) and demand.level is Level.MAY:
            now = asyncio.get_running_loop().time()
            return replace(demand, level=Level.NEVER) if self._hosts.has_broken_tls(host, now) else demand
        return demand

    async def _connect(
        self, job: Job, host: str, tries: list[Try], addresses: Sequence[Address], demand: Demand
    ) -> Session | None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            session = await self._say_hello(host, addresses, demand)
        except SessionEnded as ended:
            tries.append(_failed(host, ended.stage, ended.reply, started, ended.address or addresses[0]))
            if ended.stage is Stage.TLS:
                self._policies.count(job, host, demand.policy, ended.tls_result or "validation-failure")
                if demand.level is Level.MAY:
                    # Opportunistic (RFC 7435): broken TLS is no worse than none, where no policy says otherwise.
                    self._hosts.tls_broke(host, started)
                    plain = Demand(Level.NEVER, policy=demand.policy)
                    return await self._connect(job, host, tries, addresses, plain)
                if demand.forgiving:
                    return await self._connect(job, host, tries, addresses, Demand(policy=demand.policy))
            elif ended.stage is Stage.CONNECT or (ended.stage in OF_THE_HOST and ended.reply.ours):
                self._hosts.died(host, loop.time())
            return None
        self._hosts.answered(host)
        session.opened_for = job.route.destination
        if session.tls is not None:
            self._policies.count(job, host, demand.policy, "successful")
        elif demand.level is not Level.NEVER:
            self._policies.count(job, host, demand.policy, "starttls-not-supported")
        return session

    async def _say_hello(self, host: str, addresses: Sequence[Address], demand: Demand) -> Session:
        way = self._way
        return await open_session(
            addresses,
            host,
            port=way.port,
            ehlo_name=way.ehlo_name,
            demand=demand,
            contexts=self._contexts,
            timeouts=way.timeouts,
            source_ip=way.source_ip,
        )

    async def _addresses(self, job: Job, host: str) -> HostAddresses | Reply:
        """The addresses of ``host`` that may be dialled."""
        found = await find_addresses(self._resolver, host)
        if found.refusal is not None:
            return found.refusal
        own = set(self._way.own_addresses())
        ours = self._way.is_ours is not None and await self._way.is_ours(job.route.destination)
        if not ours and any(address in own for address in found.addresses):
            return our_reply(554, "5.4.6", f"mail for {job.route.destination} loops back to this server")
        if self._way.allow_private:
            return found
        allowed = tuple(address for address in found.addresses if is_public(address) or (ours and address in own))
        if not allowed:
            return our_reply(550, "5.4.4", f"{host} has no public address")
        return replace(found, addresses=allowed)


def _failed(host: str, stage: Stage, reply: Reply, started: float, address: Address | None = None) -> Try:
    seconds = asyncio.get_running_loop().time() - started
    return Try(host, str(address or ""), stage, reply, seconds=seconds)


def _requires_tls(job: Job) -> bool:
    return any(delivery.options.get("require_tls") for delivery in job.deliveries)
