"""A receiver on a real database with a scripted DNS, and a way to hand it mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import msgspec

from clawmail.base.secrets import Keyring
from clawmail.base.settings import Settings, Smtp
from clawmail.core.aside import Aside
from clawmail.core.directory import Directory
from clawmail.core.envelope import Envelope
from clawmail.core.forwards import Forwarder
from clawmail.core.our_names import OurNames
from clawmail.core.outbound.feedback import Feedback
from clawmail.core.receipts import Receipts
from clawmail.core.receive import Receiver
from clawmail.core.signing import Signers
from clawmail.core.writer import Writer
from clawmail.store.db import Database
from tests.support.zones import ScriptedResolver


def a_receiver(db: Database, zone: Any, policy: str = "record") -> Receiver:
    """As the composition root wires it; ``policy`` is ``smtp.dmarc_policy``."""
    settings = msgspec.structs.replace(Settings(), smtp=msgspec.structs.replace(Smtp(), dmarc_policy=policy))
    keyring = Keyring(b"k" * 32)
    directory = Directory(db, catch_all_local_part="catchall", quota_bytes=1 << 20)
    signers = Signers(directory, keyring)
    names = OurNames(directory, hostname="mx.example.test", mx_label="mx")
    forwarder = Forwarder(
        *(directory, signers, names),
        hostname="mx.example.test",
        srs_key=b"s",
        rewrite_from="when-needed",
        aside=Aside(),
    )
    writer = Writer(db)
    receipts = Receipts(writer, signers, hostname="mx.example.test")
    feedback = Feedback(db, keyring)
    return Receiver(settings, db, directory, ScriptedResolver(zone), writer, forwarder, feedback, receipts, Aside())


async def hand_over(
    receiver: Receiver,
    raw: bytes,
    *,
    mail_from: str = "x@evil.test",
    helo: str = "evil.test",
    to: str = "agent@example.test",
    also: Sequence[str] = (),
    **more: Any,
) -> None:
    """One message from 198.51.100.7; ``more`` are wishes of the recipient ``to``."""
    recipient = replace(await receiver.judge_recipient(to), **more)
    others = [await receiver.judge_recipient(address) for address in also]
    await receiver.receive(
        Envelope(
            raw=raw,
            mail_from=mail_from,
            recipients=(recipient, *others),
            client_ip=ip_address("198.51.100.7"),
            helo=helo,
            protocol="ESMTP",
            received_at=datetime.now(UTC),
            session_id="s",
            envid="ticket 7",
        )
    )
