"""What the embedded PostgreSQL writes: kept in a file of bounded size, its grave lines told in our own log.

The server appends to the file it was started with and would do so for ever. Whoever keeps the server looks at it now
and then: beyond ``MAX_BYTES`` the end of it moves to ``postgres.log.1``, and it begins anew. Errors of single
statements are not told: they come to whoever made the statement, and their text may quote mail.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from clawmail.base.log import logger
from clawmail.store.postgres_process import open_private

#: octets of the file, and of the one before it.
MAX_BYTES = 10_000_000
#: octets of what is new that are looked through at once, and grave lines that are told of them.
NEWS_BYTES = 1_000_000
NEWS_LINES = 20

# "2026-11-20 12:00:00.123 UTC [4711] FATAL:  text": log_line_prefix is '%m [%p] ' by default.
_LINE = re.compile(rb"^\S+ \S+ \S+ \[\d+\] (PANIC|FATAL|WARNING|LOG):  (.*)$", re.MULTILINE)
# LOG lines tell of every start and checkpoint; these are not of that kind.
_GRAVE = re.compile(rb"terminated by signal|exited with exit code|could not |interrupted|not properly shut down")

log = logger("postgres")


class ServerLog:
    """The file, and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def begin(self) -> None:
        """What the file holds now is old."""
        self._read = self.size

    @property
    def size(self) -> int:
        """In octets; 0 without a file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def has_news(self) -> bool:
        """Whether the server has written since the last look."""
        return self.size not in (0, self._read)

    def look(self) -> None:
        """Tells what is grave of what is new, and keeps the file small. Raises OSError."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Shorter than it was: somebody else has emptied it.
            self._read = 0 if size < self._read else max(self._read, size - NEWS_BYTES)
            file.seek(self._read)
            news = file.read(size - self._read)
        whole = news.rfind(b"\n") + 1
        self._read += whole
        self._tell(news[:whole])
        if size > MAX_BYTES:
            self._begin_anew(size)

    def _tell(self, news: bytes) -> None:
        lines = [
            (level, text.decode("utf-8", "replace"))
            for level, text in _LINE.findall(news)
            if level != b"LOG" or _GRAVE.search(text)
        ]
        for level, text in lines[:NEWS_LINES]:
            tell = log.error if level == b"PANIC" else log.warning
            tell("embedded PostgreSQL", level=level.decode().lower(), text=text)
        if len(lines) > NEWS_LINES:
            log.warning("embedded PostgreSQL: more in its log", lines=len(lines) - NEWS_LINES, file=str(self.path))

    def _begin_anew(self, size: int) -> None:
        """Moves the end of the file away. The server has it open for appending, so it goes on at the beginning."""
        with self.path.open("rb") as file, open(f"{self.path}.1", "wb", opener=open_private) as before:
            owner = os.fstat(file.fileno())
            if os.geteuid() == 0:
                os.fchown(before.fileno(), owner.st_uid, owner.st_gid)
            file.seek(size - MAX_BYTES)
            before.write(file.read(MAX_BYTES))
        os.truncate(self.path, 0)
        self._read = 0
