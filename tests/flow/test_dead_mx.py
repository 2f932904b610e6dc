"""A recipient's MX that is down, or misbehaves: what the sender is shown, when it is tried again, and how it ends.

Each test has hosts of its own on loopback; the daemon's retry schedule is one of fractions of a second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest

from tests.support.house import House, OwnedInbox, eventually, furnished_house
from tests.support.postgres import TestServer
from tests.support.smtp_sink import SmtpSink

#: four more tries after the first.
GAPS_SECONDS = [0.4, 0.4, 0.4, 0.4]
#: the host of a test that has but one.
HOST = "127.0.0.2"

ENDED = ("delivered", "bounced", "expired")


@pytest.fixture(scope="module")
async def inbox(postgres: TestServer) -> AsyncIterator[OwnedInbox]:
    """A sender on a server that tries again soon."""
    url = await postgres.create()
    outbound = {
        "retry_schedule_seconds": GAPS_SECONDS,
        "retry_jitter": 0.0,
        "connect_timeout_seconds": 1.0,
        "command_timeout_seconds": 1.0,
        "dot_timeout_seconds": 1.0,
    }
    async with furnished_house(url, {"outbound": outbound}) as house:
        yield await (await house.domain("sender.example")).inbox("agent")
    await postgres.drop(url)


@pytest.fixture(scope="module")
def house(inbox: OwnedInbox) -> House:
    """Its server."""
    return inbox.house


def sink_of(house: House, host: str = HOST, **script: Any) -> SmtpSink:
    """A host at which the server finds an MX."""
    return SmtpSink(host=host, port=house.out_port, **script)


async def tried(inbox: OwnedInbox, sent: dict[str, Any]) -> list[dict[str, Any]]:
    """The attempts at a sent mail so far, as its events tell them."""
    events = (await inbox.house.daemon.get(f"/api/v1/emails/{sent['id']}/events", inbox.key))["events"]
    return [event["detail"] for event in events if event["type"] == "attempted"]


async def test_a_host_that_is_down_gets_the_mail_once_it_is_back(house: House, inbox: OwnedInbox) -> None:
    house.mx("down.test", HOST)
    sent = await inbox.send("bob@down.test")
    waiting = (await inbox.settled(sent["id"], "deferred"))["bob@down.test"]
    assert waiting["attempts"] >= 1
    assert waiting["next_attempt_at"] >= waiting["last_attempt_at"]  # told in whole seconds
    assert "refused" in waiting["last_reply"].lower()
    async with sink_of(house) as sink:
        done = (await inbox.settled(sent["id"], "delivered"))["bob@down.test"]
        assert sink.recipients() == ["bob@down.test"]
    assert (done["last_reply"], done["next_attempt_at"], done["mx"]) == ("250 2.0.0 taken", None, "mx1.down.test")


async def test_the_second_host_takes_it_when_the_first_is_down(house: House, inbox: OwnedInbox) -> None:
    house.mx("second.test", "127.0.0.9", HOST)
    async with sink_of(house) as sink:
        sent = await inbox.send("bob@second.test")
        done = (await inbox.settled(sent["id"], "delivered"))["bob@second.test"]
        assert (done["attempts"], done["mx"]) == (1, "mx2.second.test")
        assert sink.recipients() == ["bob@second.test"]


async def test_a_temporary_refusal_is_tried_again_and_shown(house: House, inbox: OwnedInbox) -> None:
    house.mx("busy.test", HOST)
    answers = iter(["451 4.7.1 greylisted", "452 4.2.2 mailbox full for now"])
    async with sink_of(house, replies={"RCPT": lambda _: next(answers, None)}) as sink:
        sent = await inbox.send("bob@busy.test")
        done = (await inbox.settled(sent["id"], "delivered"))["bob@busy.test"]
        assert sink.recipients() == ["bob@busy.test"]
    assert done["attempts"] == 3
    replies = [attempt["reply"] for attempt in await tried(inbox, sent)]
    assert replies == ["451 4.7.1 greylisted", "452 4.2.2 mailbox full for now", "250 2.0.0 taken"]


async def test_one_recipient_refused_does_not_stop_the_others(house: House, inbox: OwnedInbox) -> None:
    house.mx("mixed.test", HOST)

    def judge(argument: str) -> str | None:
        return "550 5.1.1 no such user" if "gone@" in argument else None

    async with sink_of(house, replies={"RCPT": judge}) as sink:
        sent = await inbox.send(["bob@mixed.test", "gone@mixed.test"], cc="eve@mixed.test")
        found = await inbox.settled(sent["id"], *ENDED)
        assert sorted(sink.recipients()) == ["bob@mixed.test", "eve@mixed.test"]
    assert {address: one["state"] for address, one in found.items()} == {
        "bob@mixed.test": "delivered",
        "eve@mixed.test": "delivered",
        "gone@mixed.test": "bounced",
    }
    assert found["gone@mixed.test"]["last_reply"] == "550 5.1.1 no such user"


@pytest.mark.parametrize("stage", ["CONNECT", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_host_that_hangs_up_gets_the_mail_once_when_it_stays(
    house: House, inbox: OwnedInbox, stage: str
) -> None:
    domain = f"hangs-up-{stage.lower()}.test"
    house.mx(domain, HOST)
    async with sink_of(house, hang_up=stage) as sink:
        sent = await inbox.send(f"bob@{domain}")
        waiting = (await inbox.settled(sent["id"], "deferred"))[f"bob@{domain}"]
        assert waiting["last_reply"].startswith("4")
        assert sink.messages == []
        sink.hang_up = ""
        await inbox.settled(sent["id"], "delivered")
        assert sink.recipients() == [f"bob@{domain}"]


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "DOT"])
async def test_a_host_that_says_nothing_is_left_after_its_time(house: House, inbox: OwnedInbox, stage: str) -> None:
    domain = f"silent-{stage.lower()}.test"
    house.mx(domain, HOST)
    async with sink_of(house, silent=stage) as sink:
        sent = await inbox.send(f"bob@{domain}")
        waiting = (await inbox.settled(sent["id"], "deferred"))[f"bob@{domain}"]
        assert waiting["last_reply"].startswith("451 4.4.2")
        sink.silent = ""
        await inbox.settled(sent["id"], "delivered")
        assert sink.recipients() == [f"bob@{domain}"]


async def test_a_duplicate_is_possible_only_after_the_dot_and_is_told(house: House, inbox: OwnedInbox) -> None:
    house.mx("twice.test", HOST)
    async with sink_of(house, hang_up="AFTER DOT") as sink:
        sent = await inbox.send("bob@twice.test")
        await inbox.settled(sent["id"], "deferred")
        sink.hang_up = ""
        await inbox.settled(sent["id"], "delivered")
        assert sink.recipients().count("bob@twice.test") >= 2
    first, *_ = await tried(inbox, sent)
    assert first["possible_duplicate"] is True


async def test_a_domain_that_takes_no_mail_and_one_that_is_not_there_bounce_at_once(
    house: House, inbox: OwnedInbox
) -> None:
    house.dns.set("null.test", "MX", ["0 ."])
    sent = await inbox.send(["bob@null.test", "bob@nowhere.test"])
    found = await inbox.settled(sent["id"], *ENDED)
    assert {one["state"] for one in found.values()} == {"bounced"}
    assert {one["attempts"] for one in found.values()} == {1}
    assert found["bob@null.test"]["last_reply"].startswith("556 5.1.10")  # RFC 7505 section 4
    assert found["bob@nowhere.test"]["last_reply"].startswith("550 5.4.4")


async def bounce_of(inbox: OwnedInbox, sent: dict[str, Any]) -> tuple[dict[str, Any], Message]:
    """The bounce of a sent mail as its sender's inbox lists it, and its source."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        listed = await inbox.emails("?limit=100")
        found[:] = [one for one in listed if one["direction"] == "inbound" and one["thread_id"] == sent["thread_id"]]
        return bool(found)

    await eventually(there, lambda: "no bounce")
    (bounce,) = found
    return bounce, message_from_bytes(await inbox.file(f"{bounce['id']}/raw"))


