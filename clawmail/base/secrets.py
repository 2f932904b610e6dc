"""Keys and secrets: making them, hashing them, sealing them at rest.

Bearer keys are 256-bit random, so nobody can guess one; argon2id with small parameters (about 1 ms) keeps a stolen
table useless without making every first request slow. Private keys are sealed with AES-256-GCM under the server's one
secret key, bound to the row they belong to, so that a sealed value cannot be moved to another row.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: characters of a key that are stored in the clear, for look-up and for people: ``cm_`` or ``cmic_`` and what follows.
PREFIX_LENGTH = 11
#: bytes of randomness in a bearer key.
KEY_BYTES = 32
NONCE_BYTES = 12

_hasher = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1, hash_len=32, salt_len=16)


def new_key(kind: str) -> str:
    """A fresh bearer key: ``kind`` (``cm_``, ``cmic_``, ``cmd_``) and 64 hex digits."""
    return kind + secrets.token_hex(KEY_BYTES)


def key_prefix(key: str) -> str:
    """The part of a key that may be stored and shown."""
    return key[:PREFIX_LENGTH]


def hash_key(key: str) -> str:
    """An argon2id hash of a bearer key. Takes about a millisecond."""
    return _hasher.hash(key)


def key_matches(key: str, hashed: str) -> bool:
    """Whether ``key`` is the one that was hashed, in time that does not depend on where they differ."""
    try:
        return _hasher.verify(hashed, key)
    except (VerificationError, InvalidHashError):
        return False


def fingerprint(key: str) -> bytes:
    """A digest under which a verified key may be remembered in memory, so that the key itself is not kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def same(one: str, other: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


class Keyring:
    """What is derived from the server's one secret key: sealing, and a key for each purpose that signs."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("the secret key has to be 32 bytes (64 hex digits)")
        self._secret = secret
        self._sealer = AESGCM(secret)

    def seal(self, plain: bytes, *, bound_to: bytes) -> bytes:
        """AES-256-GCM: nonce, ciphertext and tag. ``bound_to`` (a row's id) has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._sealer.encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> bytes:
        """The plain bytes of ``seal``. Raises ValueError if the key, the row or the bytes are not the same."""
        try:
            return self._sealer.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
        except InvalidTag:
            raise ValueError("this was sealed with another secret key, or has been changed") from None

    def signing_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose ("srs", "return path", "cursor"), which tell nothing about any other."""
        return hmac.digest(self._secret, b"clawmail " + purpose.encode(), "sha256")


def load_keyring(secret_key: str, data_dir: Path) -> Keyring:
    """The server's keyring: from the setting (64 hex digits), else from ``data_dir/secret.key``, made if missing.

    Raises ValueError if the setting or the file is not 64 hex digits.
    """
    if secret_key:
        return Keyring(_from_hex(secret_key, "server.secret_key"))
    path = data_dir / "secret.key"
    if not path.exists():
        _make_secret(path)
    return Keyring(_from_hex(path.read_text().strip(), str(path)))


def _make_secret(path: Path) -> None:
    """Several processes may start at once: the first to get here wins, and the file is never seen half written."""
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if os.geteuid() == 0:  # a command of root's must not keep it from the account that the server runs under
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # what is sealed with it would survive a power cut that the name of the file did not
    finally:
        os.close(directory)


def _from_hex(text: str, where: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise ValueError(f"{where}: expected 64 hex digits (32 bytes)")
    return secret
