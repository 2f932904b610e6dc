"""One attempt at one job: hosts in order, a protected connection, the conversation; an outcome for each recipient.

A host that cannot be reached, or ends the conversation before the message was sent, is followed by the next one, up to
five (RFC 5321 section 5.1 asks for at least two). A host that answers about the message decides. Once the message has
left and no reply comes, the attempt is over: another host might make it two copies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from clawmail.core.outbound.classify import is_permanent
from clawmail.core.outbound.connect import Connector
from clawmail.core.outbound.hosts import Hosts
from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.messages import Messages
from clawmail.core.outbound.proof import Proofs
from clawmail.core.outbound.settle import notify_wishes
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery
from clawmail.net.content import Content
from clawmail.net.envelope import Envelope, RecipientLine
from clawmail.net.smtp_client import Session, SessionEnded
from clawmail.protocol.replies import Reply, our_reply

#: hosts tried in one attempt.
MAX_HOSTS = 5


class Interrupted(asyncio.CancelledError):
    """The attempt was broken off while the host had the message: nobody knows whether it took it."""

    def __init__(self, outcomes: dict[UUID, Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


@dataclass(slots=True)
class _Course:
    """An attempt under way."""

    job: Job
    content: Content
    #: recipients without a final answer.
    pending: list[ClaimedDelivery]
    tries: list[Try] = field(default_factory=list)
    outcomes: dict[UUID, Outcome] = field(default_factory=dict)

    def settle(self, delivery: ClaimedDelivery, tried: Try) -> None:
        self.outcomes[delivery.id] = Outcome((*self.tries, tried))
        self.pending.remove(delivery)

    def give_up(self) -> None:
        """What is pending fails as the hosts did. One that may do better later outweighs those that never will."""
        later = [tried for tried in self.tries if not is_permanent(tried)]
        deciding = later[-1] if later else self.tries[-1]
        tries = (*(tried for tried in self.tries if tried is not deciding), deciding)
        for delivery in self.pending:
            self.outcomes[delivery.id] = Outcome(tries)
        self.pending.clear()


class Carrier:
    """Carries jobs to hosts."""

    def __init__(
        self,
        connector: Connector,
        hosts: Hosts,
        messages: Messages,
        proofs: Proofs | None,
        may_send: Callable[[Sequence[ClaimedDelivery]], bool],
    ) -> None:
        """``may_send`` is asked when a message is about to leave: are these deliveries still ours?"""
        self._connector = connector
        self._hosts = hosts
        self._messages = messages
        self._proofs = proofs
        self._may_send = may_send

    async def carry(self, job: Job, session: Session | None) -> tuple[dict[UUID, Outcome], Session | None]:
        """An outcome for each delivery of ``job``, and the session if it can be used again.

        ``session``: an open one to a host of the same site; it is used if it offers what the job demands. Raises
        StoreUnwell, and Withdrawn when the job is not ours any more.
        """
        async with self._messages.hold(job.deliveries[0]) as content:
            course = _Course(job, content, list(job.deliveries))
            left = await self._along(course, session)
        return course.outcomes, left

    async def _along(self, course: _Course, session: Session | None) -> Session | None:
        loop = asyncio.get_running_loop()
        if session is not None:
            if await self._connector.fits(session, course.job):
                used = await self._converse(course, session, fresh=False)
                if not course.pending:
                    return used
            else:
                await session.quit()
        for host in self._hosts.in_order(course.job.route.hosts, loop.time())[:MAX_HOSTS]:
            opened = await self._connector.open(course.job, host, course.tries)
            if opened is None:
                continue
            used = await self._converse(course, opened, fresh=True)
            if not course.pending:
                return used
            if course.tries and course.tries[-1].stage is Stage.DOT:
                break
        course.give_up()
        return None

    async def _converse(self, course: _Course, session: Session, *, fresh: bool) -> Session | None:
        """Delivers to as many pending recipients as the session lets; writes down what became of them."""
        loop = asyncio.get_running_loop()
        while course.pending and session.usable:
            started = loop.time()
            envelope = _envelope(course.pending, self._proofs)
            try:
                results = await session.deliver(envelope, course.content, lambda: self._may_send(course.pending))
            except asyncio.CancelledError:
                if session.stage is not Stage.DOT:
                    raise
                reply = our_reply(451, "4.4.2", "stopped here before the host answered")
                course.tries.append(self._try(session, Stage.DOT, reply, started))
                course.give_up()
                raise Interrupted(course.outcomes) from None
            except SessionEnded as ended:
                session.abort()
                if fresh or ended.stage is not Stage.MAIL or not ended.reply.ours:
                    course.tries.append(self._try(session, ended.stage, ended.reply, started))
                # else: an idle connection that the host had already given up; a fresh one will tell.
                return None
            if not self._take(course, session, results, started):
                break
            fresh = True
        if not course.pending and session.usable:
            return session
        await session.quit()
        return None

    def _take(self, course: _Course, session: Session, results: Sequence[tuple[Stage, Reply]], started: float) -> bool:
        """Sorts the replies; True if recipients are left that a further transaction may reach."""
        tries = [self._try(session, stage, reply, started) for stage, reply in results]
        if all(tried.reply.code == 421 and tried.stage in (Stage.MAIL, Stage.RCPT, Stage.DATA) for tried in tries):
            course.tries.append(tries[0])  # the host is going away; the next one may take it
            return False
        delivered = any(tried.stage is Stage.DOT and tried.reply.positive for tried in tries)
        for delivery, tried in zip(list(course.pending), tries, strict=True):
            # RFC 5321 section 4.5.3.1.10: "too many recipients" means: these later, and later is now.
            too_many = tried.stage is Stage.RCPT and (
                tried.reply.code in (452, 552) or tried.reply.enhanced in ("4.5.3", "5.5.3")
            )
            if not (too_many and delivered and session.usable):
                course.settle(delivery, tried)
        return bool(course.pending)

    @staticmethod
    def _try(session: Session, stage: Stage, reply: Reply, started: float) -> Try:
        seconds = asyncio.get_running_loop().time() - started
        return Try(
            session.host, str(session.address), stage, reply, session.tls, seconds, reports=session.capabilities.dsn
        )


def _envelope(deliveries: Sequence[ClaimedDelivery], proofs: Proofs | None) -> Envelope:
    """The envelope that deliveries of one job share. An email without an ENVID of its sender's gets one of ours."""
    first = deliveries[0]
    options = first.options
    envid = str(options.get("envid") or "")
    if not envid and proofs is not None and first.kind == "send" and first.email_id is not None:
        envid = proofs.envelope_id(first.email_id, first.destination)
    return Envelope(
        mail_from=first.envelope_from,
        recipients=tuple(
            RecipientLine(d.recipient, notify_wishes(d.options), str(d.options.get("orcpt") or "")) for d in deliveries
        ),
        ret=str(options.get("ret") or ""),
        envid=envid,
        smtputf8=bool(options.get("smtputf8")),
        require_tls=bool(options.get("require_tls")),
    )
