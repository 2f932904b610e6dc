"""SPF macros: the small language inside domain names and explanations (RFC 7208 section 7).

``%{ir}.%{v}._spf.%{d2}`` becomes ``3.2.0.192.in-addr._spf.example.com``: a letter names a fact about the message, a
number keeps that many right-hand labels, ``r`` turns the order round, and delimiters say where to split in place of
the dot. An upper-case letter also escapes the value for a URL. ``%%``, ``%_`` and ``%-`` stand for "%", " " and "%20".

A text is compiled once, when its record is parsed; most hold no macro at all and cost nothing to expand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from clawmail.protocol.domain_name import MAX_NAME_OCTETS

#: in one text; no name of 253 octets needs more. What has more is a syntax error, so that expanding stays cheap.
MAX_MACROS = 127
#: a macro's value takes part with so many characters at most; RFC 5321 section 4.5.3.1 allows a path 256 octets.
MAX_VALUE_CHARS = 1_000
#: an explanation is meant for one SMTP reply line; what is longer is cut.
MAX_EXPLANATION_CHARS = 1_000
#: compiled explanations that are remembered.
REMEMBERED_EXPLANATIONS = 64

#: macro-expand = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"  (RFC 7208 section 7.1);
#: a "%" that begins none of these is an error.
_TOKEN = re.compile(
    r"%\{(?P<letter>[slodiphcrtv])(?P<digits>\d*)(?P<reverse>r?)(?P<delimiters>[.\-+,/_=]*)\}"
    r"|(?P<escape>%[%_-])|(?P<plain>[^%]+)|%",
    re.IGNORECASE | re.ASCII,
)
_ESCAPES = {"%%": "%", "%_": " ", "%-": "%20"}
#: the letters that only an explanation's text may use (RFC 7208 section 7.2).
_EXPLANATION_ONLY = frozenset("crt")
#: top labels: letters, digits and inner dashes, not digits alone (RFC 7208 section 7.1, "toplabel").
_TOP_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


class SyntaxProblem(Exception):
    """A text is not SPF; the message says where. Never leaves this package."""


class Macro(NamedTuple):
    """One ``%{…}``, taken apart."""

    #: in lower case.
    letter: str
    #: right-hand parts to keep, 0 for all.
    keep: int
    reverse: bool
    #: where to split; "" when the value is to be taken as it is.
    delimiters: str
    #: written in upper case: the value is escaped for a URL.
    escape: bool


class MacroText(NamedTuple):
    """A compiled domain-spec or explanation."""

    #: as written.
    text: str
    #: literal text and macros in their order; one string when there is no macro.
    parts: tuple[str | Macro, ...]
    #: the lower-case letters used.
    letters: frozenset[str]


def compile_text(text: str, *, in_explanation: bool = False) -> MacroText:
    """Compile a macro-string (RFC 7208 section 7.1) of visible ASCII; raises ``SyntaxProblem``."""
    parts: list[str | Macro] = []
    literal: list[str] = []
    letters: set[str] = set()
    macros = 0
    for match in _TOKEN.finditer(text):
        letter, digits, reverse, delimiters, escape, plain = match.groups()
        macros += plain is None
        if macros > MAX_MACROS:
            raise SyntaxProblem(f"more than {MAX_MACROS} macros in {shorten(text)}")
        if plain is not None:
            literal.append(plain)
        elif escape is not None:
            literal.append(_ESCAPES[escape])
        elif letter is None:
            raise SyntaxProblem(f"a % that begins no macro in {shorten(text)}")
        else:
            if literal:
                parts.append("".join(literal))
                literal.clear()
            parts.append(_macro(letter, digits, bool(reverse), delimiters, text))
            letters.add(letter.lower())
    if not in_explanation and not letters.isdisjoint(_EXPLANATION_ONLY):
        raise SyntaxProblem(f"the macros c, r and t belong to explanations only, not to {shorten(text)}")
    if literal:
        parts.append("".join(literal))
    return MacroText(text, tuple(parts), frozenset(letters))


def _macro(letter: str, digits: str, reverse: bool, delimiters: str, text: str) -> Macro:
    significant = digits.lstrip("0")
    if digits and not significant:  # RFC 7208 7.3: "If a DIGIT is specified, it MUST be nonzero."
        raise SyntaxProblem(f"a macro keeps zero labels in {shorten(text)}")
    keep = int(significant) if 0 < len(significant) <= 4 else 0
    split = "".join(dict.fromkeys(delimiters)) or ("." if digits or reverse else "")
    return Macro(letter.lower(), keep, reverse, split, letter.isupper())


def compile_domain_spec(text: str) -> MacroText:
    """Compile a domain-spec: a macro-string that ends in a macro or a top label; raises ``SyntaxProblem``."""
    if not text:
        raise SyntaxProblem("an empty domain")
    compiled = compile_text(text)
    # domain-spec = macro-string domain-end; domain-end = ( "." toplabel [ "." ] ) / macro-expand (RFC 7208 7.1)
    if text.endswith(("%%", "%_", "%-")) or not isinstance(compiled.parts[-1], str):
        return compiled
    _, dot, label = text.removesuffix(".").rpartition(".")
    if not dot or label.isdigit() or not _TOP_LABEL.fullmatch(label):
        raise SyntaxProblem(f"{shorten(text)} is not a full domain name")
    return compiled


@lru_cache(REMEMBERED_EXPLANATIONS)
def compile_explanation(octets: bytes) -> MacroText | None:
    """Compile an explanation's text; None for what is not printable ASCII with good macros (RFC 7208 section 6.2)."""
    try:
        text = octets.decode("ascii")
        return compile_text(text, in_explanation=True) if text.isprintable() else None
    except (UnicodeDecodeError, SyntaxProblem):
        return None


def expand_domain(compiled: MacroText, values: Mapping[str, str]) -> str:
    """The name to ask for; ``values`` are by lower-case letter. At most 253 characters, no last dot."""
    name = "".join([part if isinstance(part, str) else _value(part, values) for part in compiled.parts])
    name = name.removesuffix(".")
    if len(name) > MAX_NAME_OCTETS:
        # RFC 7208 7.3: labels fall off the left side until the name fits.
        _, _, name = name[-MAX_NAME_OCTETS - 1 :].partition(".")
    return name


def expand_explanation(compiled: MacroText, values: Mapping[str, str]) -> str:
    """The explanation's text, at most ``MAX_EXPLANATION_CHARS``."""
    pieces: list[str] = []
    room = MAX_EXPLANATION_CHARS
    for part in compiled.parts:
        piece = part if isinstance(part, str) else _value(part, values)
        pieces.append(piece[:room])
        room -= len(pieces[-1])
        if room <= 0:
            break
    return "".join(pieces)


def _value(macro: Macro, values: Mapping[str, str]) -> str:
    value = values[macro.letter][:MAX_VALUE_CHARS]
    if macro.delimiters:
        # RFC 7208 7.3: split at any delimiter, reverse, keep the right-hand parts, join with dots.
        first = macro.delimiters[0]
        for other in macro.delimiters[1:]:
            value = value.replace(other, first)
        parts = value.split(first)
        if macro.reverse:
            parts.reverse()
        value = ".".join(parts[-macro.keep :])
    return quote(value, safe="") if macro.escape else value


def shorten(text: str) -> str:
    """``text`` quoted for a message to people: printable and at most 60 characters of it."""
    return repr(text if len(text) <= 60 else text[:59] + "…")
