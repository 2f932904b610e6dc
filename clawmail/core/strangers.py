"""Who is knocking? The optional checks of a client and a sender before their message is taken.

They are asked at RCPT, when it is known whom the mail is for, in the order of who may overrule whom: what the tenant
says about the sender, then what the world says about the client (block and allow lists, its names), then greylisting.
Each is off unless a setting or a tenant's rule asks for it, and where the DNS does not answer the client gets the
benefit of the doubt: a list that is down must not stop the mail.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Recipient, Refused
from clawmail.core.greylist import Greylist
from clawmail.core.sender_rules import MAX_RULES
from clawmail.model.tenancy import Domain
from clawmail.protocol.dns import Address, BudgetedResolver, Resolver
from clawmail.protocol.dnsbl import ListZone, is_listed, parse_zone
from clawmail.protocol.helo import problem_of_helo
from clawmail.protocol.iprev import IprevResult, check_iprev
from clawmail.protocol.senders import matching_verdict
from clawmail.protocol.spf.check import SpfResult
from clawmail.store import strangers as store
from clawmail.store.db import Database

#: seconds for which a client's names and score are remembered, and the number of clients.
REMEMBERED_SECONDS = 300.0
MAX_REMEMBERED = 10_000
#: the same for a client whose reverse DNS did not answer.
UNSURE_SECONDS = 60.0
#: DNS questions and seconds that getting to know one client may cost.
CLIENT_QUESTIONS = 40
CLIENT_SECONDS = 10.0
#: seconds for which a domain's sender rules are remembered, and the number of domains.
RULES_SECONDS = 15.0
MAX_DOMAINS = 10_000
#: mailboxes that have to be reachable for a client that is refused by mistake (RFC 5321 4.5.1, RFC 2142 section 5).
ALWAYS_REACHABLE = frozenset({"postmaster", "abuse"})


class _Client(NamedTuple):
    """What the world says about a client."""

    iprev: IprevResult
    #: sum of the weights of lists that have it; allow lists count down.
    score: int
    #: the block lists that have it.
    listed_in: tuple[str, ...]
    #: on the clock of ``Strangers``.
    forget_at: float


class _SenderRules(NamedTuple):
    """What a domain says about senders: pattern to verdict."""

    common: dict[str, str]
    of_inbox: dict[UUID, dict[str, str]]
    forget_at: float


class Strangers:
    """Judges clients and senders; one for a process."""

    def __init__(
        self,
        settings: Smtp,
        hostname: str,
        db: Database,
        resolver: Resolver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for a list zone that is none."""
        self._settings = settings
        self._hostname = hostname
        self._db = db
        self._resolver = resolver
        self._clock = clock
        self._block_lists = [parse_zone(text) for text in settings.dnsbl]
        self._allow_lists = [parse_zone(text) for text in settings.dnswl]
        self._greylist = Greylist(settings, db)
        #: DNS is asked about a client before it is judged only where a setting wants the answer.
        self._client_counts = bool(self._block_lists) or settings.fcrdns_check == "reject"
        self._clients: OrderedDict[Address, _Client] = OrderedDict()
        self._rules: OrderedDict[UUID, _SenderRules] = OrderedDict()

    @property
    def wants_spf(self) -> bool:
        """Whether ``judge`` needs SPF's verdict."""
        return self._settings.greylist

    async def client_name(self, ip: Address) -> str:
        """The client's forward-confirmed name, "" if it has none or nobody knows."""
        iprev = (await self._client(ip)).iprev
        return iprev.name if iprev.result == "pass" else ""

    async def judge(self, ip: Address, helo: str, mail_from: str, recipient: Recipient, spf: SpfResult | None) -> None:
        """Whether mail of this client and sender is taken for this recipient. Raises Refused, or StoreUnwell."""
        verdict = await self._verdict_of_tenant(ip, mail_from, recipient)
        if verdict == "block":
            raise Refused(550, "5.7.1", "the recipient does not take mail from this sender")
        if verdict == "allow" or recipient.address.partition("@")[0].lower() in ALWAYS_REACHABLE:
            return
        await self._judge_client(ip, helo)
        if self._settings.greylist and (spf is None or spf.result != "pass"):
            await self._greylist.judge(ip, mail_from, recipient.address)

    async def sweep(self) -> None:
        """Forgets what greylisting need not remember any more; a chore."""
        await self._greylist.sweep()

    # --- the tenant's word -------------------------------------------------------------------------------------

    async def _verdict_of_tenant(self, ip: Address, mail_from: str, recipient: Recipient) -> str | None:
        if recipient.domain is None:
            return None
        rules = await self._rules_of(recipient.domain)
        own = rules.of_inbox.get(recipient.inbox.id, {}) if recipient.inbox is not None else {}
        return matching_verdict(own, ip, mail_from) or matching_verdict(rules.common, ip, mail_from)

    async def _rules_of(self, domain: Domain) -> _SenderRules:
        known = self._rules.get(domain.id)
        if known is not None and self._clock() < known.forget_at:
            return known
        rules = _SenderRules({}, {}, self._clock() + RULES_SECONDS)
        async with self._db.connection() as conn:
            for rule in await store.sender_rules(conn, domain.id, limit=MAX_RULES):
                about = rules.common if rule.inbox_id is None else rules.of_inbox.setdefault(rule.inbox_id, {})
                about[rule.sender] = rule.verdict
        self._rules[domain.id] = rules
        self._rules.move_to_end(domain.id)
        while len(self._rules) > MAX_DOMAINS:
            self._rules.popitem(last=False)
        return rules

    # --- the world's word --------------------------------------------------------------------------------------

    async def _judge_client(self, ip: Address, helo: str) -> None:
        if self._settings.helo_check == "reject" and (problem := problem_of_helo(helo, ip, self._hostname)):
            raise Refused(550, "5.7.1", problem)
        if not self._client_counts:
            return
        client = await self._client(ip)
        if client.score >= self._settings.dnsbl_threshold and client.listed_in:
            raise Refused(550, "5.7.1", f"{ip} is listed in {', '.join(client.listed_in)}")
        if self._settings.fcrdns_check == "reject":
            # RFC 7372 section 3.3
            if client.iprev.result == "temperror":
                raise Refused(451, "4.7.25", f"the reverse DNS of {ip} does not answer, try again later")
            if client.iprev.result != "pass":
                raise Refused(550, "5.7.25", client.iprev.problem)

    async def _client(self, ip: Address) -> _Client:
        known = self._clients.get(ip)
        if known is not None and self._clock() < known.forget_at:
            return known
        resolver = BudgetedResolver(self._resolver, queries=CLIENT_QUESTIONS, seconds=CLIENT_SECONDS)
        zones = [*self._block_lists, *self._allow_lists]
        iprev, listed = await asyncio.gather(
            check_iprev(resolver, ip), asyncio.gather(*(is_listed(resolver, zone.name, ip) for zone in zones))
        )
        score, names = self._score([zone for zone, is_in in zip(zones, listed, strict=True) if is_in])
        unsure = iprev.result == "temperror"
        forget_at = self._clock() + (UNSURE_SECONDS if unsure else REMEMBERED_SECONDS)
        client = self._clients[ip] = _Client(iprev, score, names, forget_at)
        self._clients.move_to_end(ip)
        while len(self._clients) > MAX_REMEMBERED:
            self._clients.popitem(last=False)
        return client

    def _score(self, found_in: list[ListZone]) -> tuple[int, tuple[str, ...]]:
        against = [zone for zone in found_in if zone in self._block_lists]
        score = sum(zone.weight for zone in against)
        score -= sum(zone.weight for zone in found_in if zone in self._allow_lists)
        return score, tuple(zone.name for zone in against)
