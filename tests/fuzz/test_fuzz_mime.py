"""Fuzzing what a stranger puts into a message.

Invariants: no reader raises; every text can be stored by PostgreSQL and written as JSON (no NUL, no lone surrogate);
every attachment is as large as described; a bounce names its recipients and says of each whether it is final. And time
is linear: what would take an hour if a reader went back over its input takes no time here, so the worst shapes are read
at a size at which going back would be noticed by everybody who runs the tests.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.address import author_domains, parse_address, parse_mailboxes
from clawmail.protocol.dsn import read_bounce, read_unnamed_bounce
from clawmail.protocol.mime.charset import clean, decode_text
from clawmail.protocol.mime.filenames import safe_filename
from clawmail.protocol.mime.parameters import parse_structured
from clawmail.protocol.mime.parse import attachment_contents, parse_message
from clawmail.protocol.mime.quotes import split_html_reply, split_reply
from clawmail.protocol.mime.words import header_text
from clawmail.protocol.reports import read_complaint
from clawmail.protocol.srs import read_return_path, reverse_sender

PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"--b", b"--b--", b"\0", b"\xff", b"\xc3", b" ", b"\t", b'"', b"\\", b"(", b"<",
    b">", b"@", b",", b";", b":", b"=", b"?", b"=?utf-8?Q?", b"=?utf-16?B?", b"?=", b"=00", b"*0*=utf-7''", b"+2AA-",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: text/html; charset=",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n", b"utf-7",
    b"utf-16",
    b"Content-Transfer-Encoding: x-uuencode\r\n", b"Content-Disposition: attachment; filename=",
    b"idna", b"unicode_escape",
    b"Content-Type: message/delivery-status\r\n\r\n", b"Final-Recipient: utf-8;\\x{d800}@a\r\n", b"Action: failed\r\n",
    b"From: mailer-daemon@a\r\n", b"Subject: failure notice\r\n",
    b"Return-Path: <>\r\n", b"Hi. This is the qmail-send\n",
    b"<a@b>:\n", b"Date: Fri, 31 Dec 9999 23:59:60 -9999\r\n", b"References: <",
    b"Content-Type: message/feedback-report\r\n\r\n",
]  # fmt: skip
octets = st.one_of(
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=40).map(b"".join),
    st.binary(max_size=300),
)


def assert_storable(text: str | None) -> None:
    if text is not None:
        assert "\0" not in text
        text.encode("utf-8")


@given(octets)
@settings(max_examples=400, deadline=None)
def test_any_octets_are_a_message(raw: bytes) -> None:
    message = parse_message(raw)
    for text in (message.subject, message.text, message.html, message.message_id, message.in_reply_to):
        assert_storable(text)
    for name, value in message.headers:
        assert_storable(name)
        assert_storable(value)
        assert "\n" not in value
        assert "\r" not in value
    for box in (*message.to, *message.cc, *message.reply_to):
        assert_storable(box.name)
        assert_storable(box.address)
        assert box.name or box.address
    for text in (*message.references, *message.notes):
        assert_storable(text)
    for attachment, content in zip(message.attachments, attachment_contents(raw), strict=True):
        assert len(content) == attachment.size
        assert attachment.filename
        assert_storable(attachment.filename)
        assert_storable(attachment.content_id)
        assert safe_filename(attachment.filename)


@given(octets)
@settings(max_examples=300, deadline=None)
def test_any_octets_may_be_a_report(raw: bytes) -> None:
    for failed in read_bounce(raw) or ():
        assert failed.recipient
        assert failed.action in ("failed", "delayed")
        assert not (failed.hard and failed.status.startswith("4"))
        for text in failed[:3]:
            assert_storable(str(text))
        assert_storable(failed.reason)
    unnamed = read_unnamed_bounce(raw)
    if unnamed is not None:
        assert unnamed.action == "failed" and unnamed.status[0] in "45"
        assert_storable(unnamed.reason)
    complaint = read_complaint(raw)
    if complaint is not None:
        assert complaint.feedback_type


@given(octets, st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_field_is_read(value: bytes, text: str) -> None:
    assert_storable(header_text(value))
    assert_storable(decode_text(value, clean(text)))
    structured = parse_structured(value)
    for parameter in structured.parameters.values():
        assert_storable(parameter)
    for box in parse_mailboxes(value):
        assert_storable(box.name + box.address)
    author_domains([value])
    parse_mailboxes(text)
    address = parse_address(text)
    assert address is None or parse_address(str(address)) == address
    name = safe_filename(text)
    assert name
    assert "/" not in name
    assert len(name.encode("utf-8")) <= 255
    reverse_sender(text, domain="example.org", key=b"k", now=0.0)
    read_return_path(text, key=b"k")


@given(st.text(max_size=300))
@settings(max_examples=200)
def test_cutting_a_quotation_loses_nothing(text: str) -> None:
    pieces = split_reply(text)
    kept = "".join("".join(piece.split()) for piece in pieces)
    assert sorted(kept) == sorted("".join(text.split()))
    new, quoted = split_html_reply(text)
    assert len(new) + len(quoted) >= len(text)


SIZE = 400_000
WORST = {
    "carriage returns": b"\r" * SIZE,
    "carriage returns before a line end": b"\r" * SIZE + b"\n",
    "empty fields": b":\n" * (SIZE // 2),
    "folds": b"Subject: x" + b"\n " * (SIZE // 2),
    "signatures": b"DKIM-Signature: v=1\r\n" * (SIZE // 21),
    "encoded words never closed": b"Subject: " + b"=?utf-8?Q?" * (SIZE // 10),
    "encoded words": b"Subject: " + b"=?utf-8?Q?a?= " * (SIZE // 14),
    "quotes in an address field": b"To: " + b'"\\' * (SIZE // 2),
    "comments never closed": b"To: " + b"(" * SIZE,
    "brackets": b"To: " + b'<"' * (SIZE // 2),
    "at signs": b"From: " + b"@ " * (SIZE // 2),
    "routes": b"From: <" + b"@a," * (SIZE // 3) + b">",
    "blanks in a parameter": b"Content-Type: text/plain;" + b" " * SIZE + b'"',
    "quotes in a parameter": b'Content-Type: text/plain; a="' + b'" ' * (SIZE // 2),
    "parameters": b"Content-Type: text/plain" + b"; a=b" * (SIZE // 5),
    "parameter pieces": b"Content-Type: a/b" + b"; a*1*=%20" * (SIZE // 10),
    "delimiters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * (SIZE // 5),
    "near delimiters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--bb\r\n" * (SIZE // 6),
    "nested": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(SIZE // 50)
    ),
    "soft line breaks": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"= " * (SIZE // 2),
    "padding": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QQ==" * (SIZE // 4),
    "report groups": b"Content-Type: message/delivery-status\r\n\r\n"
    + b"\r\n\r\nFinal-Recipient: rfc822; a@b" * (SIZE // 32),
    "report of dashes": b"From: mailer-daemon@a\r\nSubject: failure\r\nReturn-Path: <>\r\n\r\n" + b"-" * SIZE,
    "report of addresses": b"From: mailer-daemon@a\r\nReturn-Path: <>\r\n\r\nHi. This is the \n"
    + b"<a@b>:\n" * (SIZE // 7),
    "ids": b"References: " + b"<a@b>" * (SIZE // 5),
    "brackets in References": b"References: " + b"<" * SIZE,
}


@pytest.mark.parametrize("shape", WORST)
def test_the_worst_shapes_are_read_in_linear_time(shape: str) -> None:
    raw = WORST[shape]
    parse_message(raw)
    list(attachment_contents(raw))
    read_bounce(raw)
    read_unnamed_bounce(raw)
    read_complaint(raw)


@pytest.mark.parametrize(
    "text",
    ["> " * 200_000, "On " * 130_000, "On a\n" * 80_000, "-" * 400_000,
     "_" * 400_000, "<div " * 80_000, "<div>" * 80_000,
     "<div class=" + '"gmail_quote">' * 20_000, "From: a\n" * 50_000],
    ids=lambda text: text[:8].strip() or "text",
)  # fmt: skip
def test_quotations_are_cut_in_linear_time(text: str) -> None:
    split_reply(text)
    split_html_reply(text)
