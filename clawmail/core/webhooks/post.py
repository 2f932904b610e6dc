"""One POST to an endpoint: the body that its dialect writes, signed, and what came of it.

Redirects are not followed and private addresses not dialled (``net.fetch``): an endpoint's address is a tenant's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from clawmail.base.secrets import Keyring
from clawmail.model.events import Event
from clawmail.model.mailbox import EmailView
from clawmail.model.webhooks import WebhookAttempt
from clawmail.net.fetch import Fetcher
from clawmail.protocol.retry_after import retry_after_seconds
from clawmail.protocol.standard_webhooks import headers

#: writes the body that tells of an event, and of the email that came, where one did.
Rendering = Callable[[Event, EmailView | None], bytes]
#: characters of a problem that are kept.
MAX_PROBLEM = 300
#: RFC 6585 section 4, RFC 9110 section 15.6.4: answers that may say when to come again.
BUSY = (429, 503)


class Poster:
    """Tells endpoints of events."""

    def __init__(self, fetcher: Fetcher, keyring: Keyring, render: Rendering, *, timeout_seconds: float) -> None:
        self._fetcher = fetcher
        self._keyring = keyring
        self._render = render
        self._timeout = timeout_seconds
        self._one_at_a_time = asyncio.Lock()

    async def post(
        self,
        webhook_id: UUID,
        url: str,
        sealed: tuple[bytes, ...],
        event: Event,
        view: EmailView | None,
        now: datetime,
    ) -> WebhookAttempt:
        """One attempt. ``sealed``: the secrets that sign. Never raises for what the other side does."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        try:
            secrets = [self._keyring.open(one, bound_to=webhook_id.bytes) for one in sealed]
        except ValueError as error:
            return WebhookAttempt(None, f"its secret cannot be opened: {error}", 0.0)
        # A claim brings a hundred at once: written in one pass of the loop they would keep everybody else waiting.
        async with self._one_at_a_time:
            body = self._render(event, view)
            fields = {"Content-Type": "application/json"} | headers(secrets, str(event.id), now, body)
            await asyncio.sleep(0)
        found = await self._fetcher.post(url, body, fields, timeout=self._timeout)
        seconds = clock.time() - began
        if found.status == 0:
            return WebhookAttempt(None, _printable(found.problem), seconds)
        taken = 200 <= found.status < 300
        asked = retry_after_seconds(found.retry_after, now) if found.status in BUSY else 0.0
        return WebhookAttempt(found.status, "" if taken else f"it answered {found.status}", seconds, asked)

    def refusal(self, url: str) -> str:
        """Why nothing is posted to ``url``, as far as its text tells; "" if nothing speaks against it."""
        return self._fetcher.refusal(url)

    async def close(self) -> None:
        """Closes what is open."""
        await self._fetcher.close()


def _printable(problem: str) -> str:
    """A problem as it is kept, in one line: it may quote the other side, whose octets no database has to take."""
    return " ".join("".join(c if c.isprintable() else " " for c in problem).split())[:MAX_PROBLEM]
