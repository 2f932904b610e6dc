"""Owners are told over HTTP: mail that came in and what became of mail that went out, on the real daemon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from tests.support.house import House, OwnedDomain, OwnedInbox, eventually, furnished_house
from tests.support.webhook_sink import WebhookSink

RAW = (
    b"From: Ann <ann@elsewhere.test>\r\nTo: agent@house.example\r\nSubject: %s\r\n"
    b"Message-ID: <%s@elsewhere.test>\r\n\r\nThe text stays where it is.\r\n"
)
#: endpoints on loopback; retries that a test can wait for.
WEBHOOKS: dict[str, dict[str, Any]] = {
    "webhooks": {
        "allow_private": True,
        "retry_schedule_seconds": [0.1, 0.1, 0.1, 0.1, 0.1],
        "poll_seconds": 0.2,
        "timeout_seconds": 1.0,
        "lease_seconds": 3.0,
    }
}


def mail(subject: str) -> bytes:
    """A mail about ``subject``."""
    return RAW % (subject.encode(), subject.encode())


async def webhook(house: House, key: str, url: str, *events: str, **more: Any) -> dict[str, Any]:
    """A webhook with its secret."""
    return dict(await house.daemon.post("/api/v1/webhooks", key, {"url": url, "events": events, **more}))


async def furnish(house: House) -> tuple[OwnedDomain, OwnedInbox]:
    """A domain and an inbox."""
    domain = await house.domain("house.example")
    return domain, await domain.inbox("agent")


async def call(house: House, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a call."""
    async with house.daemon.request(method, path, key=key, json_body=body) as response:
        return response.status, await response.json() if response.status != 204 else None


