"""What we write, read back by the standard library."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.mime.compose import Draft, File, compose, is_reserved, write
from clawmail.protocol.mime.encode import ComposeError
from clawmail.protocol.mime.mailboxes import Mailbox
from clawmail.protocol.mime.parse import attachment_content, parse_message, parse_written

DRAFT = Draft(
    from_=Mailbox("Ann Example", "ann@example.org"),
    message_id="<1@example.org>",
    date=datetime(2026, 11, 20, 10, tzinfo=UTC),
    to=(Mailbox("", "bob@example.com"),),
    subject="Hello",
    text="Hi Bob\n",
)


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert not message.defects
    assert all(not part.defects for part in message.walk())
    return message


def assert_fit_for_any_hop(raw: bytes) -> None:
    assert raw.isascii()
    lines = raw.split(b"\r\n")
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert not any(line.startswith(b"From ") for line in lines)


def types(message: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in message.walk()]


def test_a_plain_message() -> None:
    raw = compose(DRAFT)
    assert raw == (
        b"From: Ann Example <ann@example.org>\r\nTo: bob@example.com\r\nSubject: Hello\r\n"
        b"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHi Bob\r\n"
    )
    assert compose(DRAFT) == raw, "the same draft gives the same octets"


@pytest.mark.parametrize("place", ["{}", "before\n{}", "{}\nbehind", "before\n{}\nbehind\n"])
def test_a_line_is_sent_as_it_is_as_long_as_it_fits_any_hop(place: str) -> None:
    for length, encoding in ((996, "7bit"), (997, "quoted-printable"), (5000, "quoted-printable")):
        text = place.format("x" * length)
        raw = compose(replace(DRAFT, text=text))
        assert_fit_for_any_hop(raw)
        assert read(raw)["Content-Transfer-Encoding"] == encoding
        assert parse_message(raw).text == text.removesuffix("\n") + "\n"


def test_the_structure_follows_the_content() -> None:
    pdf = File("a.pdf", "application/pdf", b"PDF")
    picture = File("p.png", "image/png", b"PNG", "pic@example.org")
    assert types(read(compose(replace(DRAFT, html="<p>Hi")))) == ["multipart/alternative", "text/plain", "text/html"]
    assert types(read(compose(replace(DRAFT, text=None, html="<p>Hi")))) == ["text/html"]
    assert types(read(compose(replace(DRAFT, text=None)))) == ["text/plain"]
    assert types(read(compose(replace(DRAFT, attachments=(pdf,))))) == [
        "multipart/mixed",
        "text/plain",
        "application/pdf",
    ]
    whole = read(compose(replace(DRAFT, html="<img src=cid:pic@example.org>", attachments=(pdf, picture))))
    assert types(whole) == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
        "application/pdf",
    ]  # fmt: skip
    assert (
        next(part for part in whole.walk() if part.get_content_type() == "image/png")["Content-ID"]
        == "<pic@example.org>"
    )


def test_bcc_is_never_written_and_nobody_is_said_to_be_nobody() -> None:
    assert b"bcc" not in compose(DRAFT).lower()
    assert b"To: undisclosed-recipients:;\r\n" in compose(replace(DRAFT, to=()))


@pytest.mark.parametrize(
    ("field", "draft"),
    [
        ("subject", replace(DRAFT, subject="a\r\nBcc: x@y.z")),
        ("subject", replace(DRAFT, subject="a\nb")),
        ("subject", replace(DRAFT, subject="a\0")),
        ("subject", replace(DRAFT, subject="x" * 100_000)),
        ("from", replace(DRAFT, from_=Mailbox("a\rb", "a@b.c"))),
        ("to", replace(DRAFT, to=(Mailbox("", "a@b.c\r\nX: y"),))),
        ("cc", replace(DRAFT, cc=(Mailbox("x\n", "a@b.c"),))),
        ("reply_to", replace(DRAFT, reply_to=(Mailbox("x\n", "a@b.c"),))),
        ("message_id", replace(DRAFT, message_id="<a>\r\nX: y")),
        ("in_reply_to", replace(DRAFT, in_reply_to="<a>\n")),
        ("references", replace(DRAFT, references=("<a>\n",))),
        ("headers.X-A", replace(DRAFT, headers={"X-A": "b\r\nX-B: c"})),
        ("headers.Bcc", replace(DRAFT, headers={"Bcc": "x@y.z"})),
        ("headers.'X A'", replace(DRAFT, headers={"X A": "b"})),
        ("attachments[0].filename", replace(DRAFT, attachments=(File("a\r\nb", "a/b", b""),))),
        ("attachments[0].content_type", replace(DRAFT, attachments=(File("a", "nonsense", b""),))),
        ("attachments[0].content_id", replace(DRAFT, html="x", attachments=(File("a", "a/b", b"", "a b"),))),
        ("attachments[0]", replace(DRAFT, attachments=(File("a", "a/b\r\nX: y", b""),))),
    ],
)
def test_what_would_end_a_header_line_is_refused(field: str, draft: Draft) -> None:
    with pytest.raises(ComposeError) as caught:
        compose(draft)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "word",
    ["=?utf-8?q?a=0D=0ABcc:_x@y.z?=", "=?utf-8?b?YQ0KQmNjOiB4QHkueg==?=", "a =?us-ascii?q?=0A?= =?utf-8?q?Bcc:_x?="],
)
def test_a_line_break_hidden_in_an_encoded_word_is_refused(word: str) -> None:
    # CVE-2024-6923: the standard library of Python 3.11.7 decodes the word and writes the line break as it is.
    for draft in (
        replace(DRAFT, subject=word),
        replace(DRAFT, headers={"X-A": word}),
        replace(DRAFT, from_=Mailbox(word, "a@b.c")),
    ):
        with pytest.raises(ComposeError, match="line break"):
            compose(draft)


def test_an_encoded_word_in_a_subject_is_text_and_in_a_header_is_an_encoded_word() -> None:
    raw = compose(replace(DRAFT, subject="=?utf-8?q?x?=", headers={"X-A": "=?utf-8?q?=C3=A4?="}))
    assert parse_message(raw).subject == "=?utf-8?q?x?="
    assert b"X-A: =?utf-8?q?=C3=A4?=\r\n" in raw


def test_the_server_writes_its_own_fields() -> None:
    for name in ("From", "BCC", "date", "ARC-Seal", "Content-Type", "DKIM-Signature", "Received", "MIME-Version"):
        assert is_reserved(name)
    assert not is_reserved("X-Mine")
    assert not is_reserved("List-Unsubscribe")
    raw = compose(replace(DRAFT, in_reply_to="<a@b>", headers={"In-Reply-To": "<c@d>", "References": "<e@f>"}))
    assert raw.count(b"In-Reply-To:") == 1
    assert b"References: <e@f>\r\n" in raw


def test_lines_are_folded_and_long_words_survive() -> None:
    references = tuple(f"<{n}.{'x' * 60}@example.org>" for n in range(50))
    to = tuple(Mailbox(f"Person, Number {n}", f"p{n}@example.com") for n in range(100))
    raw = compose(replace(DRAFT, subject="word " * 200 + "y" * 2_000, references=references, to=to))
    assert_fit_for_any_hop(raw)
    message = parse_message(raw)
    assert message.references == references
    assert message.to == to
    assert message.subject == "word " * 200 + "y" * 2_000


def test_a_message_as_a_file_is_sent_as_octets() -> None:
    raw = compose(replace(DRAFT, attachments=(File("m.eml", "message/rfc822", b"Subject: x\r\n\r\ny"),)))
    assert types(read(raw))[-1] == "application/octet-stream"
    assert attachment_content(raw, 0) == b"Subject: x\r\n\r\ny"


ODD_TEXTS = [
    "",
    "\n",
    "\ufeffmark",
    "\x1b$B8l",
    "\x1b$Bä",
    "nul\0",
    "\ud800",
    "a\rb\r\nc\n\n",
    "--\n--x--",
    "blank \n",
    "\x0c=?",
]


@pytest.mark.parametrize("html", [None, "<meta charset=utf-16>ä", *ODD_TEXTS])
@pytest.mark.parametrize("text", [None, "Hello", "语" * 2_000, *ODD_TEXTS])
def test_a_header_is_read_as_of_the_whole_message_and_the_texts_are_those_it_has(
    text: str | None, html: str | None
) -> None:
    raw, *texts = write(replace(DRAFT, text=text, html=html, headers={"X-Odd": "=?utf-8?q?=C3=A4?="}))
    signed = b"DKIM-Signature: v=1;\r\n\tb=\r\n" + raw
    assert parse_written(signed, *texts) == parse_message(signed)


line = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\x85\u2028\u2029"), max_size=120)
body = st.lists(
    st.one_of(line, st.sampled_from(["From me", ".", "> x", "x" * 1500, "ä" * 400, "tab\t "])), max_size=8
).map("\n".join)
files = st.builds(
    lambda name, kind, content: File(name, kind, content),
    line.filter(lambda name: bool(name.strip())),
    st.sampled_from(["text/csv", "image/png"]),
    st.binary(max_size=200),
)


@given(line, line, body, st.none() | body, st.lists(files, max_size=3))
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_is_read_back(
    subject: str, name: str, text: str, html: str | None, attachments: list[File]
) -> None:
    draft = replace(
        DRAFT,
        subject=subject,
        from_=Mailbox(name.strip(), "ann@example.org"),
        text=text,
        html=html,
        attachments=tuple(attachments),
    )
    try:
        raw, *texts = write(draft)
    except ComposeError:
        assert "=?" in subject + name + "".join(item.filename for item in attachments)
        return
    assert_fit_for_any_hop(raw)
    ours = parse_message(raw)
    assert attachments or ours == parse_written(raw, *texts)
    assert ours.subject == subject.strip(" ")
    assert ours.from_ is not None
    assert ours.from_.name.split() == name.split()
    assert ours.text is not None
    assert ours.text.rstrip("\n") == text.rstrip("\n")
    assert (ours.html or "").rstrip("\n") == (html or "").rstrip("\n")
    assert [attachment_content(raw, part.index) for part in ours.attachments] == [item.content for item in attachments]
    assert [part.filename.strip() for part in ours.attachments] == [item.filename.strip() for item in attachments]
    theirs = read(raw)
    plain = theirs.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
