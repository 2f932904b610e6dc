"""Forwards: what a rule sends on, written as deliveries in the transaction of the mail itself.

The original goes on as it is: author, subject, text, files, signatures. Only an Authentication-Results that bears a
name of ours is taken out, lest the next hop believe it (RFC 8601 section 5). The envelope sender is rewritten (SRS), so
that SPF at the next hop finds our domain; our trace and an ARC seal go on top, so that it can see what we saw.
Where that could not pass DMARC there, because no aligned signature survives and the author's policy refuses, our own
address goes into From, the author into Reply-To, and we sign (``forwarding.rewrite_from``).

A forward that fails is settled by the queue; it never delays or loses the original.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from clawmail.base.ids import new_id
from clawmail.core.aside import Aside
from clawmail.core.authenticate import Verdict
from clawmail.core.directory import Directory
from clawmail.core.envelope import Envelope
from clawmail.core.our_names import OurNames
from clawmail.core.routing import Candidate, CompiledRule, plan, plan_afresh, steps
from clawmail.core.signing import Signers
from clawmail.core.trace import hosts_passed, received_field
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.events import Event, EventType
from clawmail.model.mail import Message
from clawmail.model.tenancy import Domain, ForwardingRule
from clawmail.protocol.address import Mailbox, parse_address
from clawmail.protocol.authres import results_field
from clawmail.protocol.headers import RawMessage, split_message
from clawmail.protocol.mime.encode import mailboxes_field
from clawmail.protocol.mime.parse import ParsedMessage
from clawmail.protocol.srs import rewrite_sender
from clawmail.protocol.submission import without_fields

#: local part that stands in From where the author's own address would be refused.
FORWARDING_LOCAL_PART = "forwarding"
#: steps of matching (``routing.steps``) that may hold up everybody else's mail: under half a millisecond.
CHEAP_STEPS = 50_000


class Forwarder:
    """Plans and prepares what the rules of a domain send on."""

    def __init__(
        self,
        directory: Directory,
        signers: Signers,
        our_names: OurNames,
        *,
        hostname: str,
        srs_key: bytes,
        rewrite_from: Literal["when-needed", "always", "never"],
        aside: Aside,
    ) -> None:
        """``aside`` matches what is costly to match, one message after the other."""
        self._directory = directory
        self._signers = signers
        self._our_names = our_names
        self._hostname = hostname
        self._srs_key = srs_key
        self._rewrite_from = rewrite_from
        self._aside = aside

    async def forwards(
        self, domain: Domain, envelope: Envelope, message: Message, parsed: ParsedMessage, verdict: Verdict
    ) -> tuple[list[NewDelivery], list[Event]]:
        """The deliveries that ``domain``'s rules make of a message, and their events."""
        rules = await self._directory.rules(domain)
        if not rules:
            return [], []
        recipients = [r.address for r in envelope.recipients if r.domain is not None and r.domain.id == domain.id]
        original = split_message(envelope.raw)
        passed = hosts_passed(original.fields).count(self._hostname)
        chosen = await self._plan(rules, _candidate(parsed, recipients), [*recipients, envelope.mail_from], passed)
        if not chosen:
            return [], []
        prefix, changes = await self._prepare(domain, envelope, message, original, parsed, verdict)
        sender = rewrite_sender(envelope.mail_from, domain=domain.name, key=self._srs_key, now=time.time())
        options = {"smtputf8": envelope.smtputf8, "require_tls": envelope.require_tls, **changes}
        deliveries = [_delivery(rule, message, sender, prefix, options, envelope.received_at) for rule in chosen]
        return deliveries, [_event(delivery) for delivery in deliveries]

    async def _plan(
        self, rules: Sequence[CompiledRule], candidate: Candidate, not_to: Sequence[str], passed: int
    ) -> list[ForwardingRule]:
        if steps(rules, candidate) <= CHEAP_STEPS:
            return plan(rules, candidate, not_to=not_to, passed=passed)
        patterns = tuple(one.rule for one in rules)
        return await self._aside.compute(plan_afresh, patterns, candidate, not_to=not_to, passed=passed)

    async def _prepare(
        self,
        domain: Domain,
        envelope: Envelope,
        message: Message,
        original: RawMessage,
        parsed: ParsedMessage,
        verdict: Verdict,
    ) -> tuple[bytes, dict[str, object]]:
        """The fields put on top of the original, and what is taken out of it, as options of its deliveries."""
        changes: dict[str, object] = {}
        honest = await self._our_names.honest(original)
        if honest.forged is not None:
            changes["forged"] = sorted(honest.forged)
        results = verdict.authentication_results(self._hostname)
        trace = received_field(envelope, hostname=self._hostname, queue_id=message.id) + results_field(results)
        without: set[str] = set()
        if self._has_to_rewrite(verdict, forged=honest.forged is not None):
            without = {"from", "reply-to"}
            changes["without"] = sorted(without)
            trace = _our_from(domain, parsed, message) + trace
        sent_on = trace + without_fields(honest.raw, {name.encode() for name in without})
        top = await self._signers.seal(domain, sent_on, results, verdict.arc, authserv_id=self._hostname)
        if without:
            top += await self._signers.sign(domain, sent_on)
        return top + trace, changes

    def _has_to_rewrite(self, verdict: Verdict, *, forged: bool) -> bool:
        """Whether the next hop would refuse the original: forwarding breaks SPF, so only DKIM can carry it.

        Where a ``forged`` field was taken out, a signature that covers such fields is broken as well.
        """
        if self._rewrite_from != "when-needed":
            return self._rewrite_from == "always"
        unbroken = [s for s in verdict.dkim if s.result == "pass" and not (forged and s.signs_results)]
        survives = any(verdict.aligned(signature) for signature in unbroken)
        return not survives and verdict.dmarc.policy in ("quarantine", "reject")


