"""Replies of other servers that a bounce quotes somewhere in its text (RFC 5321 section 4.2, RFC 3463).

Many programs name the recipient in one paragraph and say in another what the other server answered. What it answered is
the best reason there is, so a reason that holds no code is given the reply that belongs to it: one that names the
address, or any one where the bounce is about a single recipient.
"""

from __future__ import annotations

import re
from itertools import islice

#: characters of one reply that are kept, and replies of one report.
MAX_REPLY_CHARS = 300
MAX_REPLIES = 100

# A code at the start of a line, or behind a mark that opens what somebody said; nothing else that has three digits.
_REPLY = re.compile(rf"""(?:^|[:'"\[(>]|\bsaid)[ \t]*([45]\d\d[ -][^\n]{{4,{MAX_REPLY_CHARS}}})""", re.MULTILINE)
_CODE = re.compile(r"(?<![\d.])[45](?:\d\d[ -]|\.\d{1,3}\.\d{1,3})")


def with_replies(reasons: dict[str, str], report: str) -> dict[str, str]:
    """``reasons`` (address -> reason) with the replies that ``report`` quotes, where a reason has no code itself."""
    if all(_CODE.search(reason) for reason in reasons.values()):
        return reasons
    replies = replies_in(report)
    return {
        address: reason if _CODE.search(reason) else f"{reason} {_reply_for(address, replies, len(reasons))}".strip()
        for address, reason in reasons.items()
    }


def replies_in(report: str) -> list[str]:
    """The replies that ``report`` quotes, in their order."""
    return [match[1] for match in islice(_REPLY.finditer(report), MAX_REPLIES)]


def _reply_for(address: str, replies: list[str], recipients: int) -> str:
    own = [reply for reply in replies if address.lower() in reply.lower()]
    if not own and recipients == 1:
        own = replies
    # What failed for good was said last, after what was tried again.
    return next((reply for reply in own if reply.startswith("5")), own[0] if own else "").strip()
