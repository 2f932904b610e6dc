"""Which parts are the message's text and which are its attachments (RFC 8621 section 4.1.4).

The rule is that of JMAP: plain and HTML text is body unless it is marked an attachment, or carries a file name and is
not the first of its multipart, or is a later part of a multipart/related. Pictures and sound shown between texts are
body there as well; here they count as attachments, because a program wants them as files.
"""

from __future__ import annotations

import re

from .charset import codec_for, decode_text
from .structure import Part, Structure
from .transfer import decode_transfer, never_encoded

#: octets of HTML that are searched for the charset it declares about itself.
MAX_META_OCTETS = 1024

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_BODY_TYPES = ("text/plain", "text/html")


def sort_parts(structure: Structure) -> tuple[list[Part], list[Part]]:
    """The body parts and the attachments, each in the order of the message."""
    bodies: list[Part] = []
    attachments: list[Part] = []
    # (part, its place in the multipart, the subtype of that multipart): a stack, as depth is a stranger's choice.
    waiting = [(structure.root, 0, "")]
    while waiting:
        part, place, around = waiting.pop()
        subtype = part.content_type[10:] if part.content_type.startswith("multipart/") else ""
        if part.children:
            waiting.extend((child, i, subtype) for i, child in reversed(list(enumerate(part.children))))
        elif part.children is not None or _is_body(part, place, around):
            # A multipart that was opened and in which no part was found: its text is better shown than hidden.
            bodies.append(part)
        else:
            attachments.append(part)
    return bodies, attachments


def _is_body(part: Part, place: int, around: str) -> bool:
    if part.content_type not in _BODY_TYPES or part.disposition == "attachment":
        return False
    # "If multipart/related, only the first part can be inline. If a text part with a filename, and not the first item
    # in the multipart, assume it is an attachment."
    return place == 0 or (around != "related" and not part.filename)


def body_text(raw: bytes, part: Part) -> str:
    """The decoded text of a body part, lines ended by LF; every character that cannot be decoded is U+FFFD."""
    octets = raw[part.start : part.end]
    if part.encoding != "base64" or not never_encoded(octets):
        octets = decode_transfer(octets, part.encoding)
    label = part.parameters.get("charset")
    if part.content_type == "text/html" and (not label or codec_for(label) is None) and not octets.isascii():
        declared = _META_CHARSET.search(octets, 0, MAX_META_OCTETS)
        label = declared[1].decode("ascii", "replace") if declared else label
        if label and label.lower().startswith("utf-16"):
            label = None  # then the declaration itself could not have been read
    text = decode_text(octets, label)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
