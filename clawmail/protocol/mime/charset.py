"""Octets to text, whatever the label says (RFC 2046 section 4.1.2, RFC 2978).

A charset label is a claim by a stranger. Most are true; some are absent, misspelt, or name a small set where the text
uses its larger sibling (``gb2312`` that is GBK, ``iso-8859-1`` with the quotation marks of Windows). Everything here
ends in text that PostgreSQL and JSON can hold: no NUL, no lone surrogate. What cannot be decoded becomes U+FFFD, one
visible mark per failure, and is never dropped.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

REPLACEMENT = "\ufffd"

#: characters of a charset label that are looked at; the longest registered one has 45.
MAX_LABEL_CHARS = 60

#: codec named -> the larger set that senders of that label really use (as WHATWG's Encoding Standard has it).
_SUPERSETS = {
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_ext",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}

#: labels seen in mail that Python does not know.
_ALIASES = {
    "cp-850": "cp850",
    "gb_2312-80": "gb18030",
    "iso-2022-jp-ms": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859-8",
    "ks_c_5601-1987": "cp949",
    "unicode-1-1-utf-7": "utf-7",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-euc-jp": "euc_jp",
    "x-gbk": "gb18030",
    "x-mac-roman": "mac_roman",
    "x-sjis": "cp932",
}

#: Python codecs that are no charsets of mail; some cost quadratic time or read escapes as code points.
_NOT_FOR_MAIL = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"}

#: these decoders cannot yield a lone surrogate, so their output needs no second look.
_CLEAN_CODECS = {"utf-8", "cp1252", "gb18030", "cp932", "cp949", "cp950", "koi8-r", "cp1251", "iso8859-15", "iso8859-2"}

_SURROGATES = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=256)
def codec_for(label: str) -> str | None:
    """The Python codec for a charset label, or None when the label says nothing useful.

    ``us-ascii`` counts as saying nothing: octets above 127 contradict it, and UTF-8 reads the rest alike.
    """
    label = label.strip(" \t\"'<>").lower()
    label = _ALIASES.get(label, label)
    if not label or len(label) > MAX_LABEL_CHARS or not label.isascii():
        return None
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    # The registry also holds bytes-to-bytes transforms (zlib, hex, rot13), which are not text encodings.
    is_text = getattr(info, "_is_text_encoding", True)
    if not is_text or info.name in _NOT_FOR_MAIL or info.name == "ascii":
        return None
    return info.name


def decode_text(data: bytes, label: str | None = None) -> str:
    """``data`` as text by the charset ``label``; without a useful one as UTF-8, else as windows-1252.

    A label that the octets contradict is given up for UTF-8 when they are valid UTF-8 with multi-octet characters:
    no other charset produces those by accident. Else each failure is shown as U+FFFD.
    """
    codec = codec_for(label) if label else None
    if codec is None:
        return _without_nul(_guess(data))
    if codec == "utf-8":
        return _without_nul(data.decode("utf-8", "replace").removeprefix("\ufeff"))
    if (wider := _SUPERSETS.get(codec)) is not None:
        text = _try(data, wider)
        if text is None:
            text = data.decode(codec, "replace")
        codec = wider
    else:
        text = data.decode(codec, "replace").removeprefix("\ufeff")
        if REPLACEMENT in text and not codec.startswith("utf"):
            text = _try(data, "utf-8") or text
    return _without_nul(text) if codec in _CLEAN_CODECS else clean(text)


def clean(text: str) -> str:
    """``text`` with every NUL and lone surrogate shown as U+FFFD: what PostgreSQL and JSON can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = _SURROGATES.sub(REPLACEMENT, text)
    return _without_nul(text)


def _guess(data: bytes) -> str:
    if b"\x1b$" in data and (text := _try(data, "iso2022_jp_ext")) is not None:
        return text  # its escape sequences stand in no other text (RFC 1468)
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        pass  # not UTF-8 as a whole; below
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    damaged = data.decode("utf-8", "replace")
    # Mostly sound UTF-8 with a damaged octet stays UTF-8; text where half of the rest fails never was.
    sound = sum(1 for character in damaged[:4096] if character > "\x7f" and character != REPLACEMENT)
    if sound > damaged.count(REPLACEMENT, 0, 4096) * 2:
        return damaged
    return data.decode("cp1252", "replace")


def _try(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _without_nul(text: str) -> str:
    return text.replace("\0", REPLACEMENT) if "\0" in text else text
