"""Mail from one inbox of this installation to another: handed over in the house, not sent out of the door and back.

It takes the same way as mail from outside, from the recipient's judgement to the commit, so quotas, rules, threads and
authentication are no different; only the connection is left out. So it works before any DNS record is published, behind
a firewall, and on a machine that cannot reach its own public address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from clawmail.base.errors import ClawmailError, StoreFull, StoreUnwell
from clawmail.core.envelope import Envelope, Recipient, Refused
from clawmail.core.outbound.messages import assembled
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery
from clawmail.protocol.dns import Address
from clawmail.protocol.replies import Reply, our_reply
from clawmail.store import deliveries
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
        stage = Stage.RCPT
        try:
            recipient = await self._receiver.judge_recipient(delivery.recipient)
            stage = Stage.DOT
            queue_id = await self._receiver.receive(await self._envelope(delivery, recipient))
            reply = Reply(250, "2.0.0", (f"queued as {queue_id}",))
        except Refused as refused:
            reply = Reply(refused.code, refused.enhanced, (refused.text,))
        except StoreFull:
            reply = our_reply(452, "4.3.1", "the store is full")
        except StoreUnwell as unwell:
            reply = our_reply(451, "4.3.0", unwell.message)
        except ClawmailError as error:
            reply = our_reply(451, "4.3.0", error.message)
        seconds = asyncio.get_running_loop().time() - started
        return Outcome((Try(self._hostname, str(self._address), stage, reply, seconds=seconds, house=True),))

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
        )
