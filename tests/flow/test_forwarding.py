"""Forwarding rules end to end: what the next hop gets, whether it can believe it, and what comes back.

The judge of signatures and seals is dkimpy, asking the same name server; it shares no code with ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import Message
from typing import Any

import dkim
import dns.exception
import dns.resolver
import pytest

from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign
from tests.support.house import House, OwnedDomain, OwnedInbox, eventually, furnished_house
from tests.support.postgres import TestServer
from tests.support.smtp_sink import SmtpSink, Taken

#: where the rule's destination has its MX, and a host at which nobody listens.
DESTINATION_HOST, DEAD_HOST = "127.0.0.2", "127.0.0.9"
DESTINATION = "boss@there.test"
AUTHOR = "Ann Author <ann@author.test>"

KEY, _RECORD = generate_rsa_key()


@pytest.fixture(scope="module")
async def domain(postgres: TestServer) -> AsyncIterator[OwnedDomain]:
    """A domain whose rule sends on what is urgent, in a world where the author's domain asks for DMARC."""
    url = await postgres.create()
    async with furnished_house(url) as house:
        house.mx("there.test", DESTINATION_HOST)
        publish_author(house)
        domain = await house.domain("rules.example")
        await domain.rule("urgent", DESTINATION)
        yield domain
    await postgres.drop(url)


@pytest.fixture(scope="module")
async def inbox(domain: OwnedDomain) -> OwnedInbox:
    """To which the mail is written."""
    return await domain.inbox("agent")


def publish_author(house: House) -> None:
    """The author's key, and a policy that refuses what is neither signed nor from where she sends."""
    house.dns.set("s._domainkey.author.test", "TXT", [_RECORD])
    house.dns.set("_dmarc.author.test", "TXT", ["v=DMARC1; p=reject"])
    house.dns.set("author.test", "TXT", ["v=spf1 -all"])


def letter(subject: str, *fields: str, author: str = AUTHOR, body: str = "Grüße\r\n.dot\r\n") -> bytes:
    """A mail to the inbox, not signed."""
    lines = [f"From: {author}", "To: agent@rules.example", f"Subject: {subject}", *fields, "", body]
    return "\r\n".join(lines).encode()


def signed(raw: bytes) -> bytes:
    """The same, with the author's signature."""
    return sign(raw, [load_signing_key("author.test", "s", KEY)], now=1_700_000_000) + raw


async def forwarded(
    house: House, raw: bytes, *, to: str = "agent@rules.example", sender: str = "ann@author.test"
) -> Taken:
    """Sends ``raw`` in and waits for what the rule's destination gets of it."""
    async with SmtpSink(host=DESTINATION_HOST, port=house.out_port) as sink:
        code, said = await house.deliver(raw, to, sender=sender)
        assert code == 250, said
        return await taken_by(sink)


async def taken_by(sink: SmtpSink) -> Taken:
    """The next message that a sink takes, which it then no longer holds."""

    async def there() -> bool:
        return bool(sink.messages)

    await eventually(there, lambda: f"nothing came, {sink.commands}")
    return sink.messages.pop(0)


async def judged(house: House, raw: bytes) -> tuple[bool, str]:
    """dkimpy's opinion of the topmost DKIM signature, and of the ARC chain ("pass", "fail", "none")."""
    host, port = house.dns.address
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], port

    def text(name: bytes, timeout: float = 5) -> bytes | None:
        try:
            answer = resolver.resolve(name.decode(), "TXT", lifetime=timeout)
        except dns.exception.DNSException:
            return None
        return b"".join(answer[0].strings)

    def judge() -> tuple[bool, str]:
        chain, _, _ = dkim.arc_verify(raw, dnsfunc=text)
        try:
            verified = bool(dkim.verify(raw, dnsfunc=text))
        except dkim.DKIMException:
            verified = False
        return verified, chain.decode()

    return await asyncio.to_thread(judge)


def fields_of(data: bytes) -> Message:
    """The header of what was taken."""
    return message_from_bytes(data)


