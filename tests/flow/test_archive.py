"""Export and import: what goes out comes back byte for byte, other programs can read it, and theirs can be read."""

from __future__ import annotations

import json
import mailbox as python_mailbox
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from clawmail.base.errors import Invalid, QuotaExceeded
from clawmail.base.ids import time_of
from clawmail.core.archive.entry import Kept
from clawmail.core.archive.files import FORMS, Form, Unreadable, reading, writing
from clawmail.core.archive.transfer import Archive, Imported
from clawmail.core.verify import Verifier
from clawmail.model.tenancy import Inbox
from clawmail.store import mailbox
from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant, add_inbox

#: messages that archives are known to damage.
ODDITIES = {
    "From in the body": mail.plain("from", "one\r\nFrom here on\r\n>From there\r\n>>From everywhere\r\nFrom"),
    "looks like an mbox": mail.plain("mbox", "\r\nFrom a@b.test Thu Jan  1 00:00:00 2026\r\nSubject: inner\r\n\r\nx"),
    "no last line end": b"Subject: open\r\nMessage-ID: <open@x.test>\r\n\r\nends here",
    "no body": b"Subject: bare\r\nMessage-ID: <bare@x.test>\r\n\r\n",
    "many last lines": mail.plain("last", "text\r\n\r\n\r\n\r\n"),
    "octets": b"Subject: caf\xe9\r\nMessage-ID: <octets@x.test>\r\n\r\n\x00\x01\xff\xfe bare\rCR and bare\nLF\r\n",
    "no Message-ID": b"From: a@x.test\r\nSubject: nobody\r\n\r\nknows me\r\n",
    "no header": b"\r\nonly text\r\n",
    "a status of its own": b"Status: RO\r\nX-Clawmail-Kept: {}\r\nMessage-ID: <sly@x.test>\r\n\r\n.\r\n",
    "large": mail.plain("large", "line of a large message\r\n" * 40_000),
}


CONTENTS = """
SELECT e.direction, e.is_read, e.is_archived, e.created_at, e.size, m.raw, m.trace, m.subject, m.envelope_from,
       m.bcc_addresses, m.authentication::text, m.received_at, m.rfc_message_id, m.sender_warning,
       dense_rank() OVER (ORDER BY (SELECT min(o.id::text) FROM emails o WHERE o.thread_id = e.thread_id)) AS thread
FROM emails e
JOIN messages m ON m.id = e.message_id
WHERE e.inbox_id = $1
ORDER BY e.id
"""


async def contents(db: Database, inbox: Inbox) -> list[dict[str, Any]]:
    """All that is kept of an inbox's emails, oldest first, without the ids."""
    async with db.connection() as conn:
        rows = await conn.fetch(CONTENTS, inbox.id)
    return [dict(row) for row in rows]


async def fill(db: Database, tenant: Tenant) -> None:
    """Odd messages, a conversation, sent and archived mail, at moments of their own."""
    moment = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    for number, raw in enumerate(ODDITIES.values()):
        email_id = await mail.file(db, tenant, raw, received_at=moment + timedelta(minutes=number))
        async with db.connection() as conn:
            flags = {"is_read": number % 2 == 0, "is_archived": number % 3 == 0}
            await mailbox.set_flags(conn, tenant.inbox.id, email_id, **flags)
    question = mail.plain("question", "What is it?")
    await mail.file(db, tenant, question, received_at=moment + timedelta(days=1))
    answer = mail.plain("Re: question", "It is.", f"In-Reply-To: {mail.message_of(question).rfc_message_id}")
    await mail.file(
        db,
        tenant,
        answer,
        direction="outbound",
        received_at=moment + timedelta(days=2),
        trace=b"",
        authentication=None,
        bcc_addresses=("hidden@x.test", "Zoë <zoe@x.test>"),
    )


async def export(db: Database, address: str, form: Form, path: Path) -> int:
    archive = Archive(db)
    inbox, _ = await archive.inbox(address)
    with writing(form, path) as add:
        return await archive.take_out(inbox, add)


async def bring(db: Database, address: str, form: Form, path: Path) -> Imported:
    archive = Archive(db)
    inbox, _ = await archive.inbox(address)
    return await archive.bring_in(inbox, reading(form, path))


async def assert_store_is_clean(db: Database) -> None:
    assert [problem async for problem in Verifier(db).run()] == []


