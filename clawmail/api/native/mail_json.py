"""Emails as JSON of any size: small ones at once, large ones in pieces.

A subject or a body may have megabytes, and a page a hundred of them. What the store left out of a list because of its
weight is fetched when its turn comes, one email at a time, and its bodies are written as the last two fields of its
object; a client that reads slowly makes us wait, and never makes us hold more than one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import msgspec

from clawmail.api.native.mail_answers import EmailAnswer
from clawmail.api.native.mail_shapes import email
from clawmail.core.mailbox import LISTED_WEIGHT, Mailbox
from clawmail.model.mailbox import EmailView

#: characters of a text that are encoded at once.
PIECE_CHARACTERS = 256 * 1024

_encode = msgspec.json.Encoder().encode


def is_large(view: EmailView) -> bool:
    """The texts of this email do not come along in a list."""
    return view.weight > LISTED_WEIGHT


async def large_email(answer: EmailAnswer, view: EmailView) -> AsyncIterator[bytes]:
    """An email that was shaped without its bodies, and its bodies."""
    yield _encode(answer)[:-1]
    for name, body in ((b"body_text", view.body_text), (b"body_html", view.body_html)):
        yield b',"' + name + b'":'
        for piece in _text_pieces(body):
            yield piece
    yield b"}"


async def email_list(views: list[EmailView], mailbox: Mailbox, inbox_id: UUID) -> AsyncIterator[bytes]:
    """A JSON array of emails, large ones among them; one that was deleted meanwhile is left out."""
    mark = b"["
    for view in views:
        if not is_large(view):
            yield mark + _encode(email(view))
        elif (whole := await mailbox.whole(inbox_id, view.id)) is not None:
            yield mark
            async for piece in large_email(email(whole, with_bodies=False), whole):
                yield piece
        else:
            continue
        mark = b","
    yield b"]" if mark == b"," else b"[]"


def _text_pieces(text: str | None) -> Iterator[bytes]:
    if text is None:
        yield b"null"
        return
    yield b'"'
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield _encode(text[start : start + PIECE_CHARACTERS])[1:-1]
    yield b'"'
