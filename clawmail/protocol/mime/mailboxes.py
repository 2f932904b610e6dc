"""Address fields as strangers write them: From, To, Cc, Reply-To (RFC 5322 section 3.4, and its obsolete 4.4).

The reader never fails. Groups are flattened to their members, names are decoded, comments become names where no better
one is given, forgotten commas and brackets are bridged, and what is no address at all is shown as it stands. It walks
the field once, token by token, so its cost is linear whatever the field holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .charset import decode_text
from .words import decode_words

#: mailboxes read from one header field, and octets of it that are looked at.
MAX_MAILBOXES = 2_000
MAX_FIELD_OCTETS = 128 * 1024
#: words, blanks and signs of a field that are looked at: each costs microseconds, and a field of nothing else has many.
MAX_TOKENS = 20_000
#: octets of a field that is tried against the plain shape below, whose matching may go back over blanks.
MAX_PLAIN_OCTETS = 200


class Mailbox(NamedTuple):
    """One person of an address field, as shown there."""

    #: display name, decoded; "" when there is none.
    name: str
    #: as written, comments and folding taken out; "" only where the sender wrote ``name <>``, as bounces do. May be
    #: something no mail can be sent to.
    address: str


# What nine fields of ten look like: one plain name and one plain address.
_PLAIN = re.compile(
    rb"""\s*(?:(?:"([A-Za-z0-9 ,.'_-]*)"|([A-Za-z0-9.'_-]+(?:\x20[A-Za-z0-9.'_-]+)*))?\s*
         <([A-Za-z0-9.+_=-]+@[A-Za-z0-9.-]+)>|([A-Za-z0-9.+_-]+@[A-Za-z0-9.-]+))\s*""",
    re.VERBOSE,
)

# One token of an address field, on octets read as Latin-1. The order matters: an encoded word may wrongly hold commas
# and blanks, and must be taken whole before they are seen.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<word>=\?[^?\s]{0,100}\?[bBqQ]\?[^?]*\?=)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<literal>\[[^\[\]\\<>"]*\])
      | (?P<angle><(?:[^<>"]|"(?:[^"\\]|\\.)*")*>)
      | (?P<atom>[^\s"()<>,;:@\[\]\\]+)
      | (?P<special>\\.|.)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(r"\\.|[()]", re.DOTALL)
_ROUTE = re.compile(r"@[^:<>]*:")  # obs-route (RFC 5322 section 4.4): read and thrown away
_INNER_COMMENT = re.compile(r"\([^()]*\)")
_CONTROLS = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029]+")


def parse_mailboxes(value: bytes | str) -> list[Mailbox]:
    """Every mailbox of an address field body, groups flattened, broken ones kept as best (RFC 5322 sections 3.4, 4.4).

    Never raises, linear in the length of ``value``; reads at most ``MAX_FIELD_OCTETS``, ``MAX_TOKENS`` and
    ``MAX_MAILBOXES``.
    """
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if len(octets) <= MAX_PLAIN_OCTETS and (plain := _PLAIN.fullmatch(octets)):
        name, address = plain[1] or plain[2] or b"", plain[3] or plain[4]
        return [Mailbox(name.decode("ascii"), address.decode("ascii"))]
    reader = _FieldReader()
    for kind, text in islice(_tokens(octets[:MAX_FIELD_OCTETS].decode("latin-1")), MAX_TOKENS):
        reader.take(kind, text)
        if len(reader.mailboxes) >= MAX_MAILBOXES:
            break
    reader.end_of_mailbox()
    return reader.mailboxes


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, comments_close = 0, True
    while match := _TOKEN.match(text, position):
        kind, token = match.lastgroup or "", match[0]
        position = match.end()
        if token == "(" and comments_close:
            end = _comment_end(text, position)
            # A bracket nobody closes is a plain character, and so is every later one.
            comments_close = end > 0
            if comments_close:
                kind, token, position = "comment", text[position : end - 1], end
        yield kind, token


def _comment_end(text: str, position: int) -> int:
    """Where the comment opened before ``position`` is over, nested ones included; 0 when it never is."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, position):
        depth += (mark[0] == "(") - (mark[0] == ")")
        if depth == 0:
            return mark.end()
    return 0


