"""Reading and keeping mail over HTTP: lists, single emails, marks, deletion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from clawmail.core.mailbox import LISTED_WEIGHT
from clawmail.store.db import Database
from tests.support import mail
from tests.support.mail import assert_counts_are_kept, rows_of, with_files
from tests.support.mail_api import MailApi, running_mail_api
from tests.support.tenants import Tenant, add_tenant

NOWHERE = "0190a000-0000-7000-8000-000000000000"


@pytest.fixture
async def api(db: Database, tenant: Tenant) -> AsyncIterator[MailApi]:
    async with running_mail_api(db, tenant) as running:
        yield running


async def test_an_email_in_a_list_has_every_documented_field(api: MailApi, db: Database, tenant: Tenant) -> None:
    raw = mail.plain("Hello", "Hi there", "Cc: boss@other.test", "In-Reply-To: <before@other.test>")
    moment = datetime(2026, 1, 1, 0, 0, 0, 999_999, UTC)
    warning = "Header From (peer@other.test) does not match SMTP envelope sender (bounce@mailer.other.test)."
    email = await mail.file(
        db, tenant, raw, envelope_from="bounce@mailer.other.test", sender_warning=warning, received_at=moment
    )
    answer = await api.get("/emails")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    (shown,) = answer.json.pop("emails")
    assert answer.json | {"emails": []} == {"emails": [], "total": 1, "page": 1, "limit": 20}
    thread_id, message_id = shown.pop("thread_id"), shown.pop("message_id")
    assert UUID(thread_id)
    assert message_id.startswith("<")
    assert message_id.endswith("@other.test>")
    assert shown == {
        "id": str(email),
        "direction": "inbound",
        "from_address": "peer@other.test",
        "envelope_from_address": "bounce@mailer.other.test",
        "sender_warning": warning,
        "authentication_results": mail.AUTHENTICATION,
        "to_addresses": ["agent@example.test"],
        "cc_addresses": ["boss@other.test"],
        "subject": "Hello",
        "body_text": "Hi there\n",
        "body_html": None,
        "has_attachments": False,
        "attachments": [],
        "is_read": False,
        "is_archived": False,
        "received_at": "2026-01-01T00:00:00Z",
        "in_reply_to": "<before@other.test>",
        "created_at": "2026-01-01T00:00:00Z",
    }


async def test_pages_filters_and_totals(api: MailApi, db: Database, tenant: Tenant) -> None:
    ids = [str(await mail.file(db, tenant)) for _ in range(5)]
    assert (await api.post(f"/emails/{ids[0]}/archive")).json == {"id": ids[0], "is_archived": True}
    assert (await api.patch(f"/emails/{ids[1]}", {"is_read": True})).status == 200
    expected = {
        "": (4, [4, 3, 2, 1]),
        "?page=1&limit=3": (4, [4, 3, 2]),
        "?page=2&limit=3": (4, [1]),
        "?page=3&limit=3": (4, []),
        "?page=9999999999&limit=100": (4, []),
        "?is_read=false": (3, [4, 3, 2]),
        "?is_read=true": (1, [1]),
        "?is_archived=true": (1, [0]),
        "?is_archived=true&is_read=true": (0, []),
        "?is_archived=false&unknown=1": (4, [4, 3, 2, 1]),
    }
    for query, (total, numbers) in expected.items():
        answer = (await api.get("/emails" + query)).json
        assert ([e["id"] for e in answer["emails"]], answer["total"]) == ([ids[n] for n in numbers], total), query


async def test_other_query_values_are_refused(api: MailApi) -> None:
    wrong = "page=0 page=-1 page=1.5 page=x page= limit=0 limit=101 limit=1e1 limit=%2b1 is_read=maybe is_read=1"
    for query in (wrong + " is_read=True is_archived=no is_archived=").split():
        answer = await api.get(f"/emails?{query}")
        assert (answer.status, set(answer.json)) == (400, {"error", "code"}), query
        assert answer.json["error"].startswith(query.partition("=")[0])


async def test_reading_an_email_marks_it_read_unless_peeking(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant, with_files(("report.pdf", b"%PDF")))
    peeked = (await api.get(f"/emails/{email}?peek=true")).json
    assert not peeked["is_read"]
    assert (await api.get("/emails?is_read=false")).json["total"] == 1
    opened = (await api.get(f"/emails/{email}")).json
    assert opened["is_read"]
    assert (await api.get("/emails?is_read=false")).json["total"] == 0
    (listed,) = (await api.get("/emails")).json["emails"]
    assert {name: opened[name] for name in listed} == listed
    assert opened["headers"][0] == {"name": "Return-Path", "value": "<peer@other.test>"}
    assert {"name": "Subject", "value": "files"} in opened["headers"]
    (detail,) = opened["attachments_detail"]
    assert (detail["number"], detail["filename"], detail["size"]) == (1, "report.pdf", 4)
    assert (detail["content_type"], detail["disposition"]) == ("application/octet-stream", "attachment")
    assert "recipients" not in opened
    assert "bcc_addresses" not in opened
    assert (await api.get(f"/emails/{email}?peek=yes")).status == 400
    await assert_counts_are_kept(db, tenant.inbox.id)


async def test_sent_mail_shows_its_recipients(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(
        db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"), bcc_addresses=("b@far.test",),
        authentication=None,
    )  # fmt: skip
    async with db.transaction() as conn:
        await conn.execute(
            "UPDATE deliveries SET state = 'deferred', attempts = 2, last_reply = '451 4.3.0 later',"
            " last_host = 'mx.far.test', last_attempt_at = now() WHERE recipient = 'a@far.test'"
        )
    opened = (await api.get(f"/emails/{email}")).json
    first, second = opened["recipients"]
    assert first.pop("last_attempt_at") and first.pop("next_attempt_at") and second.pop("next_attempt_at")
    assert first == {
        "address": "a@far.test", "state": "deferred", "attempts": 2, "last_reply": "451 4.3.0 later",
        "mx": "mx.far.test",
    }  # fmt: skip
    assert second == {
        "address": "b@far.test", "state": "queued", "attempts": 0, "last_reply": None, "last_attempt_at": None,
        "mx": None,
    }  # fmt: skip
    assert (opened["is_read"], opened["authentication_results"]) == (True, None)
    assert opened["bcc_addresses"] == ["b@far.test"]


async def test_marks_take_json_booleans_only(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    refused: list[Any] = [{"is_read": "true"}, {"is_read": 1}, {"is_archived": None}, {}, {"read": True}, [], "x"]
    for wrong in refused:
        assert (await api.patch(f"/emails/{email}", wrong)).status == 400, wrong
    for _ in range(2):
        answer = await api.patch(f"/emails/{email}", {"is_read": True, "is_archived": True, "other": 1})
        assert (answer.status, answer.json) == (200, {"id": str(email), "is_read": True, "is_archived": True})
    answer = await api.patch(f"/emails/{email}", {"is_archived": False})
    assert answer.json == {"id": str(email), "is_read": True, "is_archived": False}
    await assert_counts_are_kept(db, tenant.inbox.id)


async def test_deleting_is_final_and_gives_the_bytes_back(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    answer = await api.delete(f"/emails/{email}")
    assert (answer.status, answer.body) == (204, b"")
    for again in (await api.delete(f"/emails/{email}"), await api.get(f"/emails/{email}")):
        assert (again.status, again.json) == (404, {"error": "Email not found", "code": "not_found"})
    assert (await api.get("/emails")).json["total"] == 0
    await assert_counts_are_kept(db, tenant.inbox.id)
    assert [await rows_of(db, table) for table in ("messages", "emails", "threads")] == [0, 0, 0]


async def test_ids_that_are_none_and_those_of_others_are_not_found(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant, with_files(("a.txt", b"a")))
    thread = (await api.get("/emails")).json["emails"][0]["thread_id"]
    neighbour = await api.in_hands_of(await add_tenant(db, "elsewhere.test"), db)
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("PATCH", "", {"is_read": True}), ("DELETE", "", None), ("POST", "/archive", None),
        ("GET", "/raw", None), ("GET", "/attachments/1", None), ("GET", "/attachments/download", None),
        ("GET", "/events", None), ("POST", "/reply", {"text": "x"}), ("POST", "/forward", {"to": "a@b.test"}),
    ]  # fmt: skip
    malformed = ["x", "1", "%20", "0", str(email).replace("-", ""), f"{{{email}}}", f"urn:uuid:{email}", f"{email}0"]
    for method, rest, body in calls:
        for who, identifier in [(neighbour, str(email)), (api, NOWHERE), *((api, one) for one in malformed)]:
            answer = await who.api.call(method, f"/api/v1/emails/{identifier}{rest}", key=who.key, json=body)
            assert (answer.status, answer.json["code"]) == (404, "not_found"), (method, identifier, rest)
    assert (await neighbour.get(f"/threads/{thread}")).status == 404
    assert (await api.get("/threads/x")).json == {"error": "Thread not found", "code": "not_found"}
    assert (await api.get(f"/threads/{thread}")).status == 200
    assert (await neighbour.get("/emails")).json["total"] == 0


async def test_large_emails_are_shown_whole(api: MailApi, db: Database, tenant: Tenant) -> None:
    text = 'a "quoted" \u20ac line\r\n' * (LISTED_WEIGHT // 8)
    subject, many = "s" * 100_000, tuple(f"someone{n}@far.test" for n in range(5000))
    files = ({"filename": "a", "content_type": "x/y", "size": 1},)
    large = await mail.file(db, tenant, body_text=text, subject=subject, to_addresses=many, attachments=files)
    small = await mail.file(db, tenant)
    answer = (await api.get("/emails")).json
    assert [e["id"] for e in answer["emails"]] == [str(small), str(large)]
    assert (answer["total"], answer["page"], answer["limit"]) == (2, 1, 20)
    listed = answer["emails"][1]
    assert (listed["body_text"], listed["body_html"]) == (text, None)
    assert (listed["subject"], listed["to_addresses"], listed["attachments"]) == (subject, list(many), ["a"])
    assert set(listed) == set(answer["emails"][0])
    opened = await api.get(f"/emails/{large}")
    assert opened.headers["Content-Type"].startswith("application/json")
    assert opened.json["body_text"] == text
    assert opened.json["headers"]
    thread = (await api.get(f"/threads/{listed['thread_id']}")).json
    assert thread["emails"][0]["body_text"] == text
    assert thread["next_cursor"] is None


async def test_odd_text_comes_out_as_json(api: MailApi, db: Database, tenant: Tenant) -> None:
    raw = (
        b"From: =?utf-16?B?2D0=?= <peer@other.test>\r\nSubject: a\x00b\xff =?utf-8?B?7aCA?=\r\nX-\xe9: \x00\x01\r\n"
        b"Content-Type: text/plain; charset=utf-16\r\n\r\n\xd8\x00\x00\x00zzz"
    )
    email = await mail.file(db, tenant, raw)
    answer = await api.get(f"/emails/{email}")
    assert b"\x00" not in answer.body
    assert b"\\u0000" not in answer.body
    assert json.loads(answer.body)["id"] == str(email)
    assert (await api.get("/emails")).status == 200


async def test_reads_and_changes_are_counted_and_limited(db: Database, tenant: Tenant) -> None:
    limits = {"enabled": True, "inbox_read_per_hour": 2, "inbox_scope": "email"}
    email = await mail.file(db, tenant)
    async with running_mail_api(db, tenant, limits=limits) as api:
        first = await api.get("/emails")
        assert (first.status, first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == (200, "2", "1")
        source = await api.get(f"/emails/{email}/raw")
        assert (source.status, source.headers["RateLimit-Remaining"]) == (200, "0")
        assert (await api.post(f"/emails/{email}/archive")).status == 429
        assert (await api.get("/emails")).json["code"] == "rate_limited"


async def test_marks_set_at_once_over_http(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    await asyncio.gather(
        *(api.patch(f"/emails/{email}", {"is_read": n % 2 == 0, "is_archived": n % 3 == 0}) for n in range(30)),
        *(api.get(f"/emails/{email}") for _ in range(10)),
    )
    await assert_counts_are_kept(db, tenant.inbox.id)
