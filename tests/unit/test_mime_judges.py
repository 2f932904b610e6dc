"""Our reader against the two libraries of the field: on no message may it show less than the better of them.

On sound messages, built by the standard library, all must agree. On broken ones the judges disagree with one another,
as a broken message has no right reading; there the words they show are counted, and we show as many, and with few
exceptions the same. The exceptions are boundaries: fast-mail-parser takes ``--xContent`` for a delimiter of ``x``, and
``email`` shows a whole multipart as it stands where we guess the boundary that it forgot to name. Encodings are left
out, as a moved octet changes the words themselves.
"""

from __future__ import annotations

import email
import email.policy
import random
import re
from email.message import EmailMessage, Message

import fast_mail_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.mime.parse import attachment_content, parse_message
from clawmail.protocol.mime.structure import read_structure

text = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\u2028\u2029\x85\ufeff"), max_size=200
)
words = st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1, max_size=30)
files = st.tuples(
    words, st.sampled_from(["application/pdf", "image/png", "application/x-thing"]), st.binary(max_size=300)
)


@st.composite
def sound_messages(draw: st.DrawFn) -> EmailMessage:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "Ann <ann@example.org>"
    message["Subject"] = draw(words)
    message.set_content(draw(text) + "\n", cte=draw(st.sampled_from(["quoted-printable", "base64", "8bit"])))
    if draw(st.booleans()):
        message.add_alternative(f"<p>{draw(words)}</p>\n", subtype="html")
    for name, kind, content in draw(st.lists(files, max_size=3)):
        main, sub = kind.split("/")
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return message


@given(sound_messages())
@settings(max_examples=150, deadline=None)
def test_sound_messages_are_read_as_everybody_reads_them(message: EmailMessage) -> None:
    raw = message.as_bytes()
    ours = parse_message(raw)
    theirs = email.message_from_bytes(raw, policy=email.policy.default)
    plain, html = theirs.get_body(("plain",)), theirs.get_body(("html",))
    assert ours.subject == theirs["subject"]
    assert plain is not None
    assert ours.text == plain.get_content().replace("\r\n", "\n")
    assert ours.html == (html.get_content().replace("\r\n", "\n") if html else None)
    attached = [
        (part.get_filename(), part.get_content_type(), part.get_content()) for part in theirs.iter_attachments()
    ]
    assert [(a.filename, a.content_type, attachment_content(raw, a.index)) for a in ours.attachments] == attached
    assert ours.notes == ()
    judge = fast_mail_parser.parse_email(raw)
    assert [(a.filename, a.mimetype, a.content) for a in judge.attachments] == attached


SEEDS = [
    b"From: a@b.c\r\nTo: d@e.f\r\nSubject: s\r\n\r\nplain words here\r\n",
    b"Received: x\r\njunk line\r\nSubject: ok\r\n\r\nbody",
    b"Subject: one\r\nSubject: two\r\nX-Empty:\r\nDate: xx\r\n\r\nb",
    b"Subject: m\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\nContent-Type: text/plain;"
    b' name="a b.txt"\r\n\r\ntwo\r\n--x--\r\n',
    b"Subject: p\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; "
    b"boundary=in\r\n\r\n--in\r\n\r\none\r\n--in\r\nContent-Type: text/html\r\n\r\n<p>two</p>\r\n--in--\r\n--x\r\n\r\n"
    b"three\r\n--x--\r\n",
    b"Subject: n\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: application/pdf; name=a.pdf"
    b"\r\nContent-Disposition: attachment\r\n\r\nPDF\r\n--x\r\n\r\nwords\r\n--x--\r\n",
]
PIECES = [b"\r\n", b"\n", b"--x", b"--x--", b"\r\n--x\r\n", b'"', b";", b" ", b"\xe9", b":", b"\t", b"<", b"("]
PIECES += [b"Content-Type: text/html\r\n", b"Content-Type: multipart/mixed; boundary=x\r\n"]
WORD = re.compile(r"[A-Za-z0-9]{2,}")


def damaged(seed: int) -> bytes:
    chance = random.Random(seed)
    octets = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(octets))
        end = min(len(octets), start + chance.randint(0, 20))
        match chance.randint(0, 2):
            case 0:
                del octets[start:end]
            case 1:
                octets[start:start] = chance.choice(PIECES)
            case _:
                octets[start:end] = chance.choice(PIECES)
    return bytes(octets)


def shown_by_us(raw: bytes) -> set[str]:
    message = parse_message(raw)
    shown = [message.text or "", message.html or "", *message.notes]
    shown += [f"{name} {value}" for name, value in message.headers]
    for attachment in message.attachments:
        content = attachment_content(raw, attachment.index)
        assert content is not None
        assert len(content) == attachment.size
        shown += [attachment.filename, content.decode("latin-1")]
    waiting = [read_structure(raw).root]
    while waiting:
        part = waiting.pop()
        waiting += part.children or []
        shown += [(name + b" " + value).decode("latin-1") for name, value in part.fields]
    return set(WORD.findall(" ".join(shown)))


def shown_by_email(raw: bytes) -> set[str]:
    def leaves(part: Message) -> list[Message]:
        payload = part.get_payload()
        return [leaf for child in payload for leaf in leaves(child)] if isinstance(payload, list) else [part]  # type: ignore[arg-type]  # a list holds messages

    message = email.message_from_bytes(raw)
    shown = [str(value) for value in message.values()]
    for leaf in leaves(message):
        payload = leaf.get_payload(decode=True)
        shown.append(payload.decode("latin-1") if isinstance(payload, bytes) else "")
    return set(WORD.findall(" ".join(shown)))


def shown_by_fast_mail_parser(raw: bytes) -> set[str]:
    try:
        mail = fast_mail_parser.parse_email(raw)
    except fast_mail_parser.ParseError:
        return set()
    shown = [*mail.text_plain, *mail.text_html, *(value for values in mail.headers.values() for value in values)]
    for attachment in mail.attachments:
        shown += [attachment.filename or "", attachment.content.decode("latin-1")]
    return set(WORD.findall(" ".join(shown)))


@pytest.mark.parametrize("block", range(8))
def test_on_broken_messages_we_show_as_much_as_the_better_judge(block: int) -> None:
    lost = 0
    for seed in range(block * 250, (block + 1) * 250):
        raw = damaged(seed)
        if raw.count(b"\r") != raw.count(b"\r\n"):
            continue  # a lone CR ends a line for ``email`` and for us, but not for fast-mail-parser; SMTP refuses it
        ours = shown_by_us(raw)
        for judge in (shown_by_email(raw), shown_by_fast_mail_parser(raw)):
            assert len(judge) <= len(ours) or judge <= ours, f"seed {seed}: {judge - ours} of {raw!r}"
            lost += bool(judge - ours)
    assert lost <= 5, "what we read otherwise than a judge is the exception"
