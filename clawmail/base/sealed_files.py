"""Files that are sealed as they are written: AES-256-GCM, chunk by chunk, under a key made for each file.

A sealed file is ``MAGIC``, a random salt, then chunks: four octets of length, ciphertext and tag. The file's key comes
from the given one and the salt (HKDF-SHA-256), so a counter is a safe nonce. Each chunk is bound to the file's name and
to whether it is the last, so that chunks cannot be cut off, put in another order or moved to another file (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"clawmail sealed 1\n"
SALT_BYTES = 32
#: octets of plain text in one chunk.
CHUNK_BYTES = 1024 * 1024
TAG_BYTES = 16
_LENGTH_BYTES = 4
_NONCE_BYTES = 12


class Unsealable(ValueError):
    """The file is not what was sealed under this key and name; the text says so."""


class Sealer:
    """Writes one sealed file."""

    def __init__(self, file: BinaryIO, key: bytes, name: str) -> None:
        salt = os.urandom(SALT_BYTES)
        self._file, self._name = file, name.encode()
        self._cipher = _cipher(key, salt)
        self._buffer = bytearray()
        self._chunks = 0
        file.write(MAGIC + salt)

    def write(self, octets: bytes | bytearray) -> None:
        """Takes some octets; whole chunks go to the file."""
        self._buffer += octets
        while len(self._buffer) > CHUNK_BYTES:
            self._write_chunk(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]

    def finish(self) -> None:
        """Writes the last chunk, without which the file cannot be read."""
        self._write_chunk(bytes(self._buffer), last=True)

    def _write_chunk(self, plain: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._chunks), plain, _binding(self._name, last=last))
        self._file.write(len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed)
        self._chunks += 1


def unseal(file: BinaryIO, key: bytes, name: str) -> Iterator[bytes]:
    """The plain chunks of a sealed file, each checked before it is handed on. Raises Unsealable."""
    if file.read(len(MAGIC)) != MAGIC:
        raise Unsealable(f"{name} is not a sealed file")
    cipher, binding = _cipher(key, file.read(SALT_BYTES)), name.encode()
    chunks, length = 0, file.read(_LENGTH_BYTES)
    while length:
        size = int.from_bytes(length, "big")
        sealed = file.read(size) if size <= CHUNK_BYTES + TAG_BYTES else b""
        length = file.read(_LENGTH_BYTES)
        try:
            yield cipher.decrypt(_nonce(chunks), sealed, _binding(binding, last=not length))
        except InvalidTag:
            raise Unsealable(f"{name} was sealed with another key, or has been changed or cut off") from None
        chunks += 1
    if not chunks:
        raise Unsealable(f"{name} has been cut off")


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, b"clawmail sealed file").derive(key))


def _nonce(chunk: int) -> bytes:
    return chunk.to_bytes(_NONCE_BYTES, "big")


def _binding(name: bytes, *, last: bool) -> bytes:
    return (b"last " if last else b"more ") + name