async def test_a_signed_original_goes_on_as_it_is(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    original = signed(letter("urgent: signed"))
    taken = await forwarded(domain.house, original)
    assert taken.recipients == [DESTINATION]
    assert taken.mail_from.startswith("SRS0=")
    assert taken.mail_from.endswith("=author.test=ann@rules.example")
    assert taken.data.endswith(b"\r\n" + original)
    fields = fields_of(taken.data)
    assert fields.get_all("From") == [AUTHOR]
    assert fields.keys()[:3] == ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"]
    assert "dkim=pass" in fields["ARC-Authentication-Results"]
    assert "dkim=pass" in fields["Authentication-Results"]
    assert fields["Return-Path"] is None
    assert await judged(domain.house, taken.data) == (True, "pass")


async def test_an_unsigned_original_goes_on_as_it_is_where_nobody_minds(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    original = letter("urgent: plain", author="Bob <bob@anywhere.test>")
    taken = await forwarded(domain.house, original, sender="bob@anywhere.test")
    assert taken.data.endswith(b"\r\n" + original)
    assert fields_of(taken.data).get_all("From") == ["Bob <bob@anywhere.test>"]
    assert (await judged(domain.house, taken.data))[1] == "pass"


async def test_an_original_that_dmarc_would_refuse_goes_on_in_our_name(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    original = letter("urgent: unsigned")
    taken = await forwarded(domain.house, original)
    in_our_name(taken)
    assert taken.data.endswith(b"\r\n\r\n" + "Grüße\r\n.dot\r\n".encode())
    assert await judged(domain.house, taken.data) == (True, "pass")
    email = await inbox.arrived("urgent: unsigned")
    assert email["from_address"] == "ann@author.test"
    assert (await inbox.file(f"{email['id']}/raw")).endswith(b"\r\n" + original)


def in_our_name(taken: Taken) -> None:
    """Asserts that a forward has our From, its author in Reply-To, and our signature over both."""
    fields = fields_of(taken.data)
    (author,) = fields.get_all("From") or []
    assert author.endswith("<forwarding@rules.example>")
    assert author.startswith('"Ann Author via rules.example"')
    assert fields.get_all("Reply-To") == [AUTHOR]
    signature = fields["DKIM-Signature"].replace("\n", "").replace("\t", "").replace(" ", "")
    assert "d=rules.example;" in signature
    names = signature.partition(";h=")[2].partition(";")[0].lower().split(":")
    assert {"from", "reply-to", "subject", "to"} <= set(names)


async def test_a_reply_goes_where_the_author_wanted_it(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    taken = await forwarded(domain.house, letter("urgent: desk", "Reply-To: The Desk <desk@author.test>"))
    assert fields_of(taken.data).get_all("Reply-To") == ["The Desk <desk@author.test>"]


async def test_what_nobody_can_answer_to_is_left_out(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    odd = f"Reply-To: undisclosed, <ann@author.test>, <{'x' * 2_000}@author.test>"
    taken = await forwarded(domain.house, letter("urgent: answers", odd))
    assert fields_of(taken.data).get_all("Reply-To") == ["ann@author.test"]
    assert max(map(len, taken.data.split(b"\r\n"))) < 1_000  # RFC 5322 section 2.1.1


@pytest.mark.parametrize(
    "author",
    [
        '"=?utf-8?q?Ann=0D=0ABcc:_all=40there.test?=" <ann@author.test>',
        "=?utf-8?q?Gr=C3=BC=C3=9Fe=00?= <ann@author.test>",
        "<ann@author.test>, <second@author.test>",
        "ann@author.test (Ann) no comment <",
    ],
)
async def test_an_author_of_any_shape_adds_no_field_and_loses_no_mail(
    domain: OwnedDomain, inbox: OwnedInbox, author: str
) -> None:
    taken = await forwarded(domain.house, letter("urgent: shapes", author=author))
    fields = fields_of(taken.data)
    assert fields["Bcc"] is None
    assert len(fields.get_all("From") or []) == 1
    assert b"\0" not in taken.data.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("rewrite", ["always", "never"])
async def test_the_operator_decides_whose_name_is_in_from(postgres: TestServer, rewrite: str) -> None:
    url = await postgres.create()
    async with furnished_house(url, {"forwarding": {"rewrite_from": rewrite}}) as house:
        house.mx("there.test", DESTINATION_HOST)
        publish_author(house)
        domain = await house.domain("rules.example")
        await domain.rule("urgent", DESTINATION)
        original = signed(letter("urgent")) if rewrite == "always" else letter("urgent")
        taken = await forwarded(house, original)
        if rewrite == "always":
            in_our_name(taken)
        else:
            assert taken.data.endswith(b"\r\n" + original)
        assert await judged(house, taken.data) == (rewrite == "always", "pass")
    await postgres.drop(url)


async def test_a_dead_destination_neither_loses_nor_delays_the_original(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    domain.house.mx("dead.test", DEAD_HOST)
    rule = await domain.rule("to the dead", "nobody@dead.test")
    assert (await domain.house.deliver(letter("to the dead"), inbox.address))[0] == 250
    (email,) = await inbox.emails("?limit=1")
    assert (email["subject"], email["is_read"]) == ("to the dead", False)
    event = await event_of(domain, "deferred", rule)
    assert event["recipient"] == "nobody@dead.test"


async def event_of(domain: OwnedDomain, kind: str, rule: dict[str, Any]) -> dict[str, Any]:
    """The first event of one type that a rule's forward leads to."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [event for event in await domain.events(kind) if event["detail"].get("rule_id") == rule["id"]]
        return bool(found)

    await eventually(there, lambda: f"no {kind} of the rule")
    return found[0]


async def test_a_forward_that_is_refused_is_told_to_the_owner_and_to_no_stranger(
    domain: OwnedDomain, inbox: OwnedInbox
) -> None:
    domain.house.mx("refuses.test", "127.0.0.4")
    domain.house.mx("author.test", "127.0.0.5")
    rule = await domain.rule("to the refuser", "nobody@refuses.test")
    port = domain.house.out_port
    async with (
        SmtpSink(host="127.0.0.4", port=port, replies={"RCPT": "550 5.1.1 no such user"}),
        SmtpSink(host="127.0.0.5", port=port) as author,
    ):
        assert (await domain.house.deliver(letter("to the refuser"), inbox.address))[0] == 250
        event = await event_of(domain, "bounced", rule)
        assert event["detail"]["reply"] == "550 5.1.1 no such user"
        assert author.connections == 0
    original = await inbox.arrived("to the refuser")
    thread = await domain.house.daemon.get(f"/api/v1/threads/{original['thread_id']}", inbox.key)
    assert thread["message_count"] == 1


async def test_what_comes_back_to_the_rewritten_sender_is_an_event_of_the_rule(
    domain: OwnedDomain, inbox: OwnedInbox
) -> None:
    rule = await domain.rule("comes back", "gone@there.test")
    async with SmtpSink(host=DESTINATION_HOST, port=domain.house.out_port) as sink:
        assert (await domain.house.deliver(signed(letter("comes back")), inbox.address, sender="ann@author.test"))[
            0
        ] == 250
        taken = await taken_by(sink)
    before = len(await inbox.emails("?limit=100"))

    async def comes_back() -> bool:
        # As long as the result of the forward is not written, its bounce is put off.
        code, said = await domain.house.deliver(bounce_of(taken), taken.mail_from, sender="")
        assert code in (250, 451), said
        return bool(code == 250)

    await eventually(comes_back)
    event = await event_of(domain, "bounced", rule)
    assert event["recipient"] == "gone@there.test"
    assert "no such user" in event["detail"]["reply"]
    assert len(await inbox.emails("?limit=100")) == before


def bounce_of(taken: Taken) -> bytes:
    """What a host that took a forward and could not deliver it sends back (RFC 3464)."""
    return (
        "From: MAILER-DAEMON@there.test\r\n"
        f"To: {taken.mail_from}\r\n"
        "Subject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="edge"\r\n\r\n'
        "--edge\r\n\r\nIt could not be delivered.\r\n"
        "--edge\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx1.there.test\r\n\r\n"
        f"Final-Recipient: rfc822; {taken.recipients[0]}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--edge--\r\n"
    ).encode()


async def test_a_forged_or_changed_rewritten_sender_is_refused(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    taken = await forwarded(domain.house, signed(letter("urgent: forge")))
    local, _, host = taken.mail_from.partition("@")
    words = local.split("=")
    others = ("SRS0=AAAAAAAA", *words[2:]), (*words[:-1], "somebody-else")
    for forged in others:
        code, said = await domain.house.deliver(bounce_of(taken), f"{'='.join(forged)}@{host}", sender="")
        assert (code, said[:5]) == (550, b"5.7.1")