async def settled(house: House, key: str, hook: dict[str, Any], state: str, count: int = 1) -> list[dict[str, Any]]:
    """The deliveries of a webhook, once so many are in that state."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        listed = await house.daemon.get(f"/api/v1/webhooks/{hook['id']}/deliveries?limit=100", key)
        found[:] = [one for one in listed["deliveries"] if one["state"] == state]
        return len(found) >= count

    await eventually(there, lambda: found)
    return found


async def test_mail_that_came_in_is_told_with_a_signature(database_url: str) -> None:
    async with WebhookSink() as sink, furnished_house(database_url, WEBHOOKS) as house:
        domain, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("mine"), "received")
        of_domain = await webhook(house, domain.token, sink.url("all"))
        other = await domain.inbox("other")
        await house.deliver(mail("hello"), inbox.address)
        (told,) = await sink.reached("mine", 1)
        (event,) = await domain.events("received")
        (email,) = await inbox.emails()
        assert told.id == event["id"]
        assert told.headers["content-type"] == "application/json"
        assert abs(int(told.headers["webhook-timestamp"]) - time.time()) < 60
        assert told.signed_with(hook["secret"]) and not told.signed_with(of_domain["secret"])
        assert {name: told.json[name] for name in event} == event
        shown = {name: value for name, value in email.items() if name not in ("body_text", "body_html")}
        assert told.json["email"] == shown | {"path": f"/api/v1/emails/{email['id']}"}
        assert b"stays where it is" not in told.body
        (delivery,) = await settled(house, inbox.key, hook, "delivered")
        assert (delivery["id"], delivery["attempts"], delivery["last_status"]) == (event["id"], 1, 200)
        # The domain's hears of everybody and of everything; another inbox's mail is none of the inbox's.
        await house.deliver(mail("for another"), other.address)
        everything = await sink.reached("all", 2)
        assert {one.json["email"]["subject"] for one in everything} == {"hello", "for another"}
        assert len(sink.at("mine")) == 1


async def test_mail_that_went_out_is_told(database_url: str) -> None:
    async with WebhookSink() as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        await webhook(house, inbox.key, sink.url("all"))
        sent = await inbox.send("nobody@house.example")  # within the house: to the catch-all
        await sink.until(lambda: [one for one in sink.at("all") if one.json["type"] == "delivered"])
        kinds = {one.json["type"] for one in sink.at("all") if one.json["email_id"] == sent["id"]}
        assert kinds >= {"accepted", "delivered"}
        assert all(one.json["email"] is None for one in sink.at("all"))


async def test_what_is_not_taken_is_told_again(database_url: str) -> None:
    async with WebhookSink({"shaky": [500, 500, 200]}) as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("shaky"), "received")
        await house.deliver(mail("again"), inbox.address)
        told = await sink.reached("shaky", 3)
        assert len({one.id for one in told}) == 1
        assert all(one.signed_with(hook["secret"]) for one in told)
        (delivery,) = await settled(house, inbox.key, hook, "delivered")
        assert (delivery["attempts"], delivery["last_status"], delivery["next_attempt_at"]) == (3, 200, None)
        shown = await house.daemon.get(f"/api/v1/webhooks/{hook['id']}", inbox.key)
        assert (shown["failures"], shown["failing_since"]) == (0, None)


async def test_after_the_last_try_it_is_given_up_and_can_be_asked_for(database_url: str) -> None:
    settings = {"webhooks": {**WEBHOOKS["webhooks"], "retry_schedule_seconds": [0.05]}}
    async with WebhookSink({"dead": [500, 500, 200]}) as sink, furnished_house(database_url, settings) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("dead"), "received")
        await house.deliver(mail("given up"), inbox.address)
        (delivery,) = await settled(house, inbox.key, hook, "failed")
        assert (delivery["attempts"], delivery["last_error"]) == (2, "it answered 500")
        path = f"/api/v1/webhooks/{hook['id']}/deliveries/{delivery['id']}/retry"
        status, retried = await call(house, "POST", path, inbox.key)
        assert (status, retried["state"], retried["attempts"]) == (200, "waiting", 0)
        await settled(house, inbox.key, hook, "delivered")
        assert len(sink.at("dead")) == 3


async def test_a_dead_endpoint_delays_nobody(database_url: str) -> None:
    async with WebhookSink({"dead": [0]}) as sink, furnished_house(database_url, WEBHOOKS) as house:
        domain, inbox = await furnish(house)
        other = await domain.inbox("other")
        dead = await webhook(house, inbox.key, sink.url("dead"), "received")
        live = await webhook(house, other.key, sink.url("live"), "received")
        for number in range(30):
            await house.deliver(mail(f"flood{number}"), inbox.address)
        await sink.reached("dead", 1)
        await house.deliver(mail("live"), other.address)
        await settled(house, other.key, live, "delivered")
        # Thirty events wait for the dead one, and it is not tried thirty times: it rests.
        await eventually(lambda: _failing(house, inbox.key, dead))
        assert len(sink.at("dead")) <= 10
        assert sink.most_at_once <= 5


async def _failing(house: House, key: str, hook: dict[str, Any]) -> bool:
    return int((await house.daemon.get(f"/api/v1/webhooks/{hook['id']}", key))["failures"]) >= 3


async def test_no_more_than_four_at_once(database_url: str) -> None:
    async with WebhookSink(delay=0.2) as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("slow"), "received")
        await asyncio.gather(*(house.deliver(mail(f"m{number}"), inbox.address) for number in range(12)))
        await settled(house, inbox.key, hook, "delivered", 12)
        assert len({one.id for one in sink.told}) == 12
        assert 1 < sink.most_at_once <= 4


async def test_gone_ends_it_and_its_owner_begins_again(database_url: str) -> None:
    async with WebhookSink({"gone": [410, 200]}) as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("gone"), "received")
        path = f"/api/v1/webhooks/{hook['id']}"
        await house.deliver(mail("one"), inbox.address)
        await sink.reached("gone", 1)

        async def disabled() -> bool:
            return not (await house.daemon.get(path, inbox.key))["is_active"]

        await eventually(disabled)
        assert (await house.daemon.get(path, inbox.key))["disabled_reason"] == "it answered 410 Gone"
        await house.deliver(mail("not told"), inbox.address)
        status, changed = await call(house, "PATCH", path, inbox.key, {"is_active": True})
        assert (status, changed["is_active"], changed["disabled_reason"]) == (200, True, None)
        # What waited when it was switched off is told; what happened while it was off is not.
        (delivered,) = await settled(house, inbox.key, hook, "delivered")
        assert len({one.id for one in sink.at("gone")}) == 1
        assert delivered["attempts"] == 2


async def test_a_redirect_is_not_followed(database_url: str) -> None:
    async with WebhookSink({"moved": [307]}) as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("moved"), "received")
        await house.deliver(mail("moved"), inbox.address)
        await sink.reached("moved", 2)
        assert sink.at("elsewhere") == []
        (delivery,) = await settled(house, inbox.key, hook, "waiting")
        assert delivery["last_error"] == "it answered 307"


async def test_private_addresses_are_refused_unless_allowed(database_url: str) -> None:
    async with WebhookSink() as sink, furnished_house(database_url) as house:
        _, inbox = await furnish(house)
        house.dns.set("inside.example", "A", ["127.0.0.1"])
        port = sink.url("x").rpartition(":")[2]
        for url in (sink.url("x"), "https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.1/", "http://a.example/"):
            status, answer = await call(house, "POST", "/api/v1/webhooks", inbox.key, {"url": url})
            assert status == 400 and "url" in answer["error"], url
        # A name says where it leads only when it is dialled.
        hook = await webhook(house, inbox.key, f"https://inside.example:{port}", "received")
        status, tested = await call(house, "POST", f"/api/v1/webhooks/{hook['id']}/test", inbox.key)
        assert (status, tested["ok"], tested["status"]) == (200, False, None)
        assert tested["error"] == "inside.example has no public address"
        assert sink.told == []


async def test_what_was_removed_or_revoked_is_told_nothing_more(database_url: str) -> None:
    async with (
        WebhookSink({"removed": [500], "revoked": [500]}) as sink,
        furnished_house(database_url, WEBHOOKS) as house,
    ):
        domain, inbox = await furnish(house)
        removed = await webhook(house, domain.token, sink.url("removed"), "received", inbox=inbox.address)
        revoked = await webhook(house, inbox.key, sink.url("revoked"), "received")
        live = await webhook(house, domain.token, sink.url("live"), "received")
        await house.deliver(mail("first"), inbox.address)
        await sink.reached("removed", 1)
        await sink.reached("revoked", 1)
        assert (await call(house, "DELETE", f"/api/v1/webhooks/{removed['id']}", domain.token))[0] == 204
        (key,) = (await house.daemon.get("/api/v1/api-keys", domain.token))["api_keys"]
        assert (await call(house, "DELETE", f"/api/v1/api-keys/{key['id']}", domain.token))[0] == 204
        shown = await house.daemon.get(f"/api/v1/webhooks/{revoked['id']}", domain.token)
        assert "revoked" in shown["disabled_reason"]
        await asyncio.sleep(1.5)  # an attempt that was under way ends
        before = len(sink.at("removed")), len(sink.at("revoked"))
        await house.deliver(mail("second"), inbox.address)
        await settled(house, domain.token, live, "delivered", 2)
        assert (len(sink.at("removed")), len(sink.at("revoked"))) == before
        assert (await call(house, "GET", f"/api/v1/webhooks/{removed['id']}", domain.token))[0] == 404


async def test_a_rotated_secret_signs_beside_the_old_one(database_url: str) -> None:
    async with WebhookSink() as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("mine"))
        path = f"/api/v1/webhooks/{hook['id']}"
        status, rotated = await call(house, "POST", f"{path}/rotate", inbox.key)
        assert status == 201 and rotated["secret"] != hook["secret"]
        status, tested = await call(house, "POST", f"{path}/test", inbox.key)
        assert (status, tested["ok"], tested["status"], tested["error"]) == (200, True, 200, None)
        (told,) = sink.at("mine")
        assert (told.json["type"], told.json["email"]) == ("test", None)
        assert told.signed_with(hook["secret"]) and told.signed_with(rotated["secret"])
        listed = await house.daemon.get("/api/v1/webhooks", inbox.key)
        assert "secret" not in listed["webhooks"][0]


async def test_secrets_are_sealed_and_never_logged(database_url: str) -> None:
    async with WebhookSink({"mine": [500]}) as sink, furnished_house(database_url, WEBHOOKS) as house:
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("mine"))
        await house.deliver(mail("hello"), inbox.address)
        await sink.reached("mine", 2)
        conn = await asyncpg.connect(database_url)
        rows = await conn.fetch("SELECT w::text FROM webhooks w")
        await conn.close()
        words = hook["secret"].removeprefix("whsec_")
        assert words not in str(rows) and words not in str(house.daemon.log)