@pytest.mark.parametrize("form", FORMS)
async def test_what_goes_out_comes_back_as_it_was(db: Database, tenant: Tenant, tmp_path: Path, form: Form) -> None:
    await fill(db, tenant)
    path = tmp_path / "archive"
    total = len(ODDITIES) + 2
    assert await export(db, tenant.inbox.address, form, path) == total

    other = await add_inbox(db, tenant.domain, "other")
    result = await bring(db, other.address, form, path)
    assert (result.imported, result.skipped, result.failed, result.problems) == (total, 0, 0, [])
    before = await contents(db, tenant.inbox)
    assert await contents(db, other) == sorted(before, key=lambda row: row["received_at"])
    await assert_store_is_clean(db)

    again = await bring(db, other.address, form, path)
    assert (again.imported, again.skipped) == (0, total)
    same = await bring(db, tenant.inbox.address, form, path)
    assert (same.imported, same.skipped) == (0, total)


async def test_an_import_cut_off_by_the_quota_goes_on_where_it_stopped(
    db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    await fill(db, tenant)
    path = tmp_path / "mail.mbox"
    total = await export(db, tenant.inbox.address, "mbox", path)
    small = await add_inbox(db, tenant.domain, "small", quota=2000)
    with pytest.raises(QuotaExceeded, match=r"clawmail inbox quota small@example\.test SIZE"):
        await bring(db, small.address, "mbox", path)
    kept = len(await contents(db, small))
    assert 0 < kept < total
    async with db.connection() as conn:
        await conn.execute("UPDATE inboxes SET storage_quota_bytes = 100000000 WHERE id = $1", small.id)
    result = await bring(db, small.address, "mbox", path)
    assert (result.imported, result.skipped) == (total - kept, kept)
    await assert_store_is_clean(db)


async def test_mail_of_old_has_its_old_place_in_lists_and_threads(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    """An answer is here; the question it answers is imported behind it, and is still the older one."""
    question = mail.plain("question", "What is it?")
    asked = datetime(2020, 5, 17, tzinfo=UTC)
    path = tmp_path / "old.jsonl"
    with writing("jsonl", path) as add:
        add(Kept(received_at=asked, is_read=True, raw=question))
        reference = mail.message_of(question).rfc_message_id
        add(
            Kept(
                received_at=asked + timedelta(days=1),
                raw=mail.plain("Re: question", "Old.", f"References: {reference}"),
            )
        )
    newest = await mail.file(db, tenant, mail.plain("new"))
    await bring(db, tenant.inbox.address, "jsonl", path)
    await mail.file(db, tenant, mail.plain("Re: question", "New.", f"References: {reference}"))
    async with db.connection() as conn:
        page = await mailbox.list_page(conn, tenant.inbox.id, archived=False, read=None, limit=10, offset=0)
        threads = await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=10)
    texts = [(email.body_text or "").strip() for email in page.emails]
    assert texts == ["New.", "Hi there", "Old.", "What is it?"]
    assert page.emails[1].id == newest
    assert time_of(page.emails[3].id) == asked
    assert [(thread.subject, thread.message_count) for thread in threads] == [("question", 3), ("new", 1)]
    assert threads[0].first_message_at == asked
    await assert_store_is_clean(db)


async def test_python_reads_the_mbox(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    await fill(db, tenant)
    path = tmp_path / "mail.mbox"
    total = await export(db, tenant.inbox.address, "mbox", path)
    assert path.stat().st_mode & 0o077 == 0
    box = python_mailbox.mbox(path)
    try:
        assert len(box) == total
        flags = ["R" in message.get_flags() for message in box]
    finally:
        box.close()
    assert flags == [row["is_read"] for row in await contents(db, tenant.inbox)]


async def test_python_reads_the_maildir(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    await fill(db, tenant)
    path = tmp_path / "Maildir"
    await export(db, tenant.inbox.address, "maildir", path)
    box = python_mailbox.Maildir(path, create=False)
    rows = await contents(db, tenant.inbox)
    assert sorted(box.list_folders()) == ["Archive", "Sent"]
    assert len(box) == sum(not row["is_archived"] and row["direction"] == "inbound" for row in rows)
    assert len(box.get_folder("Archive")) == sum(row["is_archived"] for row in rows)
    (sent,) = box.get_folder("Sent")
    assert [row["received_at"].timestamp() for row in rows if row["direction"] == "outbound"] == [
        pytest.approx(sent.get_date(), abs=1e-3)
    ]
    assert {"S" in message.get_flags() for message in box} == {True, False}


async def test_flags_that_another_program_changed_count(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    await mail.file(db, tenant)
    path = tmp_path / "Maildir"
    await export(db, tenant.inbox.address, "maildir", path)
    (unread,) = (path / "new").iterdir()
    unread.rename(path / ".Archive" / "cur" / f"{unread.name}:2,FS")
    other = await add_inbox(db, tenant.domain, "other")
    await bring(db, other.address, "maildir", path)
    (row,) = await contents(db, other)
    assert (row["is_read"], row["is_archived"]) == (True, True)


async def test_a_strangers_mbox_with_unix_lines(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    path = tmp_path / "thunderbird"
    box = python_mailbox.mbox(path)
    for number in range(3):
        message = EmailMessage()
        message["From"] = "Ann <ann@x.test>"
        message["Subject"] = f"number {number}"
        message["Message-ID"] = f"<{number}@x.test>"
        if number:
            message["In-Reply-To"] = f"<{number - 1}@x.test>"
        message.set_content("From the beginning\n\nto the end\n")
        entry = python_mailbox.mboxMessage(message)
        entry.set_from(f"ann@x.test Wed Mar  {number + 1} 10:11:12 2023")
        entry.set_flags("RO" if number == 1 else "")
        box.add(entry)
    box.close()
    result = await bring(db, tenant.inbox.address, "mbox", path)
    assert (result.imported, result.failed) == (3, 0)
    rows = await contents(db, tenant.inbox)
    assert [row["subject"] for row in rows] == ["number 0", "number 1", "number 2"]
    assert [row["is_read"] for row in rows] == [False, True, False]
    assert rows[0]["received_at"] == datetime(2023, 3, 1, 10, 11, 12, tzinfo=UTC)
    assert rows[0]["envelope_from"] == "ann@x.test"
    assert len({row["thread"] for row in rows}) == 1
    assert b"\n" not in rows[0]["raw"].replace(b"\r\n", b"")
    assert b"\r\n\r\nFrom the beginning\r\n\r\nto the end\r\n" in rows[0]["raw"]
    assert (await bring(db, tenant.inbox.address, "mbox", path)).skipped == 3


async def test_what_cannot_be_read_is_said_and_the_rest_is_imported(
    db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.jsonl"
    good = Kept(raw=mail.plain("good"), received_at=datetime(2024, 1, 1, tzinfo=UTC))
    with writing("jsonl", path) as add:
        add(good)
        add(Kept(raw=mail.plain("nul"), envelope_from="a\0@x.test"))
        add(Kept(raw=mail.plain("two")))
    with path.open("a") as file:
        file.write('{"raw": 7}\nnot json\n\n{"raw": "QQ==", "direction": "sideways"}\n')
    result = await bring(db, tenant.inbox.address, "jsonl", path)
    assert (result.imported, result.failed) == (2, 4)
    assert [problem.where for problem in result.problems] == ["message 2", "line 4", "line 5", "line 7"]
    await assert_store_is_clean(db)


def test_nothing_is_overwritten_and_no_half_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "mail.mbox"
    with pytest.raises(RuntimeError), writing("mbox", path) as add:
        add(Kept(raw=mail.plain()))
        raise RuntimeError("the store went away")
    assert list(tmp_path.iterdir()) == []
    with writing("mbox", path) as add:
        add(Kept(raw=mail.plain()))
    with pytest.raises(Invalid, match="is there already"), writing("mbox", path):
        pass
    with pytest.raises(Invalid, match="is there already"), writing("maildir", tmp_path):
        pass


@pytest.mark.parametrize(
    ("form", "content", "problem"),
    [("mbox", b"Subject: x\n\nnot an mbox\n", "no mbox"), ("maildir", None, "no Maildir")],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, form: Form, content: bytes | None, problem: str) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "file"
        path.write_bytes(content)
    with pytest.raises(Invalid, match=problem):
        list(reading(form, path))
    with pytest.raises(Invalid, match="No such file"):
        list(reading(form, tmp_path / "missing"))


def test_an_empty_archive_is_an_archive(tmp_path: Path) -> None:
    for form in FORMS:
        with writing(form, tmp_path / form):
            pass
        assert list(reading(form, tmp_path / form)) == []


def test_json_lines_can_be_searched(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with writing("jsonl", path) as add:
        add(Kept(raw=b"\xff", subject="hello", message_id="<a@b>"))
    assert json.loads(path.read_text())["subject"] == "hello"
    assert [type(entry) for entry in reading("jsonl", path)] == [Kept]
    assert not [entry for entry in reading("jsonl", path) if isinstance(entry, Unreadable)]
