"""``outbound.return_path = "delivery"``: mail leaves with a signed return path for each delivery, and what comes home
there settles exactly that one, whatever it leaves unsaid."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.house import House, OwnedDomain, OwnedInbox, furnished_house
from tests.support.postgres import TestServer
from tests.support.smtp_sink import SmtpSink, Taken

#: where the recipients' domain has its MX.
FAR_HOST = "127.0.0.2"
BOB, EVE = "bob@far.test", "eve@far.test"

#: as an old server writes it, with nothing in it that names our mail.
OLD_HABIT = (
    "From: MAILER-DAEMON@far.test\r\nSubject: failure notice\r\n\r\n"
    "Hi. This is the qmail-send program at far.test.\r\n\r\n<{}>:\r\n{}\r\n"
)
#: a mail system's words that name neither an address nor a reason.
UNREADABLE = "From: MAILER-DAEMON@far.test\r\nSubject: Undelivered Mail {}\r\n\r\nSomething went wrong. Sorry.\r\n"


@pytest.fixture(scope="module")
async def domain(postgres: TestServer) -> AsyncIterator[OwnedDomain]:
    """A domain whose mail leaves that way."""
    url = await postgres.create()
    async with furnished_house(url, {"outbound": {"return_path": "delivery"}}) as house:
        house.mx("far.test", FAR_HOST)
        yield await house.domain("paths.example")
    await postgres.drop(url)


async def sent(inbox: OwnedInbox, *recipients: str, subject: str = "hello") -> tuple[str, dict[str, Taken]]:
    """A mail that arrived: its id, and what each recipient's host took."""
    async with SmtpSink(FAR_HOST, inbox.house.out_port) as mx:
        email_id = str((await inbox.send(list(recipients), subject))["id"])
        await inbox.settled(email_id, "delivered")
    return email_id, {recipient: taken for taken in mx.messages for recipient in taken.recipients}


async def states(inbox: OwnedInbox, email_id: str) -> dict[str, str]:
    return {address: one["state"] for address, one in (await inbox.recipients(email_id)).items()}


async def suppressed(domain: OwnedDomain) -> set[str]:
    found = await domain.house.daemon.get("/api/v1/suppressions", domain.token)
    return {one["address"] for one in found["suppressions"]}


async def told(domain: OwnedDomain, kind: str, email_id: str) -> list[dict[str, object]]:
    return [event for event in await domain.events(kind) if event["email_id"] == email_id]


async def back(house: House, raw: str, path: str) -> tuple[int, bytes]:
    """A report as a mail system sends it, to ``path``."""
    return await house.deliver(raw.encode(), path, sender="")


async def test_each_recipient_gets_a_transaction_and_a_sender_of_his_own(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("apart")
    _, taken = await sent(inbox, BOB, EVE)
    assert [len(one.recipients) for one in taken.values()] == [1, 1]
    paths = {one.mail_from for one in taken.values()}
    assert len(paths) == 2 and all(path.startswith("bounce+") and path.endswith("@paths.example") for path in paths)
    assert taken[BOB].data == taken[EVE].data


async def test_an_old_server_that_quotes_nothing_of_the_mail_bounces_exactly_one(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("old")
    email_id, taken = await sent(inbox, "ann@far.test", "joe@far.test")
    # The address it names is where the mail was forwarded to: nobody we wrote to.
    bounce = OLD_HABIT.format("joe@further.test", "550 5.1.1 no such user")
    assert (await back(domain.house, bounce, taken["joe@far.test"].mail_from))[0] == 250
    assert await states(inbox, email_id) == {"ann@far.test": "delivered", "joe@far.test": "bounced"}
    assert "joe@far.test" in await suppressed(domain) and "ann@far.test" not in await suppressed(domain)
    # Its owner reads it where he reads his mail.
    assert (await inbox.arrived("failure notice"))["to_addresses"] == []


async def test_a_report_without_a_status_counts_as_soft(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("vague")
    email_id, taken = await sent(inbox, "vague@far.test")
    bounce = OLD_HABIT.format("vague@far.test", "I could not deliver it. This is a permanent error; I've given up.")
    await back(domain.house, bounce, taken["vague@far.test"].mail_from)
    assert await states(inbox, email_id) == {"vague@far.test": "bounced"}
    (event,) = await told(domain, "bounced", email_id)
    assert isinstance(event["detail"], dict) and event["detail"]["weight"] == "soft"
    assert "vague@far.test" not in await suppressed(domain)


async def test_a_refusal_quoted_without_an_address_is_enough(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("nobody")
    email_id, taken = await sent(inbox, "who@far.test", "else@far.test")
    bounce = UNREADABLE.format("nobody") + "The server said:\r\n550 5.1.1 no such user here\r\n"
    await back(domain.house, bounce, taken["who@far.test"].mail_from)
    assert await states(inbox, email_id) == {"who@far.test": "bounced", "else@far.test": "delivered"}
    assert "who@far.test" in await suppressed(domain)


async def test_what_cannot_be_read_is_filed_and_moves_nothing(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("unread")
    email_id, taken = await sent(inbox, "odd@far.test")
    assert (await back(domain.house, UNREADABLE.format("odd"), taken["odd@far.test"].mail_from))[0] == 250
    await inbox.arrived("Undelivered Mail odd")
    assert await states(inbox, email_id) == {"odd@far.test": "delivered"}
    assert await told(domain, "bounced", email_id) == []


def complaint_of(original: str, returned: str = "Subject: hello") -> str:
    """A feedback report (RFC 5965) that tells no more of the mail than its field ``original`` and what it returns."""
    return (
        "From: fbl@far.test\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSomebody complained.\r\n"
        "--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: T/1\r\nVersion: 1\r\n"
        f"{original}\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n\r\n--b--\r\n"
    )


@pytest.mark.parametrize("told_by", ["a field", "the copy", "where it went"])
async def test_a_complaint_is_known_by_the_sender_of_the_mail(domain: OwnedDomain, told_by: str) -> None:
    name = told_by.replace(" ", "-")
    inbox, desk = await domain.inbox(f"news-{name}"), await domain.inbox("abuse")
    cross, fine = f"cross-{name}@far.test", f"fine-{name}@far.test"
    email_id, taken = await sent(inbox, cross, fine)
    path = taken[cross].mail_from
    raw, to = {
        "a field": (complaint_of(f"Original-Mail-From: <{path}>\r\n"), desk.address),
        "the copy": (complaint_of("", f"Return-Path: <{path}>\r\nSubject: hello"), desk.address),
        "where it went": (complaint_of(""), path),
    }[told_by]
    assert (await domain.house.deliver(raw.encode(), to, sender="fbl@far.test"))[0] == 250
    assert [event["recipient"] for event in await told(domain, "complained", email_id)] == [cross]
    assert cross in await suppressed(domain) and fine not in await suppressed(domain)


async def test_a_forged_return_path_is_refused(domain: OwnedDomain) -> None:
    inbox = await domain.inbox("forged")
    _, taken = await sent(inbox, "mac@far.test")
    path = taken["mac@far.test"].mail_from
    other = path.replace(path[8:12], "0000" if path[8:12] != "0000" else "1111", 1)
    code, said = await back(domain.house, OLD_HABIT.format("mac@far.test", "550 5.1.1 no such user"), other)
    assert code == 550 and b"not made here" in said
