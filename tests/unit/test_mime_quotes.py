"""New words apart from old ones, and the words of an answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clawmail.protocol.mime.mailboxes import Mailbox
from clawmail.protocol.mime.parse import parse_message
from clawmail.protocol.mime.quotes import split_html_reply, split_reply
from clawmail.protocol.mime.reply import (
    MAX_CHAIN_CHARS,
    MAX_CHAIN_IDS,
    forward_subject,
    forwarded_html,
    forwarded_text,
    reference_chain,
    reply_recipients,
    reply_subject,
)


@pytest.mark.parametrize(
    ("text", "new", "signature"),
    [
        ("Just words.\n", "Just words.", ""),
        ("Yes.\n\nOn Mon, 1 Jan 2026 at 10:00, Ann <a@b.c> wrote:\n> old\n> older\n", "Yes.", ""),
        ("Yes.\n\nOn Mon, 1 Jan 2026 at 10:00, Ann Long Name\n<a@b.c> wrote:\n\nold without marks\n", "Yes.", ""),
        ("Ja.\n\nAm 01.01.2026 um 10:00 schrieb Ann <a@b.c>:\n> alt\n", "Ja.", ""),
        ("Oui.\n\nLe lun. 1 janv. 2026 à 10:00, Ann a écrit :\n> vieux\n", "Oui.", ""),
        ("好。\n\n在 2026年1月1日，Ann 写道：\n> 旧\n", "好。", ""),
        ("Top.\n\n-----Original Message-----\nFrom: Ann\nSent: Monday\nTo: Bob\n\nold", "Top.", ""),
        ("Top.\n\nFrom: Ann <a@b.c>\nSent: Monday\nTo: Bob\nSubject: x\n\nold", "Top.", ""),
        ("Top.\n________________________________\nVon: Ann\n\nalt", "Top.", ""),
        (
            "On Mon Ann wrote:\n> first question\nFirst answer.\n> second\nSecond answer.\n",
            "First answer.\nSecond answer.",
            "",
        ),
        ("Words.\n-- \nAnn Example\nExample Inc.\n", "Words.", "-- \nAnn Example\nExample Inc."),
        ("Words.\n\nSent from my telephone\n", "Words.", "Sent from my telephone"),
        ("Words -- with dashes.\nOn the other hand: no.\n", "Words -- with dashes.\nOn the other hand: no.", ""),
        ("From: here\nit goes on.\n", "From: here\nit goes on.", ""),
        ("-- \n" + "x\n" * 40, ("-- \n" + "x\n" * 40).strip(), ""),
        ("", "", ""),
    ],
)
def test_new_words(text: str, new: str, signature: str) -> None:
    pieces = split_reply(text)
    assert pieces.new == new
    assert pieces.signature == signature
    assert split_reply(text.replace("\n", "\r\n")) == pieces


@pytest.mark.parametrize(
    ("html", "new"),
    [
        ("<p>Yes.</p>", "<p>Yes.</p>"),
        ('<div>Yes.</div><div class="gmail_quote"><div>On … wrote:</div><blockquote>x</blockquote></div><p>after</p>',
         "<div>Yes.</div><p>after</p>"),
        ('<body><p>Top<blockquote type="cite">old</blockquote></body>', "<body><p>Top</body>"),
        ('<body><div>Top<hr id="stopSpelling">old</div></body>', "<body><div>Top</div></body>"),
        ('<div>a</div><div id="divRplyFwdMsg">From: x</div><div>old</div>', "<div>a</div>"),
        ('<div>a</div><div class="x gmail_quote gmail_quote_container">never closed', "<div>a</div>"),
    ],
)  # fmt: skip
def test_new_words_in_html(html: str, new: str) -> None:
    assert split_html_reply(html)[0] == new


def test_subjects() -> None:
    assert reply_subject("Hello") == "Re: Hello"
    assert reply_subject("RE: Hello") == "RE: Hello"
    assert reply_subject("Aw: Hallo") == "Aw: Hallo"
    assert reply_subject("Re[2]: Hello") == "Re[2]: Hello"
    assert reply_subject("Reason: none") == "Re: Reason: none"
    assert reply_subject(None) == "Re:"
    assert forward_subject("Hello") == "Fwd: Hello"
    assert forward_subject("Fw: Hello") == "Fw: Hello"
    assert forward_subject("") == "Fwd:"


def test_the_chain_of_references() -> None:
    assert reference_chain(("<a>", "<b>"), "<b>", "<c>") == ("<a>", "<b>", "<c>")
    assert reference_chain((), "<a>", "<b>") == ("<a>", "<b>")
    assert reference_chain((), None, None) == ()
    assert reference_chain(("<a>",), None, "<a>") == ("<a>",)
    long = reference_chain(tuple(f"<{n}>" for n in range(100)), None, "<new>")
    assert len(long) == MAX_CHAIN_IDS
    assert (long[0], long[-2:]) == ("<0>", ("<99>", "<new>"))
    wide = reference_chain(tuple(f"<{n}{'x' * 900}>" for n in range(10)), None, "<new>")
    assert (wide[0][:2], wide[-1]) == ("<0", "<new>")
    assert sum(map(len, wide)) <= MAX_CHAIN_CHARS


def test_a_message_passed_on() -> None:
    message = parse_message(
        b"From: Ann <a@x.y>\r\nTo: Bob <b@x.y>\r\nReply-To: c@x.y\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n"
        b"Subject: Fun & games\r\nContent-Type: text/html\r\n\r\n<html><body class=x><p>Hi</p></body></html>"
    )
    assert message.date == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert reply_recipients(message) == (Mailbox("", "c@x.y"),)
    text = forwarded_text(message, "See below.")
    assert text.startswith(
        "See below.\n\n---------- Forwarded message ----------\nFrom: Ann <a@x.y>\nDate: Fri, 20 Nov 2026"
    )
    html = forwarded_html(message, "<p>See below.</p>")
    assert html is not None
    assert "<blockquote><p>Hi</p></blockquote>" in html
    assert "Fun &amp; games" in html
    assert "Ann &lt;a@x.y&gt;" in html
    assert forwarded_html(parse_message(b"Subject: x\r\n\r\ntext")) is None
