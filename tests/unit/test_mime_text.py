"""Charsets, encoded words, parameters, dates, ids and file names: the small readers under the message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from clawmail.protocol.mime.charset import codec_for, decode_text
from clawmail.protocol.mime.fields import message_ids, parse_date
from clawmail.protocol.mime.filenames import made_up_name, safe_filename
from clawmail.protocol.mime.parameters import parse_structured
from clawmail.protocol.mime.transfer import CHUNK_OCTETS, decode_transfer, measure
from clawmail.protocol.mime.words import decode_base64, header_text


@pytest.mark.parametrize(
    ("octets", "label", "text"),
    [
        (b"caf\xc3\xa9", None, "café"),
        (b"caf\xe9", None, "café"),
        (b"caf\xe9 \x93x\x94", "iso-8859-1", "café “x”"),
        (b"\x81", "iso-8859-1", "\x81"),
        (b"caf\xe9", "utf-8", "caf\ufffd"),
        (b"caf\xc3\xa9", "us-ascii", "café"),
        (b"caf\xc3\xa9", "no-such-charset", "café"),
        (b"\xef\xbb\xbfx", "utf-8", "x"),
        (b"\xff\xfeh\x00", "utf-16", "h"),
        (b"\x87\x40", "Shift_JIS", "①"),
        ("привет".encode("koi8-r"), '"KOI8-R"', "привет"),
        ("привет".encode(), "ascii", "привет"),
        (b"a\0b", "utf-8", "a\ufffdb"),
        (b"+2AA-", "utf-7", "\ufffd"),
    ],
)
def test_octets_become_text(octets: bytes, label: str | None, text: str) -> None:
    assert decode_text(octets, label) == text


@pytest.mark.parametrize(
    "label", ["idna", "punycode", "unicode_escape", "raw_unicode_escape", "rot13", "hex", "zlib", ""]
)
def test_codecs_that_are_no_charsets_are_not_used(label: str) -> None:
    assert codec_for(label) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" plain ", "plain"),
        (b" folded\r\n here", "folded here"),
        (b"=?utf-8?Q?caf=C3=A9_x?=", "café x"),
        (b"=?UTF-8*en?b?w6k=?=", "é"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?utf-8?q?a?= \r\n =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        (b"=?utf-8?B?w6nD?= =?utf-8?B?qQ==?=", "éé"),
        (b"=?utf-8?q?with blanks inside?=", "with blanks inside"),
        (b"=?utf-8?q?raw \xc3\xa9?= \xe9", "raw é é"),
        (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
        (b"=?utf-8?q?a =?utf-8?q?b?=", "=?utf-8?q?a b"),
        (b"=?no-such?q?caf=C3=A9?=", "café"),
        (b"=?utf-8?q?=ZZ=?=", "=ZZ="),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        (b"=?iso-8859-1?q?=E9?= =?utf-8?q?=C3=A9?=", "éé"),
    ],
)
def test_a_header_value_as_text(value: bytes, text: str) -> None:
    assert header_text(value) == text


@pytest.mark.parametrize(
    ("field", "value", "parameters"),
    [
        (b" Text/PLAIN; charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        (b"text/plain;charset=us-ascii (Plain text)", "text/plain", {"charset": "us-ascii"}),
        (b"text/plain charset=utf-8", "text/plain", {"charset": "utf-8"}),
        (b'a/b; name="x;y=\\"z\\""; b=1', "a/b", {"name": 'x;y="z"', "b": "1"}),
        (b'a/b; name="a"b".pdf"', "a/b", {"name": 'a"b".pdf'}),
        (b'a/b; name="C:\\dir\\f.txt"', "a/b", {"name": "C:\\dir\\f.txt"}),
        (b"a/b; name=my file (1).pdf", "a/b", {"name": "my file (1).pdf"}),
        (b"a/b; name*=utf-8'de'%C3%A4.txt; name=x", "a/b", {"name": "ä.txt"}),
        (b"a/b; name*0=a; name*2=c; name*1=b", "a/b", {"name": "abc"}),
        (b"a/b; name*1*=%A9; name*0*=utf-8''%C3", "a/b", {"name": "é"}),
        (b"a/b; name==?utf-8?Q?=C3=A4?=", "a/b", {"name": "ä"}),
        (b"a/b; x=1; x=2", "a/b", {"x": "1"}),
        (b"attachment", "attachment", {}),
        (b"", "", {}),
        (b";;;", "", {}),
    ],
)
def test_a_structured_field(field: bytes, value: str, parameters: dict[str, str]) -> None:
    assert parse_structured(field) == (value, parameters)


@pytest.mark.parametrize(
    ("encoded", "octets"),
    [
        (b"aGVsbG8=", b"hello"),
        (b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"aGVsbG8", b"hello"),
        (b"aGVsb*G8", b"hello"),
        (b"aGVsbG8=d29ybGQ=", b"helloworld"),
        (b"aGVsbG8=x", b"hello"),
        (b"a", b""),
        (b"", b""),
    ],
)
def test_base_64_as_far_as_it_goes(encoded: bytes, octets: bytes) -> None:
    assert decode_base64(encoded) == octets


@pytest.mark.parametrize("damage", [b"", b"*", b"=", b"\r\n"])
def test_a_large_attachment_is_measured_as_it_is_decoded(damage: bytes) -> None:
    import base64
    import hashlib
    import random

    content = random.Random(1).randbytes(2 * CHUNK_OCTETS + 12_345)
    encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    encoded = encoded[:2_000_001] + damage + encoded[2_000_001:]
    decoded = decode_transfer(encoded, "base64")
    raw = b"before" + encoded + b"after"
    size, digest = measure(raw, 6, 6 + len(encoded), "base64")
    assert (size, digest) == (len(decoded), hashlib.sha256(decoded).hexdigest())
    assert (decoded == content) == (damage in (b"", b"*", b"\r\n"))


def test_quoted_printable_and_uuencode() -> None:
    assert decode_transfer(b"a= \r\nb=3D=zz=C3=A9", "quoted-printable") == b"ab==zz\xc3\xa9"
    assert decode_transfer(b"begin 644 a\r\n#86)C\r\n`\r\nend\r\n", "x-uuencode") == b"abc"
    assert decode_transfer(b"as it is", "x-unknown") == b"as it is"


def test_dates() -> None:
    assert parse_date(b" Fri, 20 Nov 2026 10:00:01 +0130 (comment)") == datetime(
        2026, 11, 20, 10, 0, 1, tzinfo=timezone(timedelta(minutes=90))
    )
    assert parse_date(b"20 Nov 26 10:00 GMT") == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert parse_date(b"Fri, 20 Nov 2026 23:59:60 -0000") == datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)
    for broken in (b"", b"yesterday", b"Fri, 31 Feb 2026 10:00:00 +0000", b"1 Jan 0001 00:00:00 +2359", b"x" * 1000):
        assert parse_date(broken) is None


def test_message_ids() -> None:
    assert message_ids(b" <a@b>\r\n <c @d> junk <>", limit=10) == ["<a@b>", "<c@d>"]
    assert message_ids(b"a@b c", limit=10) == ["a@b"]
    assert message_ids(b"".join(b"<%d>" % n for n in range(50)), limit=3) == ["<0>", "<48>", "<49>"]
    assert message_ids(b"<" + b"x" * 5000 + b">", limit=3) == []


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.txt", "x.txt"),
        ("a\r\nb\0.txt", "ab.txt"),
        ("exe.\u202efdp.exe", "exe.fdp.exe"),
        ("", "attachment"),
        ("..", "attachment"),
        ("/", "attachment"),
        (".profile", "profile"),
        ("x" * 500 + ".pdf", "x" * 196 + ".pdf"),
        ("ä" * 300, "ä" * 100),
    ],
)
def test_a_name_that_may_be_written_to_a_disk(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


def test_an_id_is_shown_as_sent() -> None:
    from clawmail.protocol.mime.parse import parse_message

    assert parse_message(b"Message-ID: <a@b>\r\n\r\n").message_id == "<a@b>"
    assert parse_message(b"Message-ID: 102.1020\r\n\r\n").message_id == "102.1020"
    assert parse_message(b"Message-ID:\r\n\r\n").message_id is None


def test_names_are_made_up_where_there_is_none() -> None:
    assert made_up_name("image/png", 2) == "attachment-2.png"
    assert made_up_name("message/rfc822", 1, "Re: a/b?") == "Re a b.eml"
    assert made_up_name("message/rfc822", 1) == "message.eml"
    assert made_up_name("x/unheard-of", 3) == "attachment-3.bin"


def test_caps_limit_what_is_looked_at_and_say_so() -> None:
    from clawmail.protocol.mime.header import MAX_FIELDS
    from clawmail.protocol.mime.parse import attachment_content, parse_message
    from clawmail.protocol.mime.structure import MAX_PARTS

    signed = parse_message(b"DKIM-Signature: v=1\r\n" * 5_000 + b"From: a@b.c\r\nSubject: s\r\n\r\nx")
    assert signed.from_ is not None, "five thousand signatures do not hide the author"
    many_fields = parse_message(b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\nbody")
    assert (len(many_fields.headers), many_fields.text) == (MAX_FIELDS, "body")
    assert "not all looked at" in many_fields.notes[0]
    long = parse_message(b"Subject: " + b"x" * 2_000_000 + b"\r\n\r\n")
    assert long.subject == "x" * 2_000_000
    part = b"--b\r\nContent-Type: image/png\r\n\r\nPNG\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * (MAX_PARTS + 5) + b"--b--\r\n"
    many_parts = parse_message(raw)
    assert len(many_parts.attachments) == MAX_PARTS - 1
    assert "not looked at" in many_parts.notes[0]
    assert attachment_content(raw, MAX_PARTS - 2) == b"PNG"
