"""Answering and passing on: subjects, the References chain (RFC 5322 section 3.6.4), quoted originals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from .mailboxes import Mailbox
from .parse import ParsedMessage

#: ids of a References field, and characters of them together: long chains keep the first and the newest.
MAX_CHAIN_IDS = 20
MAX_CHAIN_CHARS = 2_000

_REPLY_MARK = re.compile(r"\s*(?:re|aw|sv|vs|antw|odp|res|rif)(?:\[\d{1,3}\]|\^\d{1,3})?\s?[:：]", re.IGNORECASE)
_FORWARD_MARK = re.compile(r"\s*(?:fwd?|wg|tr|rv|enc|doorst)\s?[:：]", re.IGNORECASE)
_BODY = re.compile(r"<body\b[^<>]{0,2000}>(.*?)(?:</body\s*>|\Z)", re.IGNORECASE | re.DOTALL)


def reply_subject(subject: str | None) -> str:
    """``subject`` with "Re: " before it, once."""
    subject = (subject or "").strip()
    return subject if _REPLY_MARK.match(subject) else f"Re: {subject}".rstrip(" ") if subject else "Re:"


def forward_subject(subject: str | None) -> str:
    """``subject`` with "Fwd: " before it, once."""
    subject = (subject or "").strip()
    return subject if _FORWARD_MARK.match(subject) else f"Fwd: {subject}" if subject else "Fwd:"


def reference_chain(references: Sequence[str], in_reply_to: str | None, message_id: str | None) -> tuple[str, ...]:
    """The References of an answer: those of the message answered and its own id at the end.

    Without References the parent's In-Reply-To takes their place (RFC 5322 section 3.6.4). The first id, which names
    the thread, and the newest are kept when the chain grows too long.
    """
    chain = list(references) or ([in_reply_to] if in_reply_to else [])
    if message_id:
        chain.append(message_id)
    chain = list(dict.fromkeys(chain))
    if len(chain) > MAX_CHAIN_IDS:
        chain = chain[:1] + chain[1 - MAX_CHAIN_IDS :]
    while len(chain) > 2 and sum(map(len, chain)) > MAX_CHAIN_CHARS:
        del chain[1]
    return tuple(chain)


def reply_recipients(message: ParsedMessage) -> tuple[Mailbox, ...]:
    """To whom an answer goes: Reply-To, else the author."""
    return message.reply_to or ((message.from_,) if message.from_ else ())


def forwarded_text(message: ParsedMessage, comment: str | None = None) -> str:
    """The plain body of a forward: the caller's words, then the original below its own header lines."""
    lines = ["---------- Forwarded message ----------", *(f"{name}: {value}" for name, value in _summary(message))]
    quoted = "\n".join(lines) + "\n\n" + (message.text or "")
    return f"{comment.rstrip()}\n\n{quoted}" if comment else quoted


def forwarded_html(message: ParsedMessage, comment: str | None = None) -> str | None:
    """The HTML body of a forward, or None when neither the original nor ``comment`` is HTML."""
    if message.html is None and comment is None:
        return None
    summary = "<br>\n".join(f"<b>{name}:</b> {escape(value)}" for name, value in _summary(message))
    if message.html is not None:
        inner = _BODY.search(message.html)
        original = inner[1] if inner else message.html
    else:
        original = f"<pre>{escape(message.text or '')}</pre>"
    opening = f"{comment}\n<br><br>\n" if comment else ""
    head = "---------- Forwarded message ----------"
    return f"{opening}<div>{head}<br>\n{summary}</div>\n<br>\n<blockquote>{original}</blockquote>\n"


def _summary(message: ParsedMessage) -> list[tuple[str, str]]:
    lines = [
        ("From", _shown((message.from_,) if message.from_ else ())),
        ("Date", message.date.strftime("%a, %d %b %Y %H:%M:%S %z") if message.date else ""),
        ("Subject", message.subject or ""),
        ("To", _shown(message.to)),
        ("Cc", _shown(message.cc)),
    ]
    return [(name, value) for name, value in lines if value]


def _shown(mailboxes: Sequence[Mailbox]) -> str:
    return ", ".join(f"{box.name} <{box.address}>" if box.name else box.address for box in mailboxes)
