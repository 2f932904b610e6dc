"""Odd mail: what strangers really send, and what nobody should, each with what has to be seen of it all the same.

Every message here obeys SMTP (its lines end with CRLF, it fits the size limit); what is odd is its inside.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Any

TO = "agent@odd.example"
#: 24 MiB, the largest file that a message of 25 MiB has room for when it is sent as it is.
LARGE_FILE_BYTES = 24 * 1024 * 1024


@dataclass(frozen=True)
class Oddity:
    """A message and what the API has to show of it."""

    raw: bytes
    #: fields of the email object that have to have exactly these values.
    shown: dict[str, Any] = field(default_factory=dict)
    #: pieces that the body text has to hold.
    text: tuple[str, ...] = ()
    #: words that one of the email's notes has to hold.
    noted: str = ""
    #: content of each attachment by the number it is downloaded by, from 1.
    files: dict[int, bytes] = field(default_factory=dict)


def message(*lines: bytes, body: bytes = b"Hi there\r\n", subject: bytes = b"odd") -> bytes:
    """A message with the usual fields, ``lines`` below them."""
    usual = [b"From: Ann <ann@elsewhere.test>", b"To: " + TO.encode(), b"Subject: " + subject]
    return b"\r\n".join([*usual, *lines, b"", body])


def _typed(content_type: bytes, body: bytes, *, encoding: bytes = b"8bit") -> bytes:
    fields = (b"MIME-Version: 1.0", b"Content-Type: " + content_type, b"Content-Transfer-Encoding: " + encoding)
    return message(*fields, body=body)


def _base64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def _mixed(*parts: bytes, close: bool = True) -> bytes:
    inner = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts)
    return _typed(b'multipart/mixed; boundary="edge"', inner + (b"--edge--\r\n" if close else b""))


def _file(disposition: bytes, content: bytes = b"content", content_type: bytes = b"application/pdf") -> bytes:
    fields = (
        b"Content-Type: " + content_type,
        b"Content-Disposition: " + disposition,
        b"Content-Transfer-Encoding: base64",
    )
    return b"\r\n".join([*fields, b"", _base64(content)])


def _nested(depth: int) -> bytes:
    body = b"\r\nthe innermost\r\n"
    for level in range(depth):
        edge = b"edge%d" % level
        body = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n%s\r\n--%s--\r\n' % (
            edge,
            edge,
            body.removeprefix(b"\r\n") if level else body,
            edge,
        )
    return b"From: a@elsewhere.test\r\nTo: %s\r\nSubject: odd\r\nMIME-Version: 1.0\r\n%s" % (TO.encode(), body)


def _large_file() -> tuple[bytes, bytes]:
    """A file of 24 MiB that needs no encoding: lines of octets beyond ASCII."""
    line = bytes(range(0xA0, 0x100)) * 10 + b"\r\n"
    content = (line * (LARGE_FILE_BYTES // len(line) + 1))[: LARGE_FILE_BYTES - 2] + b"\r\n"
    part = b'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="large.bin"\r\n'
    return part + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + content, content


_SMILE = b"=?utf-16?b?" + base64.b64encode("Grüße 😀".encode("utf-16")) + b"?="
_NOISE = random.Random(2).randbytes(20_000)
_LARGE_PART, _LARGE_CONTENT = _large_file()
_INNER = b"From: Inner <inner@elsewhere.test>\r\nSubject: the inner one\r\n\r\nInner text\r\n"

ODDITIES: dict[str, Oddity] = {
    # Characters.
    "8-bit without a charset": Oddity(message(body="Grüße aus Köln\r\n".encode("latin-1")), text=("Grüße aus Köln",)),
    "8-bit in header fields": Oddity(message(subject="Grüße".encode()), {"subject": "Grüße"}),
    "UTF-16 body": Oddity(
        _typed(b"text/plain; charset=utf-16", _base64("Grüße 😀".encode("utf-16")), encoding=b"base64"),
        text=("Grüße 😀",),
    ),
    "UTF-16 in an encoded word": Oddity(message(subject=_SMILE), {"subject": "Grüße 😀"}),
    "a charset nobody knows": Oddity(_typed(b"text/plain; charset=klingon-8", b"plain enough\r\n"), text=("plain",)),
    "a charset that lies": Oddity(_typed(b"text/plain; charset=us-ascii", "Grüße\r\n".encode()), text=("Gr",)),
    "NUL in the body": Oddity(message(body=b"before\0after\r\n"), text=("before", "after")),
    "NUL in the subject": Oddity(message(subject=b"before\0after")),
    "NUL in an encoded word": Oddity(message(subject=b"=?utf-8?q?before=00after?=")),
    "lone surrogates in an encoded word": Oddity(message(subject=b"=?utf-8?q?=ED=A0=80=ED=B0=80?= =?utf-7?q?+2AA-?=")),
    "a line end in an encoded word": Oddity(message(subject=b"=?utf-8?q?one=0D=0ABcc:_x=40y.test?=")),
    "an encoded word never closed": Oddity(message(subject=b"=?utf-8?b?R3LDvMOfZQ"), {}),
    "names right to left and of no width": Oddity(
        message(b"Cc: =?utf-8?q?=E2=80=AEnna=E2=80=8B_=D7=A9=D7=9C=D7=95=D7=9D?= <cc@elsewhere.test>"),
        {"cc_addresses": ["cc@elsewhere.test"]},
    ),
    "every octet there is": Oddity(message(body=bytes(o for o in range(256) if o not in (10, 13)) + b"\r\n")),
    # Header.
    "no Date, no Message-ID": Oddity(message(), {"message_id": None, "subject": "odd"}),
    "no From": Oddity(
        b"To: x@y.test\r\nSubject: odd\r\n\r\nHi\r\n", {"from_address": "stranger@elsewhere.test"}, text=("Hi",)
    ),
    "fields twice": Oddity(
        message(b"Subject: again", b"To: twice@elsewhere.test", b"From: two@elsewhere.test", b"Message-ID: <1@x>")
    ),
    "empty fields": Oddity(b"From:\r\nTo:\r\nCc: \r\nSubject:\r\nDate:\r\nMessage-ID:\r\n\r\nHi\r\n", {"subject": ""}),
    "200 addresses in To": Oddity(
        b"From: a@elsewhere.test\r\nTo: "
        + b",\r\n ".join(b"Name %d <to%d@elsewhere.test>" % (n, n) for n in range(200))
        + b"\r\nSubject: odd\r\n\r\nHi\r\n",
        {"to_addresses": [f"to{n}@elsewhere.test" for n in range(200)]},
    ),
    "a subject of 2 MB": Oddity(message(subject=b"long " * 400_000)),
    "a subject of 2 MB, folded": Oddity(message(subject=b"\r\n ".join([b"long" * 15] * 33_000))),
    "10,000 header fields": Oddity(
        message(*(b"X-Number-%d: %d" % (n, n) for n in range(10_000))), text=("Hi",), noted="more than 8192 fields"
    ),
    "addresses that are none": Oddity(
        b'From: <<<>>>,;:@ "\r\nTo: undisclosed recipients:;\r\nSubject: odd\r\n\r\nHi\r\n', text=("Hi",)
    ),
    "dates that are none": Oddity(message(b"Date: Fnord, 99 Foo 0000 99:99:99 +9999"), {"subject": "odd"}),
    "an mbox line on top": Oddity(b"From ann Thu Jan  1 00:00:00 2026\r\n" + message(), {"subject": "odd"}),
    "references without end": Oddity(message(b"References: " + b" ".join(b"<%d@x>" % n for n in range(5_000)))),
    # Shape.
    "header only": Oddity(b"From: a@elsewhere.test\r\nSubject: odd\r\n", {"subject": "odd"}),
    "no blank line": Oddity(b"From: a@elsewhere.test\r\nSubject: odd\r\nno field at all\r\n", {"subject": "odd"}),
    "body only": Oddity(b"\r\nHi there\r\n", {"subject": ""}, text=("Hi there",)),
    "a header that just ends": Oddity(b"From: a@elsewhere.test\r\nSubject: odd", {"subject": "odd"}),
    "a last line without an end": Oddity(message(body=b"Hi there"), text=("Hi there",)),
    "nothing at all": Oddity(b"", {"subject": "", "has_attachments": False}),
    "one empty line": Oddity(b"\r\n", {"subject": "", "has_attachments": False}),
    "dots": Oddity(message(body=b".\r\n..\r\n.hidden\r\n" * 3), text=(".hidden",)),
    "a line of a million octets": Oddity(message(body=b"x" * 1_000_000 + b"\r\n")),
    "a header line of 100,000 octets": Oddity(message(b"X-Long: " + b"x" * 100_000), text=("Hi",)),
    # MIME.
    "a nested message": Oddity(
        _mixed(b"\r\nOuter text", b"Content-Type: message/rfc822\r\n\r\n" + _INNER), text=("Outer",)
    ),
    "a forwarded message as the whole": Oddity(_typed(b"message/rfc822", _INNER), {"subject": "odd"}),
    "broken base64": Oddity(_typed(b"text/plain", b"SGkg*dGh\r\nlcmU\r\n%%%\r\n", encoding=b"base64"), text=("Hi",)),
    "broken quoted-printable": Oddity(
        _typed(b"text/plain", b"=ZZ =4 soft=\r\n end=\r\n", encoding=b"quoted-printable")
    ),
    "an encoding nobody knows": Oddity(_typed(b"text/plain", b"as it is\r\n", encoding=b"x-rot13"), text=("as it is",)),
    "a boundary never closed": Oddity(
        _mixed(b"\r\nOuter text", _file(b'attachment; filename="a.pdf"'), close=False),
        text=("Outer",),
        files={1: b"content"},
        noted="a multipart is not closed",
    ),
    "a boundary never opened": Oddity(_typed(b'multipart/mixed; boundary="edge"', b"all of it preamble\r\n")),
    "a boundary of nothing": Oddity(_typed(b'multipart/mixed; boundary=""', b"--\r\n\r\nHi\r\n----\r\n")),
    "1,000 parts": Oddity(_mixed(*(b"Content-Type: text/plain\r\n\r\npart %d" % n for n in range(1_000)))),
    "1,500 parts": Oddity(
        _mixed(*(b"Content-Type: text/plain\r\n\r\npart %d" % n for n in range(1_500))),
        noted="more than 1000 parts: the rest was not looked at",
    ),
    "200 deep": Oddity(_nested(200), noted="nested deeper than 50: the inner ones were not looked at"),
    "HTML alone": Oddity(_typed(b"text/html", b"<p>Hi</p>\r\n"), {"has_attachments": False}),
    "text that is no text": Oddity(_typed(b"text/plain", _base64(_NOISE), encoding=b"base64")),
    "a content type that is none": Oddity(_typed(b";;;=", b"Hi\r\n")),
    # Files.
    "names with paths and control characters": Oddity(
        _mixed(
            b"\r\nSee the files",
            _file(b'attachment; filename="../../etc/passwd"', b"one"),
            _file(b'attachment; filename="C:\\\\windows\\\\system.ini"', b"two"),
            _file(b"attachment; filename*=utf-8''a%00b%0D%0Ac%1B.txt", b"three"),
            _file(b'attachment; filename=".."', b"four"),
            _file(b"attachment; filename*=utf-8''%E2%80%AEfdp.exe", b"five"),
            _file(b'attachment; filename="' + b"n" * 5_000 + b'"', b"six"),
            _file(b"attachment", b"seven"),
        ),
        {"has_attachments": True},
        files=dict(enumerate((b"one", b"two", b"three", b"four", b"five", b"six", b"seven"), 1)),
    ),
    "winmail.dat": Oddity(
        _mixed(
            b"\r\nSee", _file(b'attachment; filename="winmail.dat"', b"\x78\x9f\x3e\x22rest", b"application/ms-tnef")
        ),
        {"attachments": ["winmail.dat"]},
        files={1: b"\x78\x9f\x3e\x22rest"},
    ),
    "S/MIME": Oddity(
        _typed(b"application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", b"MIIB\r\n", encoding=b"base64"),
        {"attachments": ["smime.p7m"]},
        files={1: base64.b64decode("MIIB")},
    ),
    "PGP/MIME": Oddity(
        _typed(
            b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="edge"',
            b"--edge\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--edge\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n--edge--\r\n",
        ),
        {"has_attachments": True},
    ),
    "a calendar": Oddity(
        _mixed(b"\r\nCome", b"Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR"),
        text=("Come",),
    ),
    "a file of 24 MiB": Oddity(
        _mixed(b"\r\nIt is large", _LARGE_PART),
        {"attachments": ["large.bin"]},
        text=("It is large",),
        files={1: _LARGE_CONTENT},
    ),
}