def _candidate(parsed: ParsedMessage, recipients: list[str]) -> Candidate:
    authors = (parsed.from_,) if parsed.from_ else ()
    return Candidate(
        from_=_texts(authors),
        to=tuple(dict.fromkeys((*_texts(parsed.to), *recipients))),
        subject=parsed.subject or "",
    )


def _texts(boxes: tuple[Mailbox, ...]) -> tuple[str, ...]:
    """Each box as the bare address and as it is shown; what bears no address is a name alone."""
    bare = (box.address for box in boxes if box.address)
    shown = (f"{box.name} <{box.address}>" if box.address else box.name for box in boxes if box.name)
    return (*bare, *shown)


def _our_from(domain: Domain, parsed: ParsedMessage, message: Message) -> bytes:
    """From in our name, with the author's own to answer to, as far as answers can be sent there."""
    author = parsed.from_ or Mailbox("", message.from_address)
    shown = f"{author.name or author.address} via {domain.name}".lstrip()
    ours = mailboxes_field("From", [Mailbox(shown, f"{FORWARDING_LOCAL_PART}@{domain.name}")])
    answer_to = [box for box in parsed.reply_to or (author,) if parse_address(box.address) is not None]
    return (ours + (mailboxes_field("Reply-To", answer_to) if answer_to else "")).encode()


def _delivery(
    rule: ForwardingRule, message: Message, sender: str, prefix: bytes, options: dict[str, object], now: datetime
) -> NewDelivery:
    destination = parse_address(rule.destination_email)
    return NewDelivery(
        id=new_id(),
        organisation_id=rule.organisation_id,
        domain_id=rule.domain_id,
        inbox_id=None,
        email_id=None,
        rule_id=rule.id,
        kind="forward",
        envelope_from=sender,
        recipient=rule.destination_email,
        destination=destination.domain if destination else rule.destination_email.rpartition("@")[2],
        state=State.QUEUED,
        next_attempt_at=now,
        created_at=now,
        prefix=prefix,
        options=options,
    )


def _event(delivery: NewDelivery) -> Event:
    return Event(
        id=new_id(),
        organisation_id=delivery.organisation_id,
        domain_id=delivery.domain_id,
        type=EventType.ACCEPTED,
        at=delivery.created_at,
        delivery_id=delivery.id,
        recipient=delivery.recipient,
        detail={"rule": str(delivery.rule_id)},
    )
