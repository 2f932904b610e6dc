"""Downloads: the attachments of an email, one by one or as a zip.

Attachments are not stored a second time; they are cut out of the message when somebody asks. That takes CPU time and
memory by the megabyte, so it happens in a thread, a few at a time, and the result waits for its reader in a temporary
file once it is large. Names in a zip are a stranger's text: base names only, without control characters, each once.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import IO
from uuid import UUID

import msgspec

from clawmail.base.errors import Gone, Invalid, NotFound
from clawmail.core.sources import Sources, SourceText
from clawmail.model.mailbox import EmailSource
from clawmail.protocol.mime.filenames import safe_filename
from clawmail.protocol.mime.parse import attachment_content, attachment_contents
from clawmail.store import mailbox as store
from clawmail.store.db import Database

#: emails taken apart at once; each may need three times its size in memory for a moment.
EXTRACTIONS_AT_ONCE = 4
#: octets of a download that are kept in memory; what is larger waits in a temporary file.
MEMORY_BYTES = 1024 * 1024
#: octets handed on at once.
PIECE_BYTES = 256 * 1024
#: how hard a zip is pressed: most attachments are compressed already.
ZIP_LEVEL = 1
#: octets of a message above which cutting it apart moves to a thread.
THREAD_BYTES = 64 * 1024
#: a zip cannot tell earlier times.
ZIP_EPOCH_YEAR = 1980

FALLBACK_TYPE = "application/octet-stream"
# RFC 6838 section 4.2: restricted-name "/" restricted-name. What a stranger wrote otherwise is not sent as a header.
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class StoredAttachment(msgspec.Struct, frozen=True):
    """What the store keeps of an attachment."""

    filename: str
    content_type: str
    #: octets after decoding.
    size: int
    content_id: str | None = None
    disposition: str | None = None
    #: of the decoded octets, in hex.
    sha256: str = ""


_decoder = msgspec.json.Decoder(list[StoredAttachment])


def read_attachments(text: str) -> list[StoredAttachment]:
    """The ``attachments`` of an email from JSON text, in the order of the parts."""
    return _decoder.decode(text) if text != "[]" else []


@dataclass(frozen=True, slots=True)
class Download:
    """A file on its way out."""

    #: safe to be written to a disk.
    filename: str
    content_type: str
    #: in octets.
    size: int
    file: IO[bytes]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets, in order; the file is closed behind the last of them."""
        with contextlib.closing(self.file):
            while piece := await self._next():
                yield piece

    async def _next(self) -> bytes:
        if self.size <= MEMORY_BYTES:
            return self.file.read(PIECE_BYTES)
        return await asyncio.to_thread(self.file.read, PIECE_BYTES)


class Downloads:
    """Hands out the source of emails and their attachments."""

    def __init__(self, db: Database, sources: Sources, *, attachment_ttl_hours: float) -> None:
        """``attachment_ttl_hours``: after which attachments are gone; 0: never."""
        self._db = db
        self._sources = sources
        self._ttl = timedelta(hours=attachment_ttl_hours)
        self._extractions = asyncio.Semaphore(EXTRACTIONS_AT_ONCE)

    async def source(self, inbox_id: UUID, email_id: UUID) -> SourceText:
        """An email as message/rfc822. Raises NotFound."""
        return await self._sources.text(await self._email(inbox_id, email_id))

    async def attachment(self, inbox_id: UUID, email_id: UUID, number: int, now: datetime) -> Download:
        """Attachment ``number``, counted from 1. Raises NotFound, or Gone when it has expired."""
        email = await self._email(inbox_id, email_id)
        attachments = read_attachments(email.attachments)
        if not 1 <= number <= len(attachments):
            raise NotFound("Attachment not found")
        self._refuse_expired(email, now)
        return await self._one(email, attachments, number - 1)

    async def attachments(self, inbox_id: UUID, email_id: UUID, how: str, now: datetime) -> Download:
        """All attachments: ``how`` is "zip", or "auto" for the file itself if there is but one.

        Raises Invalid for another word, NotFound, or Gone when they have expired.
        """
        if how not in ("auto", "zip"):
            raise Invalid("format must be auto or zip", field="format")
        email = await self._email(inbox_id, email_id)
        attachments = read_attachments(email.attachments)
        if not attachments:
            raise NotFound("Email has no attachments")
        self._refuse_expired(email, now)
        if how == "auto" and len(attachments) == 1:
            return await self._one(email, attachments, 0)
        return await self._zip(email, attachments, f"email-{email_id}-attachments.zip")

    async def _email(self, inbox_id: UUID, email_id: UUID) -> EmailSource:
        async with self._db.connection() as conn:
            email = await store.source(conn, inbox_id, email_id)
        if email is None:
            raise NotFound("Email not found")
        return email

    def _refuse_expired(self, email: EmailSource, now: datetime) -> None:
        ttl = self._ttl if email.attachment_hours is None else timedelta(hours=email.attachment_hours)
        if ttl and now - email.received_at > ttl:
            raise Gone("Attachments of this email have expired")

    async def _raw(self, email: EmailSource) -> bytes:
        async with self._db.connection() as conn:
            raw = await store.raw_piece(conn, email.message_row, 0, email.raw_size)
        if len(raw) < email.raw_size:
            raise NotFound("Email not found")
        return raw

    async def _one(self, email: EmailSource, attachments: list[StoredAttachment], index: int) -> Download:
        async with self._extractions:
            raw = await self._raw(email)
            cut = _cut(raw, index) if len(raw) <= THREAD_BYTES else await asyncio.to_thread(_cut, raw, index)
        if cut is None:
            raise NotFound("Attachment not found")
        file, size = cut
        chosen = attachments[index]
        content_type = chosen.content_type if _MEDIA_TYPE.fullmatch(chosen.content_type) else FALLBACK_TYPE
        return Download(safe_filename(chosen.filename), content_type, size, file)

    async def _zip(self, email: EmailSource, attachments: list[StoredAttachment], filename: str) -> Download:
        names = entry_names(attachment.filename for attachment in attachments)
        async with self._extractions:
            raw = await self._raw(email)
            file, size = await asyncio.to_thread(_zipped, raw, names, email.received_at)
        return Download(filename, "application/zip", size, file)


def entry_names(filenames: Iterable[str]) -> list[str]:
    """Names for the entries of a zip: base names, each once, further ones numbered as ``name (2).ext``."""
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    names = []
    for filename in filenames:
        name = base = safe_filename(filename)
        path = PurePosixPath(base)
        while name in used:
            numbers[base] += 1
            name = f"{path.stem} ({numbers[base] + 1}){path.suffix}"
        used.add(name)
        names.append(name)
    return names


def _cut(raw: bytes, index: int) -> tuple[IO[bytes], int] | None:
    """Attachment ``index`` as a file and its size; None if the message has no such one."""
    content = attachment_content(raw, index)
    if content is None:
        return None
    file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  its reader closes it
    file.write(content)
    return _rewound(file)


def _zipped(raw: bytes, names: list[str], moment: datetime) -> tuple[IO[bytes], int]:
    file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  its reader closes it
    stamp = (max(moment.year, ZIP_EPOCH_YEAR), *moment.timetuple()[1:6])
    with zipfile.ZipFile(file, "w", compresslevel=ZIP_LEVEL) as archive:
        for name, content in zip(names, attachment_contents(raw), strict=False):
            entry = zipfile.ZipInfo(name, stamp)
            archive.writestr(entry, content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=ZIP_LEVEL)
    return _rewound(file)


def _rewound(file: IO[bytes]) -> tuple[IO[bytes], int]:
    size = file.tell()
    file.seek(0)
    return file, size
