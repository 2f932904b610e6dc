"""Sending, answering and passing on mail over HTTP: what is taken, what is refused, and what is written."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clawmail.protocol.headers import split_message
from clawmail.protocol.mime.parse import attachment_content, parse_message
from clawmail.store.db import Database
from tests.support import mail
from tests.support.mail import assert_counts_are_kept, rows_of
from tests.support.mail_api import MailApi, running_mail_api
from tests.support.tenants import Tenant, add_tenant

HELLO = {"to": ["a@far.test"], "subject": "Hello", "text": "A test."}


@pytest.fixture
async def api(db: Database, tenant: Tenant) -> AsyncIterator[MailApi]:
    async with running_mail_api(db, tenant) as running:
        yield running


async def raw_of(db: Database, email_id: str) -> bytes:
    async with db.connection() as conn:
        raw: bytes = await conn.fetchval(
            "SELECT m.raw FROM messages m JOIN emails e ON e.message_id = m.id WHERE e.id = $1", email_id
        )
        return raw


async def recipients_of(db: Database, email_id: str) -> list[str]:
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT recipient FROM deliveries WHERE email_id = $1 ORDER BY id", email_id)
        return [row["recipient"] for row in rows]


async def test_send_answers_201_with_what_was_queued(api: MailApi, db: Database, tenant: Tenant) -> None:
    answer = await api.post("/emails/send", {**HELLO, "html": "<p>A test.</p>"})
    assert answer.status == 201
    sent = answer.json
    assert set(sent) == {"id", "message_id", "thread_id", "created_at"}
    assert sent["message_id"].startswith("<")
    assert sent["message_id"].endswith("@example.test>")
    assert sent["created_at"].endswith("Z")
    shown = (await api.get(f"/emails/{sent['id']}")).json
    assert {name: shown[name] for name in sent} == sent
    assert (shown["direction"], shown["is_read"], shown["from_address"]) == ("outbound", True, "agent@example.test")
    assert (shown["to_addresses"], shown["subject"]) == (["a@far.test"], "Hello")
    assert (shown["body_text"].strip(), shown["body_html"].strip()) == ("A test.", "<p>A test.</p>")
    assert [(r["address"], r["state"]) for r in shown["recipients"]] == [("a@far.test", "queued")]
    assert (await api.get("/emails?is_read=false")).json["total"] == 0
    await assert_counts_are_kept(db, tenant.inbox.id)


TAKEN: list[tuple[dict[str, Any], list[str]]] = [
    ({"to": "a@far.test"}, ["a@far.test"]),
    ({"to": "a@far.test, Bee <b@far.test>"}, ["a@far.test", "b@far.test"]),
    ({"to": ["a@far.test", "A@far.test", '"Last, First" <c@far.test>']}, ["a@far.test", "c@far.test"]),
    ({"cc": "b@far.test", "bcc": ["c@far.test"]}, ["a@far.test", "b@far.test", "c@far.test"]),
    ({"cc": [], "bcc": None, "reply_to": None, "unknown": {"x": 1}}, ["a@far.test"]),
]


async def test_addresses_are_taken_as_lists_or_strings(api: MailApi, db: Database) -> None:
    for given, expected in TAKEN:
        answer = await api.post("/emails/send", {**HELLO, **given})
        assert answer.status == 201, answer.body
        assert await recipients_of(db, answer.json["id"]) == expected
        if given.get("bcc"):
            assert b"c@far.test" not in await raw_of(db, answer.json["id"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"to": None}, "to"), ({"to": []}, "to"), ({"to": ["nobody"]}, "'nobody'"), ({"to": 5}, "to"),
    ({"to": ["a@far.test", "b@"]}, "'b@'"), ({"cc": "x y"}, "cc"), ({"bcc": [1]}, "bcc"),
    ({"subject": None}, "subject"), ({"subject": ""}, "subject"), ({"text": None}, "text or html"),
    ({"text": ""}, "text or html"), ({"text": 1}, "text"), ({"reply_to": "x"}, "reply_to"),
    ({"from": "boss@far.test"}, "from"), ({"from": {"a": 1}}, "from"),
    ({"headers": {"X-A": "b\r\nBcc: c@d"}}, "X-A"),
    ({"headers": {"X-A": 1}}, "headers"), ({"headers": {"X A": "b"}}, "X A"), ({"headers": {"": "b"}}, "headers"),
    ({"subject": "a\r\nBcc: x@far.test"}, "subject"), ({"subject": "a\nb"}, "subject"),
    ({"to": ["a@far.test\r\nBcc: x@far.test"]}, "to"),
    ({"attachments": [{"filename": "a", "content": "aGk="}, {"filename": "b", "content": "!"}]}, "attachments[1]"),
    ({"attachments": [{"filename": "a", "content": "aGk"}]}, "attachments[0]"),
    ({"attachments": [{"content": "aGk="}]}, "filename"), ({"attachments": "aGk="}, "attachments"),
    ({"attachments": [{"filename": "a\r\nX: y", "content": "aGk="}]}, "attachments"),
    ({"attachments": [{"filename": "a", "content": "aGk=", "content_type": "a/b\r\nX: y"}]}, "attachments"),
]  # fmt: skip


async def test_what_is_wrong_is_named(api: MailApi, db: Database) -> None:
    for given, named in WRONG:
        body = {name: value for name, value in {**HELLO, **given}.items() if value is not None or name == "to"}
        answer = await api.post("/emails/send", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid"), given
        assert named in answer.json["error"]
    assert await rows_of(db, "messages") == 0


RESERVED = (
    "From Sender To Cc Bcc Subject Date Message-ID Received Return-Path DKIM-Signature Authentication-Results ARC-Seal"
    " ARC-Anything MIME-Version Content-Type Content-Foo"
)


async def test_headers_that_are_the_servers_own_are_refused(api: MailApi) -> None:
    for name in RESERVED.split():
        for written in (name, name.lower(), name.upper()):
            answer = await api.post("/emails/send", {**HELLO, "headers": {written: "x"}})
            assert answer.status == 400, written
            assert written in answer.json["error"]


async def test_attachments_headers_and_reply_to_go_along(api: MailApi, db: Database) -> None:
    content = bytes(range(256)) * 4
    encoded = base64.b64encode(content).decode()
    body = {
        **HELLO,
        "reply_to": "Desk <desk@example.test>",
        "headers": {"X-Campaign": "spring", "List-Unsubscribe": "<mailto:x@example.test>"},
        "attachments": [
            {"filename": "naïve.bin", "content_type": "application/x-thing", "content": encoded},
            {"filename": "b.txt", "content": ""},
        ],
        "from": "Agent@Example.test",
    }  # fmt: skip
    answer = await api.post("/emails/send", body)
    assert answer.status == 201, answer.body
    raw = await raw_of(db, answer.json["id"])
    parsed = parse_message(raw)
    assert [box.address for box in parsed.reply_to] == ["desk@example.test"]
    assert {("X-Campaign", "spring"), ("List-Unsubscribe", "<mailto:x@example.test>")} <= set(parsed.headers)
    assert [(a.filename, a.content_type, a.size) for a in parsed.attachments] == [
        ("naïve.bin", "application/x-thing", 1024),
        ("b.txt", "application/octet-stream", 0),
    ]
    assert attachment_content(raw, 0) == content
    shown = (await api.get(f"/emails/{answer.json['id']}")).json
    assert (shown["attachments"], shown["has_attachments"]) == (["naïve.bin", "b.txt"], True)
    assert (await api.get(f"/emails/{answer.json['id']}/attachments/1")).body == content


async def test_a_reply_stays_in_its_thread_and_marks_the_original_read(
    api: MailApi, db: Database, tenant: Tenant
) -> None:
    raw = mail.plain("Hello", "Hi", "References: <older@other.test>")
    email = await mail.file(db, tenant, raw)
    original = (await api.get("/emails")).json["emails"][0]
    answer = await api.post(f"/emails/{email}/reply", {"text": "Thanks!", "cc": "c@far.test", "to": "x@far.test"})
    assert answer.status == 201, answer.body
    reply = (await api.get(f"/emails/{answer.json['id']}")).json
    assert (reply["subject"], reply["to_addresses"]) == ("Re: Hello", ["peer@other.test"])
    assert reply["cc_addresses"] == ["c@far.test"]
    assert reply["thread_id"] == original["thread_id"] == answer.json["thread_id"]
    assert reply["in_reply_to"] == original["message_id"]
    references = split_message(await raw_of(db, reply["id"])).first("References")
    assert references is not None
    assert references.value.split() == [b"<older@other.test>", original["message_id"].encode()]
    assert (await api.get(f"/emails/{email}?peek=true")).json["is_read"]
    assert (await api.get("/threads")).json["threads"][0]["message_count"] == 2
    again = await api.post(f"/emails/{reply['id']}/reply", {"text": "And one more thing"})
    second = (await api.get(f"/emails/{again.json['id']}")).json
    assert (second["subject"], second["to_addresses"]) == ("Re: Hello", ["peer@other.test"])
    await assert_counts_are_kept(db, tenant.inbox.id)


async def test_replies_that_cannot_be(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    for given in ({}, {"text": ""}, {"text": "x", "from": "boss@far.test"}, {"text": "x", "cc": "y"}):
        answer = await api.post(f"/emails/{email}/reply", given)
        assert (answer.status, answer.json["code"]) == (400, "invalid"), given


async def test_a_forward_is_a_new_mail_with_the_originals_text_and_files(
    api: MailApi, db: Database, tenant: Tenant
) -> None:
    sent = await api.post(
        "/emails/send", {**HELLO, "attachments": [{"filename": "a.txt", "content": base64.b64encode(b"A").decode()}]}
    )
    original = sent.json
    answer = await api.post(f"/emails/{original['id']}/forward", {"to": "b@far.test", "text": "See below"})
    assert answer.status == 201, answer.body
    forwarded = (await api.get(f"/emails/{answer.json['id']}")).json
    assert (forwarded["subject"], forwarded["to_addresses"]) == ("Fwd: Hello", ["b@far.test"])
    assert forwarded["body_text"].startswith("See below")
    assert "A test." in forwarded["body_text"]
    assert forwarded["attachments"] == ["a.txt"]
    assert (await api.get(f"/emails/{forwarded['id']}/attachments/1")).body == b"A"
    assert forwarded["thread_id"] != original["thread_id"]
    for wrong in ({"text": "x"}, {"to": "b@far.test", "from": "boss@far.test"}):
        assert (await api.post(f"/emails/{original['id']}/forward", wrong)).status == 400


async def test_a_repeated_request_is_done_once(api: MailApi, db: Database, tenant: Tenant) -> None:
    once = {"Idempotency-Key": "order 17"}
    first = await api.post("/emails/send", HELLO, headers=once)
    assert first.status == 201
    assert "Idempotency-Replayed" not in first.headers
    second = await api.post("/emails/send", HELLO, headers=once)
    assert (second.status, second.json) == (201, first.json)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    other = await api.post("/emails/send", {**HELLO, "subject": "Another"}, headers=once)
    assert other.status == 422
    assert await rows_of(db, "messages") == 1
    reply = await api.post(f"/emails/{first.json['id']}/reply", HELLO, headers=once)
    assert reply.status == 201
    assert "Idempotency-Replayed" not in reply.headers
    assert await rows_of(db, "messages") == 2
    neighbour = await api.in_hands_of(await add_tenant(db, "elsewhere.test"), db)
    assert (await neighbour.post("/emails/send", HELLO, headers=once)).json["id"] != first.json["id"]
    for wrong in ("", "x" * 257):
        assert (await api.post("/emails/send", HELLO, headers={"Idempotency-Key": wrong})).status == 400


async def test_a_failed_request_frees_its_key(api: MailApi, db: Database) -> None:
    once = {"Idempotency-Key": "k"}
    assert (await api.post("/emails/send", {**HELLO, "to": "nobody"}, headers=once)).status == 400
    assert (await api.post("/emails/send", HELLO, headers=once)).status == 201


async def test_the_same_request_many_times_at_once(api: MailApi, db: Database) -> None:
    answers = await asyncio.gather(
        *(api.post("/emails/send", HELLO, headers={"Idempotency-Key": "rush"}) for _ in range(8))
    )
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.json["id"] for answer in answers if answer.status == 201}) == 1
    assert await rows_of(db, "messages") == 1


async def test_a_full_mailbox_takes_no_copies_of_sent_mail(api: MailApi, db: Database, tenant: Tenant) -> None:
    async with db.transaction() as conn:
        await conn.execute("UPDATE inboxes SET storage_quota_bytes = 10")
    answer = await api.post("/emails/send", HELLO)
    assert (answer.status, answer.json["error"]) == (400, "Mailbox storage quota exceeded")
    assert await rows_of(db, "deliveries") == 0


async def test_sending_has_a_limit_of_its_own(db: Database, tenant: Tenant) -> None:
    async with running_mail_api(db, tenant, limits={"enabled": True, "inbox_send_per_hour": 1}) as api:
        assert (await api.post("/emails/send", HELLO)).status == 201
        refused = await api.post("/emails/send", HELLO)
        assert (refused.status, refused.json["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await api.get("/emails")).status == 200
