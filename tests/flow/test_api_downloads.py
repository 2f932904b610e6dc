"""Downloads over HTTP: the source of an email and its attachments."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from clawmail.store.db import Database
from tests.support import mail
from tests.support.mail import with_files
from tests.support.mail_api import MailApi, running_mail_api
from tests.support.tenants import Tenant


@pytest.fixture
async def api(db: Database, tenant: Tenant) -> AsyncIterator[MailApi]:
    async with running_mail_api(db, tenant) as running:
        yield running


async def test_the_source_is_our_trace_and_the_bytes_as_sent(api: MailApi, db: Database, tenant: Tenant) -> None:
    forged = [
        "Authentication-Results: MX.example.test; spf=pass",
        'Authentication-Results: "mx.example.test" 1;\r\n spf=pass',
        "Authentication-Results: (a comment) mx.example.test.; dkim=pass",
        "authentication-results: mx.localhost; dkim=pass",
    ]
    honest = ["Authentication-Results: mx.other.test; spf=pass", "ARC-Authentication-Results: i=1; mx.example.test"]
    body = "Authentication-Results: mx.example.test; spf=pass\r\n" + "x" * 70 + "\r\n.dot\r\n"
    kept, sent = mail.plain("source", body, *honest), mail.plain("source", body, *forged, *honest)
    trace = b"Return-Path: <peer@other.test>\r\nAuthentication-Results: mx.localhost; spf=none\r\n"
    email = await mail.file(db, tenant, sent, trace=trace)
    answer = await api.get(f"/emails/{email}/raw")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "message/rfc822"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="email-{email}.eml"'
    assert answer.headers["Content-Length"] == str(len(answer.body))
    without_id = [line for line in kept.split(b"\r\n") if not line.startswith(b"Message-ID")]
    shown = [line for line in answer.body.removeprefix(trace).split(b"\r\n") if not line.startswith(b"Message-ID")]
    assert answer.body.startswith(trace)
    assert shown == without_id
    names = [h["name"] for h in (await api.get(f"/emails/{email}")).json["headers"]]
    assert names.count("Authentication-Results") == 2
    outbound = await mail.file(db, tenant, sent, direction="outbound", trace=b"")
    assert (await api.get(f"/emails/{outbound}/raw")).body == sent


async def test_a_large_source_comes_in_pieces(api: MailApi, db: Database, tenant: Tenant) -> None:
    long_header = mail.plain("s" * 100_000, "x" * 3_000_000)
    email = await mail.file(db, tenant, long_header, trace=b"", body_text="x")
    answer = await api.get(f"/emails/{email}/raw")
    assert answer.body == long_header
    assert answer.headers["Content-Length"] == str(len(long_header))
    subject = next(h["value"] for h in (await api.get(f"/emails/{email}")).json["headers"] if h["name"] == "Subject")
    assert subject == "s" * 100_000


async def test_what_cannot_be_finished_is_broken_off(api: MailApi, db: Database, tenant: Tenant) -> None:
    """The rest of a message that is deleted while it is read cannot come; its reader has to notice."""
    email = await mail.file(db, tenant, mail.plain("long", "x" * 24_000_000), body_text="x")
    url, headers = f"{api.api.base}/api/v1/emails/{email}/raw", {"Authorization": f"Bearer {api.key}"}
    async with aiohttp.ClientSession(read_bufsize=2**14) as client, client.get(url, headers=headers) as response:
        assert response.status == 200
        await response.content.readexactly(1000)
        assert (await api.delete(f"/emails/{email}")).status == 204
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()
    assert (await api.get("/emails")).status == 200


async def test_one_attachment_is_the_file_and_more_are_a_zip(api: MailApi, db: Database, tenant: Tenant) -> None:
    one = await mail.file(db, tenant, with_files(("report.pdf", b"%PDF-1.7"), content_type="application/pdf"))
    answer = await api.get(f"/emails/{one}/attachments/download")
    assert (answer.status, answer.body) == (200, b"%PDF-1.7")
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report.pdf"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Length"] == "8"
    zipped = await api.get(f"/emails/{one}/attachments/download?format=zip")
    assert zipfile.ZipFile(io.BytesIO(zipped.body)).read("report.pdf") == b"%PDF-1.7"
    files = [("a.txt", b"1"), ("a.txt", b"2"), ("../../etc/pass\x07wd", b"3"), ("a.txt", b"4"), ("é.tar.gz", b"5")]
    many = await mail.file(db, tenant, with_files(*files))
    answer = await api.get(f"/emails/{many}/attachments/download?format=auto")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="email-{many}-attachments.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    assert archive.namelist() == ["a.txt", "a (2).txt", "passwd", "a (3).txt", "é.tar.gz"]
    assert [archive.read(name) for name in archive.namelist()] == [content for _, content in files]


async def test_attachments_one_by_one(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant, with_files(("a.txt", b"first"), ('naïve "名前".html', b"<script>")))
    assert (await api.get(f"/emails/{email}/attachments/1")).body == b"first"
    second = await api.get(f"/emails/{email}/attachments/2")
    assert second.body == b"<script>"
    assert second.headers["Content-Disposition"] == (
        "attachment; filename=\"na_ve __.html\"; filename*=UTF-8''na%C3%AFve%20%E5%90%8D%E5%89%8D.html"
    )
    assert "sandbox" in second.headers["Content-Security-Policy"]
    for wrong in ("0", "3", "x", "-1", "1.0", "9999999", "%D9%A1"):
        answer = await api.get(f"/emails/{email}/attachments/{wrong}")
        assert (answer.status, answer.json["error"]) == (404, "Attachment not found"), wrong


async def test_downloads_that_cannot_be(api: MailApi, db: Database, tenant: Tenant) -> None:
    bare = await mail.file(db, tenant)
    answer = await api.get(f"/emails/{bare}/attachments/download")
    assert (answer.status, answer.json["error"]) == (404, "Email has no attachments")
    for wrong in ("tar", "", "zip2"):
        answer = await api.get(f"/emails/{bare}/attachments/download?format={wrong}")
        assert (answer.status, answer.json["error"]) == (400, "format must be auto or zip")


async def test_a_stranger_does_not_choose_the_type_of_an_answer(api: MailApi, db: Database, tenant: Tenant) -> None:
    raw = with_files(("x", b"x"), content_type="text/html")
    email = await mail.file(
        db, tenant, raw, attachments=({"filename": "x", "content_type": "text/x\r\nX-Evil: 1", "size": 1},)
    )
    answer = await api.get(f"/emails/{email}/attachments/1")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "X-Evil" not in answer.headers


async def test_large_downloads_wait_in_a_file(api: MailApi, db: Database, tenant: Tenant) -> None:
    content = bytes(range(256)) * 8192
    email = await mail.file(db, tenant, with_files(("big.bin", content)))
    assert (await api.get(f"/emails/{email}/attachments/1")).body == content
    zipped = await api.get(f"/emails/{email}/attachments/download?format=zip")
    assert zipfile.ZipFile(io.BytesIO(zipped.body)).read("big.bin") == content


async def test_attachments_expire_when_a_lifetime_is_set(db: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    raw = with_files(("a.txt", b"a"))
    old = await mail.file(db, tenant, raw, received_at=now - timedelta(minutes=31))
    fresh = await mail.file(db, tenant, raw, received_at=now - timedelta(minutes=29))
    async with running_mail_api(db, tenant, retention={"attachment_ttl_hours": 0.5}) as api:
        for path in ("attachments/download", "attachments/download?format=zip", "attachments/1"):
            answer = await api.get(f"/emails/{old}/{path}")
            assert (answer.status, answer.json["code"]) == (410, "gone")
            assert (await api.get(f"/emails/{fresh}/{path}")).status == 200
        assert (await api.get(f"/emails/{old}/raw")).status == 200