async def test_a_refusal_for_good_comes_home_as_a_readable_bounce_in_the_thread(
    house: House, inbox: OwnedInbox
) -> None:
    house.mx("refuses.test", HOST)
    async with sink_of(house, replies={"RCPT": "550 5.1.1 <bob> does not live here"}):
        sent = await inbox.send("bob@refuses.test", "Are you there?")
        await inbox.settled(sent["id"], "bounced")
    bounce, source = await bounce_of(inbox, sent)
    assert bounce["envelope_from_address"] == ""
    assert bounce["is_read"] is False
    assert bounce["in_reply_to"] == sent["message_id"]
    assert "bob@refuses.test" in bounce["body_text"]
    assert "550 5.1.1 <bob> does not live here" in bounce["body_text"]
    assert source["Auto-Submitted"] == "auto-replied"
    assert source.get_content_type() == "multipart/report"
    parts: Any = source.get_payload()
    _words, status, returned = parts  # RFC 3464 section 2
    fields = {name.lower(): value for block in status.get_payload() for name, value in block.items()}
    assert fields["final-recipient"] == "rfc822; bob@refuses.test"
    assert (fields["action"], fields["status"]) == ("failed", "5.1.1")
    assert fields["diagnostic-code"].startswith("smtp; 550 5.1.1")
    assert sent["message_id"] in returned.as_string()
    sent_again = await inbox.send("bob@refuses.test", "And now?")
    assert (await inbox.recipients(sent_again["id"]))["bob@refuses.test"]["state"] == "suppressed"


async def test_after_the_last_gap_the_mail_expires_and_bounces(house: House, inbox: OwnedInbox) -> None:
    house.mx("never.test", HOST)
    async with sink_of(house, replies={"DOT": "451 4.3.0 not today"}) as sink:
        sent = await inbox.send("bob@never.test", "Any day?")
        found = (await inbox.settled(sent["id"], "expired"))["bob@never.test"]
        assert sink.messages == []
    assert found["attempts"] == len(GAPS_SECONDS) + 1
    assert (found["last_reply"], found["next_attempt_at"]) == ("451 4.3.0 not today", None)
    bounce, source = await bounce_of(inbox, sent)
    assert "451 4.3.0 not today" in bounce["body_text"]
    assert "Action: failed" in source.as_string()
