"""A message per oddity, over real SMTP into a real daemon: taken, kept to the octet, shown as well as it can be.

Whatever is inside a message, the door answers 250, the raw bytes come back as they were sent, the list stays JSON, each
attachment can be fetched, and the counters count it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

import pytest

from tests.support.house import House, OwnedDomain, OwnedInbox, furnished_house
from tests.support.oddities import ODDITIES, TO, Oddity, message
from tests.support.postgres import TestServer


@pytest.fixture(scope="module")
async def domain(postgres: TestServer) -> AsyncIterator[OwnedDomain]:
    """One server for all of them."""
    url = await postgres.create()
    async with furnished_house(url) as house:
        yield await house.domain("odd.example")
    await postgres.drop(url)


@pytest.fixture(scope="module")
async def inbox(domain: OwnedDomain) -> OwnedInbox:
    """Where the oddities go."""
    return await domain.inbox("agent")


@pytest.fixture(scope="module")
def house(domain: OwnedDomain) -> House:
    """Its server."""
    return domain.house


@pytest.mark.parametrize("name", ODDITIES)
async def test_it_is_taken_kept_and_shown(name: str, house: House, domain: OwnedDomain, inbox: OwnedInbox) -> None:
    oddity = ODDITIES[name]
    used, unread = await domain.usage(inbox.address)
    code, said = await house.deliver(oddity.raw, TO, options=["BODY=8BITMIME"])
    assert code == 250, said
    email = (await inbox.emails("?limit=1"))[0]
    for key, value in oddity.shown.items():
        assert email[key] == value, key
    for piece in oddity.text:
        assert piece in (email["body_text"] or ""), piece
    assert (await inbox.file(f"{email['id']}/raw")).endswith(b"\r\n" + oddity.raw)
    notes = (await inbox.opened(email["id"]))["notes"]
    assert any(oddity.noted in note for note in notes) or not oddity.noted, notes
    await _files_come_back(oddity, inbox, email["id"])
    assert email["has_attachments"] == bool(email["attachments"])
    assert email["envelope_from_address"] == "stranger@elsewhere.test"
    assert await domain.usage(inbox.address) == (used + len(oddity.raw), unread + 1)


async def _files_come_back(oddity: Oddity, inbox: OwnedInbox, email_id: str) -> None:
    """Each attachment by its number, and all of them as a zip whose names are safe to unpack."""
    details = (await inbox.opened(email_id))["attachments_detail"]
    assert set(oddity.files) <= {detail["number"] for detail in details}
    for detail in details[:10]:
        content = await inbox.file(f"{email_id}/attachments/{detail['number']}")
        assert len(content) == detail["size"]
        assert oddity.files.get(detail["number"], content) == content
    if not details:
        return
    packed = zipfile.ZipFile(io.BytesIO(await inbox.file(f"{email_id}/attachments/download?format=zip")))
    names = packed.namelist()
    assert len(set(names)) == len(names) == len(details)
    for name in names:
        assert PurePosixPath(name).name == name
        assert "\\" not in name
        assert name.strip(". ")
        assert not any(ord(character) < 32 for character in name)
        assert len(name.encode()) <= 255


async def test_an_oddity_is_found_where_it_belongs(house: House, inbox: OwnedInbox) -> None:
    raw = message(b"Message-ID: <odd-first@elsewhere.test>", subject=b"=?utf-8?q?before=00after?=")
    answer = message(b"In-Reply-To: (comment) <odd-first@elsewhere.test> and words", subject=b"Re: other")
    assert (await house.deliver(raw, TO))[0] == 250
    assert (await house.deliver(answer, TO))[0] == 250
    second, first = await inbox.emails("?limit=2")
    assert second["thread_id"] == first["thread_id"]


async def test_a_hundred_recipients_make_one_copy_an_inbox(house: House, domain: OwnedDomain) -> None:
    one, other = await domain.inbox("one"), await domain.inbox("other")
    crowd = [f"nobody{number}@odd.example" for number in range(97)]
    raw = message(subject=b"to a hundred")
    assert (await house.deliver(raw, one.address, other.address, "ONE@ODD.example", *crowd))[0] == 250
    for inbox in (one, other, await domain.inbox("catchall")):
        (email,) = await inbox.emails()
        assert email["subject"] == "to a hundred"
        assert await domain.usage(inbox.address) == (len(raw), 1)
    too_many = [f"{local}@odd.example" for local in "abcd"]
    assert (await house.deliver(raw, *crowd, *too_many))[0] == 452


async def test_the_list_of_all_oddities_is_json(inbox: OwnedInbox) -> None:
    assert len(await inbox.emails("?limit=100")) >= len(ODDITIES)


async def test_what_is_too_large_is_refused_at_mail_and_at_its_end(house: House, inbox: OwnedInbox) -> None:
    before = len(await inbox.emails("?limit=100"))
    assert (await house.deliver(b"", TO, options=[f"SIZE={25 * 1024 * 1024 + 1}"]))[0] == 552
    room = 25 * 1024 * 1024 - len(message(body=b"\r\n"))
    assert (await house.deliver(message(body=b"x" * (room + 1) + b"\r\n"), TO))[0] == 552
    assert len(await inbox.emails("?limit=100")) == before
    assert (await house.deliver(message(body=b"x" * room + b"\r\n"), TO))[0] == 250
