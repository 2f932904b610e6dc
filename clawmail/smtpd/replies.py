"""Saying no in SMTP: replies that commands raise, and the one translation of our errors to reply codes.

Every reply but the greeting, EHLO's and 354 carries an enhanced status code (RFC 2034, RFC 3463). A command answers
with the text it returns; whatever is not a yes is raised as ``Refused``.
"""

from __future__ import annotations

import re

from clawmail.base import errors
from clawmail.core.envelope import Refused

#: characters of a reply's text; its line has to stay below 512 octets (RFC 5321 section 4.5.3.1.5).
MAX_TEXT = 400

_NOT_PRINTABLE = re.compile(r"[^ -~]")


class BadCommand(Refused):
    """The client speaks no SMTP, or out of turn; a session allows only so many of these."""


class Hangup(Refused):
    """The last reply of a session: it is closed behind it."""


class Interrupted(Exception):
    """The server is stopping; the session ends where it stands."""


def line(refused: Refused) -> str:
    """The reply as text, without its CRLF: one line of printable ASCII, whatever a stranger's text is quoted in it."""
    text = _NOT_PRINTABLE.sub("?", " ".join(refused.text.split())[:MAX_TEXT])
    return f"{refused.code} {refused.enhanced} {text}"


def out_of_turn(text: str) -> BadCommand:
    """503: a command that may not come now."""
    return BadCommand(503, "5.5.1", text)


def bad_argument(text: str) -> BadCommand:
    """501: an argument or parameter value that cannot be read."""
    return BadCommand(501, "5.5.4", text)


def unknown_parameter(text: str) -> BadCommand:
    """555: a parameter of MAIL or RCPT that no extension offered here defines (RFC 5321 section 4.1.1.11)."""
    return BadCommand(555, "5.5.4", text)


def from_error(error: errors.ClawmailError) -> Refused:
    """What an error of a use-case is in SMTP's words."""
    if isinstance(error, errors.StoreFull):
        return Refused(452, "4.3.1", "the store is full, try again later")
    if isinstance(error, errors.StoreInDoubt):
        return Refused(451, "4.3.0", error.message)
    if isinstance(error, errors.StoreUnwell):
        return Refused(451, "4.3.0", "the store is not available, try again later")
    if isinstance(error, errors.QuotaExceeded):
        return Refused(552, "5.2.2", error.message)
    if isinstance(error, errors.TooLarge):
        return Refused(552, "5.3.4", error.message)
    if isinstance(error, errors.RateLimited):
        return Refused(450, "4.7.1", f"{error.message} (in {error.retry_after} seconds)")
    if isinstance(error, errors.Unauthenticated):
        return Refused(535, "5.7.8", error.message)
    if error.retryable:
        return Refused(451, "4.3.0", error.message)
    return Refused(550, "5.7.1" if isinstance(error, errors.Forbidden) else "5.6.0", error.message)
