"""The directory of a backup: data files that never change, and one manifest that says which of them make it up.

    manifest.json                     written last, in one step: what it names is complete, what it does not name is old
    messages/2026-11-20-<digest>      a day's messages; written anew only when the day's messages are others
    tables/<table>-<moment>           every other table, anew with each backup
    secret.key                        the server's secret key; only in a sealed backup

A file is named by what it holds, so a backup that is cut off has spoilt nothing: the manifest still names the files of
the one before. With a key every file is sealed (``base.sealed_files``) and the manifest is authenticated.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from clawmail.base.sealed_files import CHUNK_BYTES, Sealer, Unsealable, unseal

MANIFEST = "manifest.json"
SECRET_KEY = "secret.key"
FORMAT = 1


class BackupError(Exception):
    """The backup cannot be written or read; the text says why and what to do."""


class StoredFile(msgspec.Struct, frozen=True):
    """One data file."""

    #: relative to the directory, with slashes.
    name: str
    table: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    #: of the file as it lies there, sealed or not.
    sha256: str
    #: of a day's messages: which day, and the digest of their ids.
    day: str = ""
    digest: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What makes up a backup, in the order in which it has to be loaded."""

    format: int
    taken_at: str
    clawmail: str
    migrations: tuple[str, ...]
    sealed: bool
    files: tuple[StoredFile, ...]
    #: HMAC-SHA-256 of the rest under the key, in hex; "" when there is none.
    mac: str = ""


class BackupDirectory:
    """Reads and writes the files of one backup."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        """``key``: 32 octets that seal everything, or None."""
        self.path = path
        self._key = key

    @property
    def sealed(self) -> bool:
        """Whether a key was given."""
        return self._key is not None

    def manifest(self) -> Manifest | None:
        """The last complete backup; None if there is none. Raises BackupError."""
        try:
            found = msgspec.json.decode((self.path / MANIFEST).read_bytes(), type=Manifest)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise BackupError(f"{self.path / MANIFEST} is not the manifest of a backup: {error}") from None
        if found.format != FORMAT:
            raise BackupError(f"{self.path} was written in format {found.format}, by a newer release; use that one")
        if found.sealed != self.sealed:
            told = "is sealed: name its key with --key-file" if found.sealed else "is not sealed: leave --key-file out"
            raise BackupError(f"{self.path} {told}")
        if self.sealed and not hmac.compare_digest(self._mac(found), found.mac):
            raise BackupError(f"{self.path / MANIFEST} was written with another key, or has been changed")
        return found

    def write_manifest(self, manifest: Manifest) -> None:
        """Makes ``manifest`` the backup, in one step, and removes the files it does not name."""
        manifest = msgspec.structs.replace(manifest, mac=self._mac(manifest) if self.sealed else "")
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        _replace(self.path / MANIFEST, text)
        named = {file.name for file in manifest.files}
        for folder in ("messages", "tables"):
            for file in (self.path / folder).iterdir():
                if f"{folder}/{file.name}" not in named:
                    file.unlink()

    def has(self, file: StoredFile) -> bool:
        """Whether a file of an earlier backup still lies there, whole by its size."""
        path = self.path / file.name
        return path.is_file() and path.stat().st_size == file.bytes

    async def write(
        self, name: str, fill: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[int]]
    ) -> tuple[int, int, str]:
        """Writes the file ``name`` with what ``fill`` hands on; (rows, octets of the file, their SHA-256)."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            writer = _Writer(file, Sealer(file, self._key, name) if self._key is not None else None)
            rows = await fill(writer.write)
            await asyncio.to_thread(writer.finish)
        digest = await asyncio.to_thread(_sha256, unfinished)
        unfinished.replace(path)
        _sync_directory(path.parent)
        return rows, path.stat().st_size, digest

    async def check(self, file: StoredFile) -> None:
        """Raises BackupError unless the file is there as it was written."""
        path = self.path / file.name
        try:
            digest = await asyncio.to_thread(_sha256, path)
        except FileNotFoundError:
            raise BackupError(f"{path} is missing") from None
        if digest != file.sha256:
            raise BackupError(f"{path} has been changed: its SHA-256 is not the one of the manifest")

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """What was written to ``name``. Raises BackupError."""
        with (self.path / name).open("rb") as file:
            pieces = unseal(file, self._key, name) if self._key else iter(lambda: file.read(CHUNK_BYTES), b"")
            try:
                while piece := await asyncio.to_thread(next, pieces, b""):
                    yield piece
            except Unsealable as error:
                raise BackupError(str(error)) from None

    async def keep_secret(self, secret: bytes) -> None:
        """Puts the server's secret key into a sealed backup."""

        async def fill(write: Callable[[bytes], Awaitable[None]]) -> int:
            await write(secret)
            return 1

        assert self.sealed
        await self.write(SECRET_KEY, fill)

    async def secret(self) -> bytes | None:
        """The server's secret key, as its file held it; None if the backup has none."""
        if not self.sealed or not (self.path / SECRET_KEY).exists():
            return None
        return b"".join([piece async for piece in self.read(SECRET_KEY)])

    def _mac(self, manifest: Manifest) -> str:
        assert self._key is not None
        text = msgspec.json.encode(msgspec.structs.replace(manifest, mac=""))
        return hmac.digest(self._key, b"clawmail manifest " + text, "sha256").hex()


class _Writer:
    """Gathers octets, and writes and seals them in a thread."""

    def __init__(self, file: BinaryIO, sealer: Sealer | None) -> None:
        self._file, self._sealer = file, sealer
        self._waiting = bytearray()

    async def write(self, octets: bytes) -> None:
        self._waiting += octets
        if len(self._waiting) >= CHUNK_BYTES:
            await asyncio.to_thread(self._drain)

    def _drain(self) -> None:
        with _explained(self._file.name):
            (self._sealer or self._file).write(self._waiting)
        self._waiting = bytearray()

    def finish(self) -> None:
        """Everything is on the disk when this returns."""
        self._drain()
        with _explained(self._file.name):
            if self._sealer is not None:
                self._sealer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """A disk that is full is told as such, and not taken for a database that is."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{name} cannot be written: {error.strerror}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, octets: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, after a power cut too."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
