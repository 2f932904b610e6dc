"""The arguments of MAIL and RCPT: a path in angle brackets, then parameters (RFC 5321 section 4.1.2). No I/O."""

from __future__ import annotations

import re

from clawmail.smtpd.replies import bad_argument

# Path = "<" [ A-d-l ":" ] Mailbox ">"     (a source route is read and ignored: RFC 5321 section 3.6.1, appendix C)
_PATH = re.compile(
    r"""[ ]*<(?:@[^\s:<>"]+:)?
        (?P<mailbox>(?:"(?:[^"\\]|\\.)*"|[^"<>\s])*)
        >(?:[ ]+(?P<parameters>.*))?\Z""",
    re.VERBOSE,
)
# esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")      esmtp-value = 1*(%d33-60 / %d62-126), or UTF-8 (RFC 6531)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^=\x00-\x20\x7f]+))?")
# xtext = *( xchar / hexchar )      (RFC 3461 section 4)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ORCPT = re.compile(r"[A-Za-z0-9-]+;([!-<>-~]+)")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[ -~]+")
#: addr-type utf-8: what SMTPUTF8 adds to ORCPT (RFC 6533 section 3).
_ORCPT_UTF8 = re.compile(r"utf-8;[^\x00-\x20\x7f]+", re.IGNORECASE)

#: characters of an ENVID (RFC 3461 section 4.4) and of an ORCPT (section 4.2).
MAX_ENVID = 100
MAX_ORCPT = 500
#: parameters of one command; the extensions offered have seven.
MAX_PARAMETERS = 16

NOTIFY_WORDS = frozenset({"SUCCESS", "FAILURE", "DELAY"})

Parameters = dict[str, str | None]


def parse_path(argument: str, keyword: str) -> tuple[str, Parameters]:
    """``FROM:<a@b> SIZE=1`` as the mailbox, as written ("" for ``<>``), and the parameters, names in upper case.

    Raises BadCommand (501) when it is not of that form.
    """
    if argument[: len(keyword)].upper() != keyword:
        raise bad_argument(f"expected {keyword}<address>")
    match = _PATH.match(argument, len(keyword))
    if match is None:
        raise bad_argument(f"expected {keyword}<address>, then parameters")
    given = match["parameters"]
    return match["mailbox"], _parse_parameters(given) if given else {}


def _parse_parameters(text: str) -> Parameters:
    parameters: Parameters = {}
    for word in text.split(" ")[: MAX_PARAMETERS + 1]:
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise bad_argument("a parameter is KEYWORD or KEYWORD=value")
        name = match[1].upper()
        if name in parameters or len(parameters) == MAX_PARAMETERS:
            raise bad_argument(f"the parameter {name} is one too many")
        parameters[name] = match[2]
    return parameters


def parse_size(value: str | None) -> int:
    """SIZE=n (RFC 1870): octets the client means to send. Raises BadCommand (501)."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        raise bad_argument("SIZE=number of octets")
    return int(value)


def parse_envid(value: str | None) -> str:
    """ENVID=xtext, decoded. Raises BadCommand (501)."""
    value = value or ""
    decoded = _decode_xtext(value)
    if not decoded or len(value) > MAX_ENVID:
        raise bad_argument("ENVID=xtext, at most 100 characters (RFC 3461)")
    return decoded


def _decode_xtext(text: str) -> str:
    """Plain text; "" if it is no xtext, or hides what may not stand in a report's header field (section 4.4)."""
    if not _XTEXT.fullmatch(text):
        return ""
    decoded = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if _PRINTABLE.fullmatch(decoded) else ""


def parse_notify(value: str | None) -> tuple[str, ...]:
    """NOTIFY=NEVER, or a list of SUCCESS, FAILURE, DELAY. Raises BadCommand (501)."""
    words = tuple((value or "").upper().split(","))
    if words != ("NEVER",) and (not NOTIFY_WORDS.issuperset(words) or len(set(words)) != len(words)):
        raise bad_argument("NOTIFY=NEVER, or of SUCCESS,FAILURE,DELAY (RFC 3461)")
    return words


def parse_orcpt(value: str | None, *, smtputf8: bool) -> str:
    """ORCPT=type;xtext, as sent. Raises BadCommand (501)."""
    value = value or ""
    plain = _ORCPT.fullmatch(value)
    known = _decode_xtext(plain[1]) if plain else smtputf8 and _ORCPT_UTF8.fullmatch(value)
    if not known or len(value) > MAX_ORCPT:
        raise bad_argument("ORCPT=type;xtext, at most 500 characters (RFC 3461)")
    return value
