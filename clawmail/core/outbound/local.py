"""Mail from one inbox of this installation to another: handed over in the house, not sent out of the door and back.

It takes the same way as mail from outside, from the recipient's judgement to the commit, so quotas, rules, threads and
authentication are no different; only the connection is left out. So it works before any DNS record is published, behind
a firewall, and on a machine that cannot reach its own public address.

The copy has the delivery's id. So it is filed once, although it is written down as delivered in another transaction:
who takes over the delivery of a process that died in between finds it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from clawmail.base.errors import ClawmailError, Conflict, StoreFull, StoreUnwell
from clawmail.core.envelope import Envelope, Recipient, Refused
from clawmail.core.outbound.messages import assembled
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery
from clawmail.protocol.dns import Address
from clawmail.protocol.replies import Reply, our_reply
from clawmail.store import deliveries, postings
from clawmail.store.db import Database

#: word of the Received field for mail that came over no network.
PROTOCOL = "local"


class Receives(Protocol):
    """``core.receive.Receiver``."""

    async def judge_recipient(self, address: str) -> Recipient:
        """Raises Refused."""
        ...

    async def receive(self, envelope: Envelope) -> str:
        """Raises Refused."""
        ...


class LocalCarrier:
    """Carries deliveries whose destination is a domain of this installation."""

    def __init__(
        self,
        db: Database,
        receiver: Receives,
        is_ours: Callable[[str], Awaitable[bool]],
        *,
        hostname: str,
        address: Address,
        clock: Callable[[], datetime],
    ) -> None:
        """``address``: our own public one, from which SPF has to allow the sender as it would anywhere else."""
        self._db = db
        self._receiver = receiver
        self._is_ours = is_ours
        self._hostname = hostname
        self._address = address
        self._clock = clock

    async def takes(self, destination: str) -> bool:
        """Whether mail for ``destination`` stays in the house."""
        return await self._is_ours(destination)

    async def carry(self, those: Sequence[ClaimedDelivery]) -> dict[UUID, Outcome]:
        """Hands ``those`` over one by one; an outcome for each."""
        return {delivery.id: await self._hand_over(delivery) for delivery in those}

    async def _hand_over(self, delivery: ClaimedDelivery) -> Outcome:
        started = asyncio.get_running_loop().time()
        stage, filed = Stage.DOT, Reply(250, "2.0.0", (f"queued as {delivery.id}",))
        try:
            # Under its first claim it cannot have been filed.
            if delivery.lease_fence == 1 or not await self._is_filed(delivery):
                stage = Stage.RCPT
                recipient = await self._receiver.judge_recipient(delivery.recipient)
                stage = Stage.DOT
                await self._receiver.receive(await self._envelope(delivery, recipient))
            reply = filed
        except Refused as refused:
            reply = Reply(refused.code, refused.enhanced, (refused.text,))
        except Conflict:
            reply = filed  # just now, by the one whose claim was taken over
        except StoreFull:
            reply = our_reply(452, "4.3.1", "the store is full")
        except StoreUnwell as unwell:
            reply = our_reply(451, "4.3.0", unwell.message)
        except ClawmailError as error:
            reply = our_reply(451, "4.3.0", error.message)
        seconds = asyncio.get_running_loop().time() - started
        return Outcome((Try(self._hostname, str(self._address), stage, reply, seconds=seconds, house=True),))

    async def _is_filed(self, delivery: ClaimedDelivery) -> bool:
        async with self._db.connection() as conn:
            return await postings.is_filed(conn, delivery.id)

    async def _envelope(self, delivery: ClaimedDelivery, recipient: Recipient) -> Envelope:
        raw = delivery.raw
        if raw is None:
            async with self._db.connection() as conn:
                raw = await deliveries.body(conn, delivery.message_id)
        return Envelope(
            raw=assembled(delivery, raw),
            mail_from=delivery.envelope_from,
            recipients=(recipient,),
            client_ip=self._address,
            helo=self._hostname,
            protocol=PROTOCOL,
            received_at=self._clock(),
            session_id=str(delivery.id),
            client_name=self._hostname,
            smtputf8=bool(delivery.options.get("smtputf8")),
            message_id=delivery.id,
        )
