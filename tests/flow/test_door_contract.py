"""The documented way in, against the real daemon: who is written to, what is found out, what is kept, which thread."""

from __future__ import annotations

import smtplib
from collections.abc import AsyncIterator
from email import message_from_bytes

import pytest

from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign
from tests.support.house import House, OwnedDomain, OwnedInbox, furnished_house
from tests.support.postgres import TestServer

HOSTNAME = "mx.house.example"
_KEY, _RECORD = generate_rsa_key()


@pytest.fixture(scope="module")
async def domain(postgres: TestServer) -> AsyncIterator[OwnedDomain]:
    """A domain on a server of its own."""
    url = await postgres.create()
    async with furnished_house(url) as house:
        yield await house.domain("house.example")
    await postgres.drop(url)


@pytest.fixture(scope="module")
def house(domain: OwnedDomain) -> House:
    """The server."""
    return domain.house


@pytest.fixture(scope="module")
async def inbox(domain: OwnedDomain) -> OwnedInbox:
    """An inbox of it."""
    return await domain.inbox("agent")


def letter(subject: str, *fields: str, author: str = "ann@author.test") -> bytes:
    """A small mail."""
    return "\r\n".join(
        [f"From: {author}", "To: agent@house.example", f"Subject: {subject}", *fields, "", "Hi", ""]
    ).encode()


async def test_mail_is_taken_for_verified_domains_only(house: House, domain: OwnedDomain) -> None:
    await house.daemon.post("/api/v1/domains/register", "", {"domain": "pending.example"})
    assert (await house.deliver(letter("x"), "agent@house.example"))[0] == 250
    assert (await house.deliver(letter("x"), "Agent@HOUSE.example"))[0] == 250
    code, said = await house.deliver(letter("x"), "agent@pending.example")
    assert (code, said[:5]) == (550, b"5.1.2")
    code, said = await house.deliver(letter("x"), "agent@elsewhere.test")
    assert (code, said[:5]) == (550, b"5.7.1")
    with smtplib.SMTP(*house.daemon.smtp, timeout=20) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == str(25 * 1024 * 1024)


async def test_a_domain_that_is_removed_takes_no_more_mail(house: House) -> None:
    gone = await house.domain("gone.example")
    assert (await house.deliver(letter("x"), "agent@gone.example"))[0] == 250
    async with house.daemon.request("DELETE", "/api/v1/domains/gone.example", key=gone.token) as response:
        assert response.status == 204
    assert (await house.deliver(letter("x"), "agent@gone.example"))[0] == 550


async def test_unknown_names_lead_to_the_catch_all_and_make_no_inbox(house: House) -> None:
    domain = await house.domain("catch.example")
    assert (await house.deliver(letter("for nobody"), "nobody@catch.example"))[0] == 250
    (inbox,) = (await house.daemon.get("/api/v1/inboxes", domain.token))["inboxes"]
    assert (inbox["address"], inbox["is_catch_all"], inbox["unread_count"]) == ("catchall@catch.example", True, "1")
    (email,) = await (await domain.inbox("catchall")).emails()
    assert email["subject"] == "for nobody"


async def test_a_full_mailbox_takes_no_more_until_there_is_room(postgres: TestServer) -> None:
    url = await postgres.create()
    async with furnished_house(url, {"inbox": {"storage_quota_bytes": 3_000}}) as house:
        domain = await house.domain("small.example")
        inbox = await domain.inbox("agent")
        raw = letter("x" * 1_800)
        assert (await house.deliver(raw, inbox.address))[0] == 250
        code, said = await house.deliver(raw, inbox.address)
        assert (code, said[:5]) == (552, b"5.2.2")
        refused = await house.daemon.post(
            "/api/v1/emails/send", inbox.key, {"to": "a@b.test", "subject": "x", "text": "y" * 2_000}, status=400
        )
        assert refused["error"] == "Mailbox storage quota exceeded"
        assert await domain.usage(inbox.address) == (len(raw), 1)
        (email,) = await inbox.emails()
        async with house.daemon.request("DELETE", f"/api/v1/emails/{email['id']}", key=inbox.key) as response:
            assert response.status == 204
        assert await domain.usage(inbox.address) == (0, 0)
        assert (await house.deliver(raw, inbox.address))[0] == 250
    await postgres.drop(url)


async def test_another_envelope_sender_is_warned_of(house: House, inbox: OwnedInbox) -> None:
    assert (await house.deliver(letter("warn"), inbox.address, sender="bounce@mailer.test"))[0] == 250
    email = await inbox.arrived("warn")
    assert (email["from_address"], email["envelope_from_address"]) == ("ann@author.test", "bounce@mailer.test")
    assert email["sender_warning"] == (
        "Header From (ann@author.test) does not match SMTP envelope sender (bounce@mailer.test)."
    )
    assert (await house.deliver(letter("same"), inbox.address, sender="ann@author.test"))[0] == 250
    assert (await inbox.arrived("same"))["sender_warning"] is None


