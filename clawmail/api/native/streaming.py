"""Answers that are written piece by piece.

Once its first piece is out, an answer can no longer become an error. What goes wrong then can only be told by breaking
off before the promised end, which every HTTP client notices (RFC 9112 section 8).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from clawmail.base.errors import ClawmailError
from clawmail.base.log import logger

log = logger("api")


def streamed(pieces: AsyncIterator[bytes], headers: Mapping[str, str]) -> web.Response:
    """``pieces`` as a response; chunked unless ``headers`` say how many octets there will be."""
    return web.Response(body=_broken_off_cleanly(pieces), headers=headers)


async def _broken_off_cleanly(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except ClawmailError as error:
        log.warning("answer broken off", problem=error.message)
        # To aiohttp this is a connection that is lost, which it closes.
        raise ConnectionError(error.message) from error
