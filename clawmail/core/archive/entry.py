"""An email outside of the store: its bytes exactly, and what the store knows of it beside them.

JSON lines have a place for everything. In an mbox or a Maildir an email is a message file: our trace fields and the
message, as any mail program expects them, and on top one field of ours, ``X-Clawmail-Kept``, which says in JSON what
has no other place there and how long the parts below are. With it, what comes back is byte for byte what went out.
A message file without that field, or one that was changed since, is taken as what it shows itself to be.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import Any

import msgspec

from clawmail.model.mail import Direction

FIELD = b"X-Clawmail-Kept:"
#: octets of a folded line of that field (RFC 5322 section 2.1.1).
LINE_OCTETS = 78
#: octets of that field that are looked at.
MAX_FIELD_BYTES = 256 * 1024

# A field with its continuations, whatever the line ends have become on the way.
_LABEL = re.compile(rb"X-Clawmail-Kept: ([^\n]*\n(?:[ \t][^\n]*\n)*)")
_STATUS = re.compile(rb"(?:X-)?Status:[^\n]*\n")
_LINE_END = re.compile(rb"\r?\n")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of an email beside its bytes."""

    #: None: nobody knows; the Date field has to do.
    received_at: datetime | None = None
    direction: Direction = "inbound"
    is_read: bool = False
    is_archived: bool = False
    #: "" is the null sender; None: nobody knows.
    envelope_from: str | None = None
    bcc: tuple[str, ...] = ()
    #: the API's authentication_results.
    authentication: dict[str, Any] | None = None


class Kept(Facts, frozen=True, kw_only=True):
    """An email as it is exported and imported; a line of JSON lines, where the bytes are base64."""

    #: for whoever searches the file; read out of ``raw`` again when it is imported.
    message_id: str | None = None
    subject: str = ""
    #: our fields on top of the message.
    trace: bytes = b""
    #: the message exactly as sent.
    raw: bytes


class Label(Facts, frozen=True, kw_only=True):
    """What ``X-Clawmail-Kept`` says."""

    trace_bytes: int
    raw_bytes: int
    raw_sha256: str


def message_file(kept: Kept, *, status: bytes = b"") -> bytes:
    """An email as a message file; ``status`` (fields, CRLF-ended) goes between our field and the trace."""
    label = Label(
        **_facts(kept),
        trace_bytes=len(kept.trace),
        raw_bytes=len(kept.raw),
        raw_sha256=hashlib.sha256(kept.raw).hexdigest(),
    )
    return _folded(json.dumps(msgspec.to_builtins(label))) + status + kept.trace + kept.raw


def read_message_file(content: bytes, fallback: Facts, *, has_folders: bool) -> Kept:
    """The email of a message file; ``fallback`` is what its surroundings tell of it, for one that is not of our making.

    In one of ours only whether it is read is taken from there, and whether it is archived if that is a matter of
    folders: other programs may have changed it.
    """
    label, rest = _read_label(content)
    if label is not None:
        kept = _measured(label, rest) or _measured(label, with_crlf(rest))
        if kept is not None:
            is_archived = fallback.is_archived if has_folders else kept.is_archived
            return msgspec.structs.replace(kept, is_read=fallback.is_read, is_archived=is_archived)
    return Kept(**_facts(fallback), raw=with_crlf(rest))


def with_crlf(content: bytes) -> bytes:
    """A text of Unix lines as mail writes it; one that knows CRLF already is left as it is."""
    return content if b"\r\n" in content else _LINE_END.sub(b"\r\n", content)


def _folded(text: str) -> bytes:
    """The field, folded before spaces: without its line ends it is the text again (RFC 5322 section 2.2.3)."""
    lines = [FIELD.decode()]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > LINE_OCTETS:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _read_label(content: bytes) -> tuple[Label | None, bytes]:
    """What our field says, and what comes behind it and the status; the whole content if there is no such field."""
    found = _LABEL.match(content, 0, MAX_FIELD_BYTES)
    if found is None:
        return None, content
    rest = content[found.end() :]
    while (status := _STATUS.match(rest)) is not None:
        rest = rest[status.end() :]
    try:
        return msgspec.json.decode(_LINE_END.sub(b"", found[1]), type=Label), rest
    except msgspec.DecodeError:
        return None, content


def _measured(label: Label, rest: bytes) -> Kept | None:
    """The email if the message is the one that was exported."""
    raw = rest[label.trace_bytes : label.trace_bytes + label.raw_bytes]
    if hashlib.sha256(raw).hexdigest() != label.raw_sha256:
        return None
    return Kept(**_facts(label), trace=rest[: label.trace_bytes], raw=raw)


def _facts(known: Facts) -> dict[str, Any]:
    return {name: getattr(known, name) for name in Facts.__struct_fields__}