class _FieldReader:
    """Collects tokens up to the end of a mailbox, then decides what was its name and what its address."""

    def __init__(self) -> None:
        self.mailboxes: list[Mailbox] = []
        self._pieces: list[tuple[str, str]] = []
        self._comments: list[str] = []
        self._angle: str | None = None

    def take(self, kind: str, text: str) -> None:
        if kind == "comment":
            self._comments.append(text)
        elif kind == "special" and text in ",;":
            self.end_of_mailbox()
        elif kind == "special" and text == ":":
            self._pieces.clear()  # what came before was the name of a group (RFC 5322 section 3.4)
        elif kind == "angle" and self._angle is None:
            self._angle = text[1:-1]
        elif kind == "angle":  # a second address without a comma between them
            self.end_of_mailbox()
            self._angle = text[1:-1]
        elif kind == "special" and text in "<>":
            self._pieces.append(("space", " "))  # never closed, or never opened
        else:
            self._pieces.append((kind, text))

    def end_of_mailbox(self) -> None:
        if not self._pieces and not self._comments and self._angle is None:
            return
        found = self._found()
        if len(found) == 1:
            name, address = found[0]
            # "jdoe@example.org (John Doe)" is the older form of a name.
            name = name or _shown(" ".join(self._comments))
            found = [(name, address)] if address or self._angle is not None else [("", name)]
        self.mailboxes.extend(Mailbox(name, address) for name, address in found if name or address)
        self._pieces, self._comments, self._angle = [], [], None

    def _found(self) -> list[tuple[str, str]]:
        if self._angle is not None:
            return [(_phrase(self._pieces), _addr_spec(self._angle))]
        words = _words(self._pieces)
        addresses = ["".join(text for _, text in word) for word in words if any(text == "@" for _, text in word)]
        if not addresses:
            return [("", _phrase(self._pieces))]
        if len(addresses) > 1:  # a list that forgot its commas
            return [("", _addr_spec(address)) for address in addresses]
        rest = " ".join("".join(_plain(*piece) for piece in word) for word in words if all(t != "@" for _, t in word))
        return [(_shown(rest), _addr_spec(addresses[0]))]


def _words(pieces: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """``pieces`` parted at blanks, except beside "@" and ".": ``jdoe @ example . org`` is one address (obs-addr)."""
    words: list[list[tuple[str, str]]] = [[]]
    blank_before = False
    for piece in pieces:
        if piece[0] == "space":
            blank_before = True
            continue
        joined = piece[1] in ("@", ".") or (words[-1] and words[-1][-1][1] in ("@", "."))
        if blank_before and not joined:
            words.append([])
        words[-1].append(piece)
        blank_before = False
    return words


def _plain(kind: str, text: str) -> str:
    # A name in quotes may hold encoded words too: forbidden (RFC 2047 section 5), common, and meant.
    return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if kind == "quoted" else text


def _phrase(pieces: list[tuple[str, str]]) -> str:
    return _shown("".join(_plain(kind, text) for kind, text in pieces))


def _shown(latin1: str) -> str:
    return _CONTROLS.sub(" ", decode_words(latin1.replace("\r", "").replace("\n", "").encode("latin-1"))).strip()


def _addr_spec(latin1: str) -> str:
    text = latin1.strip()
    if route := _ROUTE.match(text):
        text = text[route.end() :]
    if '"' not in text:
        if "(" in text:
            text = _INNER_COMMENT.sub("", text)
        return _CONTROLS.sub("", decode_text(text.encode("latin-1")))
    return _CONTROLS.sub(" ", decode_text(text.encode("latin-1"))).strip()
