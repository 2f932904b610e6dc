"""Dates and message identifiers of a header (RFC 5322 sections 3.3, 3.6.4, 4.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz

from .charset import decode_text

#: octets of a Date field, and of the fields that list message ids, that are looked at.
MAX_DATE_OCTETS = 128
MAX_IDS_OCTETS = 128 * 1024
#: characters of one message id; RFC 5322 lines end at 998.
MAX_ID_CHARS = 998

_MONTHS = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
# date-time = [ day-of-week "," ] day month year hour ":" minute [ ":" second ] zone      (RFC 5322 section 3.3)
_DATE = re.compile(
    rb"\s*(?:[A-Za-z]{3},)?\s*(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d{2}):(\d{2})(?::(\d{2}))?\s+([+-])(\d{2})([0-5]\d)"
    rb"\s*(?:\([^()]*\)\s*)?"
)
_PLAIN_ID = re.compile(rb"[ \t]*(<[!-;=?-~]{1,250}>)[ \t\r\n]*")
_ID = re.compile(r"<[^<>]*>")
_BLANKS = re.compile(r"\s+")


def parse_date(value: bytes) -> datetime | None:
    """The moment a Date field names, aware; None when it names none. A missing zone is taken as UTC."""
    if len(value) > MAX_DATE_OCTETS:
        return None
    if match := _DATE.fullmatch(value):
        day, month_name, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
        month, seconds_east = _MONTHS.get(month_name.lower(), 0), int(zone_hours) * 3600 + int(zone_minutes) * 60
        numbers = (int(year), month, int(day), int(hour), int(minute), int(second or 0))
        return _moment(numbers, -seconds_east if sign == b"-" else seconds_east)
    try:
        loose = parsedate_tz(value.decode("latin-1"))  # obsolete forms and zone names (RFC 5322 section 4.3)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return None if loose is None else _moment(loose[:6], loose[9] or 0)


def _moment(numbers: tuple[int, ...], seconds_east: int) -> datetime | None:
    year, month, day, hour, minute, second = numbers
    try:
        zone = UTC if seconds_east == 0 else timezone(timedelta(seconds=seconds_east))
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
        moment.astimezone(UTC)  # year 1 and 9999 may fall off the calendar in UTC, where the store keeps it
    except (ValueError, OverflowError):
        return None
    return moment


def message_ids(value: bytes, *, limit: int) -> list[str]:
    """The ids of a Message-ID, In-Reply-To or References field, each with its angle brackets and without blanks.

    Of more than ``limit`` the first, which names the thread, and the newest are kept. A field without any brackets
    gives its words, as sent: some old mailers write their ids so.
    """
    if plain := _PLAIN_ID.fullmatch(value):
        return [plain[1].decode("ascii")]
    text = decode_text(value[:MAX_IDS_OCTETS])
    found = [i for i in _ID.findall(text) if len(i) > 2] if "<" in text else []
    ids = [_BLANKS.sub("", i) for i in found] if found else [word for word in text.split() if "@" in word]
    ids = [identifier for identifier in ids if 2 < len(identifier) <= MAX_ID_CHARS]
    return ids if len(ids) <= limit else ids[:1] + ids[len(ids) - limit + 1 :]
