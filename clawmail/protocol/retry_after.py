"""Retry-After (RFC 9110 section 10.2.3): how long a server that answered 429 or 503 wants to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: digits of a number of seconds that are believed; whoever sends more means "never".
MAX_DIGITS = 9


def retry_after_seconds(field: str, now: datetime) -> float:
    """Seconds from ``now``, of a number or of a date; 0 for a moment that has passed and for what is neither."""
    text = field.strip()
    if text.isascii() and text.isdigit():
        return float(text[:MAX_DIGITS]) if len(text) <= MAX_DIGITS else 10.0**MAX_DIGITS
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    # RFC 9110 section 5.6.7: an HTTP date is in GMT, whether or not it says so.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
