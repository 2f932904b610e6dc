"""Which header fields a signature covers (RFC 6376 section 5.4).

A signer names fields in ``h=``; a name stands for one field, counted from the bottom of the header, because new fields
are put on top. Naming one more than there are ("oversigning", section 8.15) signs its absence: whoever puts a second
From or Subject on top breaks the signature.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from clawmail.protocol.headers import HeaderField, RawMessage

#: names that we put into one h= at most; what a stranger's message has beyond is not signed when we seal it.
MAX_NAMES = 200

#: signed once more than they occur, so that nobody can add one.
OVERSIGNED = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
#: never signed: trace fields, and what relays and lists are known to change (RFC 6376 section 5.4.1).
UNSIGNED = frozenset(
    {
        b"return-path",
        b"received",
        b"received-spf",
        b"delivered-to",
        b"bcc",
        b"resent-bcc",
        b"comments",
        b"keywords",
        b"authentication-results",
        b"dkim-signature",
        b"arc-authentication-results",
        b"arc-message-signature",
        b"arc-seal",
    }
)

# A name with ";" is a field name by RFC 5322, but would end the tag; one of 60 characters is nobody's.
_LISTABLE = re.compile(rb"[!-9<-~]{1,60}")


def names_to_sign(message: RawMessage, *, also: Container[bytes] = ()) -> list[bytes]:
    """The h= list for a message, lower case: all it has, less ``UNSIGNED``, and ``OVERSIGNED`` once more.

    ``also`` holds names to sign although they are in ``UNSIGNED``.
    """
    names = list(OVERSIGNED)
    for name, fields in message.by_name.items():
        if (name not in UNSIGNED or name in also) and _LISTABLE.fullmatch(name):
            names += [name] * len(fields)
    return names[:MAX_NAMES]


def selected_fields(message: RawMessage, names: Sequence[bytes], own: HeaderField | None) -> list[HeaderField]:
    """The fields that h= names, in its order (RFC 6376 section 5.4.2).

    Each time a name comes up it stands for the next field of that name from the bottom, and for nothing when there is
    none left. ``own`` is the signature field itself, which never covers itself that way.
    """
    selected: list[HeaderField] = []
    remaining: dict[bytes, list[HeaderField]] = {}
    for name in names:
        fields = remaining.get(name)
        if fields is None:
            fields = remaining[name] = [field for field in message.by_name.get(name, ()) if field is not own]
        if fields:
            selected.append(fields.pop())
    return selected
