"""Names of attachments: one for those that came without, and one that is safe to write to a disk.

The name in a message is a stranger's text. It is shown as sent, but a download or a zip entry takes ``safe_filename``:
no directory, no control character, nothing that turns the direction of writing round.
"""

from __future__ import annotations

import re
import unicodedata

#: octets of a safe name in UTF-8; file systems take 255.
MAX_NAME_OCTETS = 200

#: endings of nameless attachments; a fixed table, because that of the machine differs from host to host.
_ENDINGS = {
    "application/pdf": "pdf",
    "application/pgp-signature": "asc",
    "application/pkcs7-mime": "p7m",
    "application/pkcs7-signature": "p7s",
    "application/x-pkcs7-signature": "p7s",
    "application/zip": "zip",
    "application/json": "json",
    "application/ms-tnef": "dat",
    "audio/mpeg": "mp3",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/webp": "webp",
    "message/delivery-status": "txt",
    "message/disposition-notification": "txt",
    "message/feedback-report": "txt",
    "message/global": "eml",
    "message/rfc822": "eml",
    "text/calendar": "ics",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/rfc822-headers": "txt",
    "text/vcard": "vcf",
    "text/x-amp-html": "html",
}
_SEPARATORS = re.compile(r"[/\\]")
_BLANKS = re.compile(r"\s+")
_STEM_CHARS = 80
_HIDING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_RESERVED = frozenset('<>:"|?*')  # some file systems refuse these


def made_up_name(content_type: str, position: int, title: str = "") -> str:
    """A name for an attachment that has none: its ``title`` (a nested message's subject), or its place from 1."""
    stem = _visible(_SEPARATORS.sub(" ", title)[:_STEM_CHARS])
    if not stem:
        stem = "message" if content_type in ("message/rfc822", "message/global") else f"attachment-{position}"
    return f"{stem}.{_ENDINGS.get(content_type) or ('txt' if content_type.startswith('text/') else 'bin')}"


def safe_filename(name: str) -> str:
    """``name`` as one file name: the last path component, without control or format characters, never empty."""
    base = _SEPARATORS.split(name.rstrip("/\\ "))[-1]
    return _shortened(_visible(base)) or "attachment"


def _visible(text: str) -> str:
    # Cc, Cf (which turns the writing direction), Cs, Zl and Zp can hide what a name ends in.
    kept = (c for c in text if unicodedata.category(c) not in _HIDING and c not in _RESERVED)
    return _BLANKS.sub(" ", "".join(kept)).strip(" .")


def _shortened(name: str) -> str:
    if len(name.encode("utf-8", "replace")) <= MAX_NAME_OCTETS:
        return name
    stem, dot, ending = name.rpartition(".")
    ending = dot + ending if 0 < len(ending) <= 16 else ""
    room = MAX_NAME_OCTETS - len(ending.encode("utf-8", "replace"))
    return (stem if ending else name).encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + ending
