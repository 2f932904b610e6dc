"""The three forms in which mail leaves and comes back: an mbox file, a Maildir, and JSON lines.

mbox (RFC 4155) and Maildir are what other programs read; whether an email is read stands where they look for it: the
Status field, the flag S and the folder ``new``. Archived and sent mail of a Maildir are in its folders ``.Archive`` and
``.Sent``. A file is written under another name and renamed at its end, so that half an export is never taken for one.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from clawmail.base.errors import Invalid
from clawmail.core.archive.entry import Facts, Kept, message_file, read_message_file
from clawmail.protocol.mbox import Entry, entry_bytes, read_entries

Form = Literal["mbox", "maildir", "jsonl"]
FORMS: tuple[Form, ...] = ("mbox", "maildir", "jsonl")
#: the path that means standard output or input.
STANDARD = Path("-")
#: octets of one line of JSON lines, or of one file of a Maildir; a longer one is not read.
MAX_ENTRY_BYTES = 384 * 1024 * 1024
ARCHIVE, SENT = ".Archive", ".Sent"

# An unread message has no need of a status; "O" (old) is what mail programs set when they have seen the file.
_READ, _UNREAD = b"Status: RO\r\n", b"Status: O\r\n"
_STATUS = re.compile(rb"^Status:[ \t]*(\w*)", re.MULTILINE | re.IGNORECASE)
#: octets of a message in which its Status is looked for.
_STATUS_WITHIN = 64 * 1024
_line = msgspec.json.Decoder(Kept)


class Unreadable(NamedTuple):
    """An email of an archive that cannot be imported."""

    #: which one, for people.
    where: str
    problem: str


@contextlib.contextmanager
def writing(form: Form, path: Path) -> Iterator[Callable[[Kept], None]]:
    """Writes a new archive: a function that adds one email. Raises Invalid if something is there already."""
    if form == "maildir":
        yield _new_maildir(path)
        os.sync()
        return
    as_bytes = _as_mbox if form == "mbox" else _as_json_line
    with _new_file(path) as file:
        yield lambda kept: _write(file, as_bytes(kept))


def reading(form: Form, path: Path) -> Iterator[Kept | Unreadable]:
    """The emails of an archive, in its order. Raises Invalid if it is not of that form, or not there."""
    try:
        if form == "maildir":
            yield from _read_maildir(path)
            return
        read = _read_mbox if form == "mbox" else _read_json_lines
        with contextlib.nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb") as file:
            yield from read(file)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Invalid(f"{path}: {error}") from None


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise Invalid(f"{path} is there already; choose another name")
    draft = path.with_name(f".{path.name}.part")
    try:
        # Mail is private: nobody but its owner reads the file.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _as_json_line(kept: Kept) -> bytes:
    return msgspec.json.encode(kept) + b"\n"


def _read_json_lines(file: IO[bytes]) -> Iterator[Kept | Unreadable]:
    number = 0
    while line := file.readline(MAX_ENTRY_BYTES):
        number += 1
        if not line.strip():
            continue
        try:
            yield _line.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Unreadable(f"line {number}", str(error))


def _as_mbox(kept: Kept) -> bytes:
    content = message_file(kept, status=_READ if kept.is_read else _UNREAD)
    return entry_bytes(Entry(kept.envelope_from or "", kept.received_at, content))


def _read_mbox(file: IO[bytes]) -> Iterator[Kept | Unreadable]:
    for number, entry in enumerate(read_entries(file), 1):
        if entry.cut_off:
            yield Unreadable(f"message {number}", "it is too long")
            continue
        status = _STATUS.search(entry.content, 0, _header_end(entry.content))
        facts = Facts(
            received_at=entry.moment, is_read=status is not None and b"R" in status[1], envelope_from=entry.sender
        )
        yield read_message_file(entry.content, facts, has_folders=False)


def _header_end(content: bytes) -> int:
    end = re.search(rb"\n\r?\n", content[:_STATUS_WITHIN])
    return end.start() + 1 if end else min(len(content), _STATUS_WITHIN)


def _new_maildir(path: Path) -> Callable[[Kept], None]:
    try:
        if path.exists() and any(path.iterdir()):
            raise Invalid(f"{path} is there already and not empty; choose another name")
        for folder in (path, path / ARCHIVE, path / SENT):
            for part in ("tmp", "new", "cur"):
                (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder != path:
                (folder / "maildirfolder").touch(0o600)  # Maildir++: marks a folder of another one
    except OSError as error:
        raise Invalid(f"{path} cannot be made: {error.strerror}") from None
    number = 0

    def add(kept: Kept) -> None:
        nonlocal number
        number += 1
        folder = path / ARCHIVE if kept.is_archived else path / SENT if kept.direction == "outbound" else path
        moment = (kept.received_at or datetime.fromtimestamp(0, UTC)).timestamp()
        name = f"{int(moment)}.M{int(moment % 1 * 1_000_000):06d}Q{number:08d}.clawmail"
        draft = folder / "tmp" / name
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(message_file(kept))
        os.utime(draft, (moment, moment))
        draft.rename(folder / "cur" / f"{name}:2,S" if kept.is_read else folder / "new" / name)

    return add


def _read_maildir(path: Path) -> Iterator[Kept | Unreadable]:
    folders = [path, *sorted(child for child in path.iterdir() if child.name.startswith(".") and child.is_dir())]
    files = [
        (_delivered_at(file.name), file.name, file)
        for folder in folders
        for part in ("cur", "new")
        if (folder / part).is_dir()
        for file in (folder / part).iterdir()
        if not file.name.startswith(".")
    ]
    if not files and not (path / "cur").is_dir():
        raise ValueError("this is no Maildir: it has no folder cur")
    for delivered_at, name, file in sorted(files):
        folder = file.parent.parent.name if file.parent.parent != path else ""
        info = file.stat()
        if info.st_size > MAX_ENTRY_BYTES:
            yield Unreadable(str(file), "it is too long")
            continue
        facts = Facts(
            received_at=datetime.fromtimestamp(delivered_at or info.st_mtime, UTC),
            direction="outbound" if folder.lower().startswith(SENT.lower()) else "inbound",
            is_read="S" in name.rpartition(":2,")[2] if ":2," in name else False,
            is_archived=folder.lower().startswith(ARCHIVE.lower()),
        )
        yield read_message_file(file.read_bytes(), facts, has_folders=True)


def _delivered_at(name: str) -> int:
    """The seconds that a file's name begins with; 0 where it has none that can be a time."""
    seconds = name.partition(".")[0]
    return int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) <= 11 else 0