async def test_what_is_found_out_about_a_good_sender(house: House, inbox: OwnedInbox) -> None:
    house.dns.set("good.test", "TXT", ["v=spf1 ip4:127.0.0.1 -all"])
    house.dns.set("sel._domainkey.good.test", "TXT", [_RECORD])
    house.dns.set("_dmarc.good.test", "TXT", ["v=DMARC1; p=reject"])
    raw = letter("good", author="Ann <ann@good.test>")
    signed = sign(raw, [load_signing_key("good.test", "sel", _KEY)], now=1_700_000_000) + raw
    assert (await house.deliver(signed, inbox.address, sender="ann@good.test"))[0] == 250
    assert (await inbox.arrived("good"))["authentication_results"] == {
        "spf": {
            "result": "pass",
            "domain": "good.test",
            "comment": f"{HOSTNAME}: domain of ann@good.test designates 127.0.0.1 as permitted sender",
        },
        "dkim": {
            "result": "pass",
            "signatures": [
                {
                    "result": "pass",
                    "signing_domain": "good.test",
                    "selector": "sel",
                    "algorithm": "rsa-sha256",
                    "aligned": True,
                }
            ],
        },
        "dmarc": {
            "result": "pass",
            "domain": "good.test",
            "policy": "reject",
            "comment": "p=REJECT",
            "header_from": "good.test",
            "alignment": {
                "spf": {"result": "good.test", "strict": False},
                "dkim": {"result": "good.test", "strict": False, "underSized": False},
            },
        },
        "disposition": "none",
    }


async def test_what_is_found_out_about_a_liar(house: House, inbox: OwnedInbox) -> None:
    house.dns.set("robbed.test", "TXT", ["v=spf1 -all"])
    house.dns.set("_dmarc.robbed.test", "TXT", ["v=DMARC1; p=reject"])
    assert (await house.deliver(letter("lie", author="a@robbed.test"), inbox.address, sender="a@robbed.test"))[0] == 250
    results = (await inbox.arrived("lie"))["authentication_results"]
    assert (results["spf"]["result"], results["dkim"]["result"], results["dmarc"]["result"]) == ("fail", "none", "fail")
    assert results["dmarc"]["alignment"]["spf"]["result"] is False
    assert results["dmarc"]["alignment"]["dkim"]["result"] is False


async def test_the_source_has_our_trace_and_no_forged_results(house: House, inbox: OwnedInbox) -> None:
    forged = f"Authentication-Results: {HOSTNAME.upper()}; dmarc=pass header.from=bank.test"
    foreign = "Authentication-Results: mx.foreign.test; spf=pass"
    raw = letter("trace", forged, foreign)
    assert (await house.deliver(raw, inbox.address, sender="ann@author.test"))[0] == 250
    email = await inbox.arrived("trace")
    source = await inbox.file(f"{email['id']}/raw")
    assert source.endswith(raw.replace(forged.encode() + b"\r\n", b""))
    fields = message_from_bytes(source)
    assert fields.keys()[:3] == ["Return-Path", "Received", "Authentication-Results"]
    assert fields["Return-Path"] == "<ann@author.test>"
    assert fields["Received"].startswith("from elsewhere.test (unknown [127.0.0.1])")
    assert f"by {HOSTNAME} (Clawmail) with ESMTP" in " ".join(fields["Received"].split())
    ours, theirs = fields.get_all("Authentication-Results") or []
    assert ours.startswith(f"{HOSTNAME};")
    assert theirs == "mx.foreign.test; spf=pass"


async def test_answers_join_their_thread_inside_their_inbox_only(house: House, domain: OwnedDomain) -> None:
    mine, stranger = await domain.inbox("mine"), await (await house.domain("other.example")).inbox("theirs")
    ids = {name: f"<{name}@author.test>" for name in ("first", "second", "third", "fourth")}
    sent = {
        "first": (),
        "second": (f"In-Reply-To: {ids['first']}",),
        "third": ("In-Reply-To: <unknown@author.test>", f"References: <gone@author.test> {ids['second']}"),
        "fourth": (),
    }
    for name, fields in sent.items():
        raw = letter(f"Re: {name}", f"Message-ID: {ids[name]}", *fields)
        assert (await house.deliver(raw, mine.address))[0] == 250
    raw = letter("Re: pulled in", f"In-Reply-To: {ids['first']}", f"References: {ids['first']}")
    assert (await house.deliver(raw, stranger.address))[0] == 250
    threads = {email["subject"]: email["thread_id"] for email in await mine.emails()}
    assert threads["Re: first"] == threads["Re: second"] == threads["Re: third"]
    assert threads["Re: fourth"] != threads["Re: first"]
    (pulled,) = await stranger.emails()
    assert pulled["thread_id"] not in threads.values()
