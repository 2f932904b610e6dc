"""What one address may take in a minute, at the doors of several processes together."""

from __future__ import annotations

import asyncio
import smtplib
import time
from typing import Any

from tests.support.daemon import Daemon, running_daemon

#: messages a minute.
EACH = 5


def mail_from(daemon: Daemon) -> int:
    """The code that a sender is answered who begins a message."""
    with smtplib.SMTP(*daemon.smtp, timeout=20) as client:
        client.ehlo("client.test")
        return client.mail("a@sender.test")[0]


async def test_the_pace_of_a_stranger_is_that_of_the_house(database_url: str) -> None:
    """At whichever door he begins his messages, and at one that was opened since."""
    made: dict[str, dict[str, Any]] = {
        "server": {"app_domain": "shared.example", "public_ip": "127.0.0.1", "secret_key": "5a" * 32},
        "database": {"url": database_url},
        "smtp": {"listen": ["127.0.0.1:0"], "messages_per_minute": EACH, "tarpit_seconds": 0.0},
        "api": {"listen": ["127.0.0.1:0"]},
    }
    begun = time.monotonic()
    async with running_daemon(made) as one:
        async with running_daemon(made) as two:
            codes = [await asyncio.to_thread(mail_from, daemon) for _ in range(EACH) for daemon in (one, two)]
        async with running_daemon(made) as three:
            codes.append(await asyncio.to_thread(mail_from, three))
            flowed_back = (time.monotonic() - begun) * EACH / 60
    assert set(codes) == {250, 450}
    assert EACH <= codes.count(250) <= EACH + flowed_back
