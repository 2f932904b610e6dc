"""Reading a request: bytes and query strings of strangers into checked Structs, within limits.

A body is JSON (RFC 8259), perhaps gzip-compressed (RFC 9110 section 8.4.1.3); its size is limited before and after
decompression, so that a small stream cannot unfold into a large one. Whatever is wrong becomes one ``Invalid`` that
names the field.
"""

from __future__ import annotations

import asyncio
import functools
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from clawmail.api.errors import NotAcceptedYet
from clawmail.base.errors import Invalid, TooLarge
from clawmail.base.validation import in_words

#: seconds that a body may take to arrive.
BODY_SECONDS = 120.0
#: fields of a query string that are looked at.
MAX_QUERY_FIELDS = 50
#: digits of a number in a query string.
MAX_QUERY_DIGITS = 10
#: bytes above which decompressing and decoding move to a thread.
THREAD_BYTES = 256 * 1024

#: ``core.aside.Aside.run``, as far as it is needed here.
RunsAside = Callable[
    [Callable[[bytes, type[msgspec.Struct]], msgspec.Struct], bytes, type[msgspec.Struct]], Awaitable[msgspec.Struct]
]
#: how a NUL, which has no place in PostgreSQL's text, has to be written in JSON (RFC 8259 section 7).
_ESCAPED_NUL = b"\\u0000"
# msgspec's messages end with the place: "Expected `int` >= 1 - at `$.page`".
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The body's bytes, decompressed, at most ``limit`` of them before and after.

    Raises Invalid for a broken stream, TooLarge, NotAcceptedYet when it takes too long to arrive.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise Invalid(f"Content-Encoding {coding[:40]!r} is not understood; use gzip or none")
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    await _ask_for_body(request)
    body = await _collect(request, limit)
    if coding == "identity":
        return body
    if len(body) > THREAD_BYTES:
        return await asyncio.to_thread(gunzip, body, limit)
    return gunzip(body, limit)


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tells a client that holds its body back to send it (RFC 9110 section 10.1.1); curl does with large ones."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def target(request: web.BaseRequest) -> tuple[str, str]:
    """Path and query as they stand in the request line, whatever its form (RFC 9112 section 3.2)."""
    raw = request.raw_path
    if not raw.startswith("/"):  # absolute-form: a client that takes us for its proxy
        raw = request.rel_url.raw_path_qs
    path, _, query = raw.partition("#")[0].partition("?")
    return path, query


async def _collect(request: web.BaseRequest, limit: int) -> bytes:
    if request.content.is_eof():  # a small one has come with its head, and there is nothing to wait for
        body = request.content.read_nowait()
        if len(body) > limit:
            raise too_large(limit)
        return body
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise NotAcceptedYet("The request body did not arrive in time") from None
    except (RequestPayloadError, HttpProcessingError):
        raise Invalid("The request body ended too early or is not framed as HTTP says") from None
    if len(chunks) == 1:
        return chunks[0]
    return b"".join(chunks) if size <= THREAD_BYTES else await asyncio.to_thread(b"".join, chunks)


def too_large(limit: int) -> TooLarge:
    """The error for a body over ``limit`` bytes."""
    return TooLarge(f"The request body is larger than {limit} bytes")


def gunzip(data: bytes, limit: int) -> bytes:
    """``data`` (RFC 1952) decompressed, at most ``limit`` bytes. Raises Invalid for a broken stream, TooLarge."""
    plain = bytearray()
    while data:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            plain += stream.decompress(data, limit + 1 - len(plain))
        except zlib.error:
            raise Invalid("The request body is not a whole gzip stream") from None
        if len(plain) > limit:
            raise too_large(limit)
        if not stream.eof:
            raise Invalid("The request body is not a whole gzip stream")
        data = stream.unused_data  # RFC 1952 section 2.2: a file may have several members
    return bytes(plain)


@functools.cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    return msgspec.json.Decoder(kind)


async def decode_body(raw: bytes, kind: type[msgspec.Struct], aside: RunsAside) -> msgspec.Struct:
    """A JSON body as a ``kind``; unknown fields are ignored. ``aside`` runs what takes long. Raises Invalid."""
    if len(raw) > THREAD_BYTES:
        return await aside(decode_json, raw, kind)
    return decode_json(raw, kind)


def decode_json(raw: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """See ``decode_body``."""
    if not raw.strip():
        raise Invalid("The request needs a JSON object as its body", code="invalid_json")
    try:
        decoded = _decoder(kind).decode(raw)
        # "\\\\u0000" is a backslash and a word: what was meant is told by what was read.
        if _ESCAPED_NUL in raw and _holds_nul(decoded):
            raise Invalid("Text may not hold a NUL character (\\u0000)")
        return decoded
    except msgspec.ValidationError as error:
        raise explain(error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The request body is not valid JSON{_fault(error)}", code="invalid_json") from None


def _fault(error: Exception) -> str:
    """What is wrong, and at which byte, counted from 0, as far as the decoder tells."""
    if isinstance(error, UnicodeDecodeError):
        return ": it is not UTF-8"
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    if str(error) == "Input data was truncated":
        return ": it ends too early"
    return f": {str(error).removeprefix('JSON is malformed: ')}"


def _holds_nul(value: object) -> bool:
    """Whether any text in a decoded body holds a NUL."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, msgspec.Struct):
        return any(_holds_nul(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(_holds_nul(part) for part in value)
    return False


@functools.cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, tuple[Any, ...]]:
    """Field → the types it may be, without their annotations, as declared."""
    return {
        name: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for name, hint in get_type_hints(kind).items()
    }


def decode_query(text: str, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """A query string (without "?") as a ``kind``; unknown names are ignored. Raises Invalid."""
    if not text:
        return _converted({}, kind)
    try:
        text.encode()  # octets that are no UTF-8 stand in the text as surrogates
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise Invalid("The query string cannot be read") from None
    hints, values = _hints(kind), dict[str, str | int]()
    for name, value in pairs:
        if name not in hints:
            continue
        if name in values:
            raise Invalid(f"{name}: given more than once", field=name)
        if "\x00" in value:
            raise Invalid(f"{name}: may not hold a NUL character", field=name)
        values[name] = _whole_number(name, value) if int in hints[name] else value
    return _converted(values, kind)


def _whole_number(name: str, value: str) -> int:
    """Plain digits; Python's and msgspec's own reading would take "1e2", " 1" and numbers without end as well."""
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_QUERY_DIGITS):
        raise Invalid(f"{name}: expected a whole number", field=name)
    return int(value)


def _converted(values: Mapping[str, str | int], kind: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise explain(error, kind) from None


def _words(kind: type[msgspec.Struct], field: str) -> str:
    """The words a field takes, if it takes a few fixed ones."""
    literals = [hint for hint in _hints(kind).get(field, ()) if get_origin(hint) is Literal]
    return ", ".join(str(word) for literal in literals for word in get_args(literal))


def explain(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> Invalid:
    """A validation error in words that name the field first: ``limit: expected a whole number <= 100``."""
    match = _PLACE.match(str(error))
    what, where = (match["what"], match["where"] or "") if match else (str(error), "")
    if missing := _MISSING.match(what):
        field = f"{where}.{missing['field']}".strip(".")
        return Invalid(f"{field} is required", field=field)
    what = in_words(what)
    if not where:
        return Invalid(what)
    if words := _words(kind, where):
        return Invalid(f"{where} must be one of: {words}", field=where)
    return Invalid(f"{where}: {what[:1].lower()}{what[1:]}", field=where)
