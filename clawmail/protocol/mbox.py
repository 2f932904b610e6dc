"""mbox: many messages in one file (RFC 4155), in the "mboxrd" dialect, the one that loses nothing.

Each message begins with a line ``From sender date`` and ends with an empty line. A line of the message that looks like
such a beginning gets a ``>`` in front, and so does one that has got some already, so that taking one off each is the
exact inverse. RFC 4155 leaves the dialect open (its appendix A); other dialects quote less, and are read all the same.
Lines are told apart by LF alone. A CR before it belongs to the line, so that the bytes of a message stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, NamedTuple

#: octets of one message; what goes beyond is read over, and the message is given as cut off.
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
#: octets read at once; a longer line comes in pieces.
PIECE_BYTES = 1024 * 1024
#: what stands for the null sender in a beginning.
NULL_SENDER = "MAILER-DAEMON"

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_LOOKS_LIKE_BEGINNING = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
# RFC 4155 appendix A: "From ", an address, a space, and the time as C's asctime() writes it. Some programs put a zone
# before the year, or after it.
_BEGINNING = re.compile(
    rb"From +(\S+) +\w{3} +(\w{3}) +(\d{1,2}) +(\d\d):(\d\d)(?::(\d\d))?(?: +[A-Z+-][A-Za-z0-9:]{1,8})? +(\d{4})\b"
)


class Entry(NamedTuple):
    """A message of an mbox."""

    #: as the line it begins with tells; "" is the null sender.
    sender: str
    #: in UTC, as RFC 4155 has it; None if there is no such day.
    moment: datetime | None
    #: unquoted, without the empty line behind it.
    content: bytes
    #: it was longer than ``MAX_MESSAGE_BYTES``: ``content`` is only its beginning.
    cut_off: bool = False


def entry_bytes(entry: Entry) -> bytes:
    """An entry as it stands in the file, which is these one after the other."""
    moment = (entry.moment or datetime.fromtimestamp(0, UTC)).astimezone(UTC)
    day, month = DAYS[moment.weekday()], MONTHS[moment.month - 1]
    date = f"{day} {month} {moment.day:2d} {moment:%H:%M:%S} {moment.year:04d}"
    sender = re.sub(r"\s", "?", entry.sender) or NULL_SENDER
    end = b"\n" if entry.content.endswith(b"\n") or not entry.content else b"\n\n"
    return (
        f"From {sender} {date}\n".encode("utf-8", "replace") + _LOOKS_LIKE_BEGINNING.sub(rb">\1", entry.content) + end
    )


def read_entries(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of a file, one at a time. Raises ValueError when it begins otherwise than an mbox does."""
    reading: _Reading | None = None
    starts_line, after_empty_line = True, True
    while piece := file.readline(PIECE_BYTES):
        beginning = _BEGINNING.match(piece) if starts_line and after_empty_line else None
        if beginning is not None:
            if reading is not None:
                yield reading.entry()
            reading = _Reading(beginning)
        elif reading is not None:
            reading.add(piece)
        elif piece.strip():
            raise ValueError("this is no mbox: it does not begin with a line like From sender Thu Jan  1 00:00:00 2026")
        after_empty_line = starts_line and piece in (b"\n", b"\r\n")
        starts_line = piece.endswith(b"\n")
    if reading is not None:
        yield reading.entry()


class _Reading:
    """The entry that is being read."""

    def __init__(self, beginning: re.Match[bytes]) -> None:
        self._beginning = beginning
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= MAX_MESSAGE_BYTES:
            self._pieces.append(piece)

    def entry(self) -> Entry:
        sender = self._beginning[1].decode("utf-8", "replace")
        content = _QUOTED.sub(rb"\1", _without_empty_line(b"".join(self._pieces)))
        return Entry(
            "" if sender == NULL_SENDER else sender, self._moment(), content, cut_off=self._size > MAX_MESSAGE_BYTES
        )

    def _moment(self) -> datetime | None:
        month, *numbers = self._beginning.group(2, 3, 4, 5, 6, 7)
        try:
            day, hour, minute, second, year = (int(number or 0) for number in numbers)
            return datetime(year, MONTHS.index(month.decode()) + 1, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return None


def _without_empty_line(content: bytes) -> bytes:
    """Takes off the empty line that ends an entry; of the last one in a file it may be missing."""
    for empty in (b"\r\n", b"\n"):
        if content == empty or content.endswith(b"\n" + empty):
            return content[: -len(empty)]
    return content
