"""UUID version 7 (RFC 9562 section 5.7): ids that sort by the time they were made.

Lists are walked by id, so two ids made by one process must sort in the order they were made: within one millisecond
the 12 bits of ``rand_a`` count up (RFC 9562 section 6.2, method 1), and the clock never runs backwards.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

#: octets that the system is asked for at once: a call for each id would cost more than the rest of making it.
POOL_OCTETS = 4096

_lock = threading.Lock()
_last_tick = 0
_pool: list[int] = []
# A child that went on with its parent's pool would make its parent's ids.
os.register_at_fork(after_in_child=_pool.clear)
_EPOCH = datetime.fromtimestamp(0, UTC)


def new_id() -> UUID:
    """A fresh UUIDv7, greater than every one this process made before."""
    global _last_tick
    with _lock:
        # A tick is a millisecond and a 12-bit fraction of it, so that equal milliseconds still count up.
        tick = time.time_ns() * 4096 // 1_000_000
        _last_tick = tick = max(tick, _last_tick + 1)
    return _uuid(tick)


def _uuid(tick: int) -> UUID:
    random = _random_bits() & 0x3FFF_FFFF_FFFF_FFFF
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | random
    return UUID(int=value)


def _random_bits() -> int:
    """64 bits that nobody else gets: taking one off the end of a list is a single step for every thread."""
    while True:
        try:
            return _pool.pop()
        except IndexError:
            _pool.extend(struct.unpack(f"{POOL_OCTETS // 8}Q", os.urandom(POOL_OCTETS)))


def id_at(moment: datetime, sequence: int = 0) -> UUID:
    """A UUIDv7 as it would have been made at ``moment``: what is brought in from elsewhere has its place in lists.

    ``sequence`` (its last 12 bits count) puts ids of one moment in order; moments before 1970 count as its beginning.
    """
    microseconds = max(0, (moment - _EPOCH) // timedelta(microseconds=1))
    tick = microseconds * 4096 // 1000 + (sequence & 0xFFF)
    return _uuid(tick)


def time_of(identifier: UUID) -> datetime:
    """The moment a UUIDv7 was made, in UTC, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of ``moment``: a bound for walking lists by time."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62)


def as_uuid(text: str) -> UUID | None:
    """``text`` in the usual form of 36 characters as a UUID; None for anything else, which is nobody's id."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None
