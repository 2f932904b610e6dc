"""Downloads of ``/api/v1``: the source of an email and its attachments.

What a stranger sent goes out as a file to be saved and never as a page of ours: ``Content-Disposition: attachment``
(RFC 6266), no guessing of types, and a sandbox should a browser show it all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from aiohttp import web

from clawmail.api.native.addressing import id_in, inbox_of
from clawmail.api.native.mail_requests import DownloadQuery
from clawmail.api.native.streaming import streamed
from clawmail.api.routing import Call, Route
from clawmail.base.errors import NotFound
from clawmail.core.downloads import Download

#: digits of an attachment's number that are looked at.
MAX_NUMBER_DIGITS = 6

# RFC 8187 section 3.2.1: attr-char, beside letters and digits; quote() leaves "-._~" alone by itself.
_ATTRIBUTE_CHARACTERS = "!#$&+^`|"


def content_disposition(filename: str) -> str:
    """``attachment`` with a file name: plain where it can be, and in UTF-8 where it must (RFC 6266 appendix D)."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename)
    if plain == filename:
        return f'attachment; filename="{filename}"'
    encoded = quote(filename, safe=_ATTRIBUTE_CHARACTERS, errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _file(pieces: AsyncIterator[bytes], *, filename: str, content_type: str, size: int) -> web.Response:
    headers = {
        "Content-Type": content_type,
        "Content-Length": str(size),
        "Content-Disposition": content_disposition(filename),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return streamed(pieces, headers)


def _download(download: Download) -> web.Response:
    return _file(download.pieces(), filename=download.filename, content_type=download.content_type, size=download.size)


async def download_attachments(call: Call) -> web.Response:
    """All attachments: the file if there is one, a zip if there are more or if it is asked for."""
    query: DownloadQuery = call.query
    downloads = call.services.downloads
    return _download(await downloads.attachments(inbox_of(call), id_in(call), query.format, call.now))


async def download_attachment(call: Call) -> web.Response:
    """One attachment by its number, from 1."""
    number = call.path["n"]
    if not (number.isascii() and number.isdigit() and len(number) <= MAX_NUMBER_DIGITS):
        raise NotFound("Attachment not found")
    return _download(await call.services.downloads.attachment(inbox_of(call), id_in(call), int(number), call.now))


async def download_source(call: Call) -> web.Response:
    """The email as message/rfc822: our trace fields, then the bytes as they were sent."""
    email_id = id_in(call)
    source = await call.services.downloads.source(inbox_of(call), email_id)
    return _file(source.pieces, filename=f"email-{email_id}.eml", content_type="message/rfc822", size=source.size)


ROUTES = (
    Route(
        "GET", "/api/v1/emails/{id}/attachments/download", download_attachments, "Download all attachments",
        auth="inbox", limiter="read", query=DownloadQuery, errors=(410,),
        content_types=("*/*", "application/zip"),
    ),
    Route(
        "GET", "/api/v1/emails/{id}/attachments/{n}", download_attachment, "Download one attachment",
        auth="inbox", limiter="read", errors=(410,), content_types=("*/*",),
    ),
    Route(
        "GET", "/api/v1/emails/{id}/raw", download_source, "The email as it was sent",
        auth="inbox", limiter="read", content_types=("message/rfc822",),
    ),
)  # fmt: skip
