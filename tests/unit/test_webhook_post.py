"""What is posted to an endpoint, and what is kept of its answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from clawmail.api.native.webhook_shapes import MAX_TOLD_OCTETS, told
from clawmail.base.ids import new_id
from clawmail.base.secrets import Keyring
from clawmail.core.webhooks.post import MAX_PROBLEM, Poster
from clawmail.model.events import Event, EventType
from clawmail.model.mailbox import EmailView
from clawmail.net.fetch import Fetched, Fetcher
from tests.support.zones import ScriptedResolver

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = Event(new_id(), new_id(), new_id(), EventType.RECEIVED, NOW, email_id=new_id())
HOOK = new_id()
KEYRING = Keyring(bytes(32))
SEALED = (KEYRING.seal(b"s" * 32, bound_to=HOOK.bytes),)


class Scripted(Fetcher):
    """Answers always the same."""

    def __init__(self, answer: Fetched) -> None:
        super().__init__(ScriptedResolver({}))
        self.answer = answer

    async def post(self, *_: object, **__: object) -> Fetched:
        await asyncio.sleep(0.01)
        return self.answer


async def test_what_the_other_side_says_is_kept_as_one_line_of_text() -> None:
    """No database takes a NUL or half a surrogate pair: a result that cannot be written would hold up all others."""
    said = "bad\x00 line:\n\n  \udcff\u202e x" + "y" * 1000
    poster = Poster(Scripted(Fetched(0, problem=said)), KEYRING, told, timeout_seconds=1)
    attempt = await poster.post(HOOK, "https://a.test", SEALED, EVENT, None, NOW)
    assert attempt.problem.startswith("bad line: xyyy") and len(attempt.problem) == MAX_PROBLEM


async def test_only_who_is_busy_says_when_to_come_again() -> None:
    asked = {}
    for status in (200, 301, 429, 500, 503):
        poster = Poster(Scripted(Fetched(status, retry_after="90")), KEYRING, told, timeout_seconds=1)
        asked[status] = (await poster.post(HOOK, "https://a.test", SEALED, EVENT, None, NOW)).retry_after_seconds
    assert asked == {200: 0.0, 301: 0.0, 429: 90.0, 500: 0.0, 503: 90.0}


async def test_a_hundred_bodies_are_written_in_as_many_passes_of_the_loop() -> None:
    passes, seen = 0, []

    def render(event: Event, view: EmailView | None) -> bytes:
        seen.append(passes)
        return b"{}"

    async def others() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    poster = Poster(Scripted(Fetched(200)), KEYRING, render, timeout_seconds=1)
    beside = asyncio.create_task(others())
    await asyncio.gather(*(poster.post(HOOK, "https://a.test", SEALED, EVENT, None, NOW) for _ in range(100)))
    beside.cancel()
    assert len(seen) == len(set(seen)) == 100


def test_a_body_is_bounded() -> None:
    def body(recipients: int) -> bytes:
        facts: dict[str, Any] = dict.fromkeys(EmailView._fields) | {
            "id": EVENT.email_id, "thread_id": new_id(), "direction": "inbound", "message_id": "m@x.test",
            "from_address": "a@x.test", "envelope_from_address": "a@x.test", "sender_warning": False,
            "authentication": "{}", "is_read": False, "is_archived": False, "received_at": NOW, "created_at": NOW,
            "weight": 0, "subject": "s", "to_addresses": [f"{'x' * 60}{n}@y.test" for n in range(recipients)],
            "cc_addresses": [], "attachments": "[]",
        }  # fmt: skip
        return told(EVENT, EmailView(**facts))

    small, large = body(100), body(1000)
    assert len(msgspec.json.decode(small)["email"]["to_addresses"]) == 100
    assert len(large) < len(small) < MAX_TOLD_OCTETS
    assert msgspec.json.decode(large)["email"] is None
    assert msgspec.json.decode(large)["email_id"] == str(EVENT.email_id)
