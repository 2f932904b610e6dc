"""Signing keys held ready, and signing off the event loop.

A domain's private keys are sealed in the database. They are opened and loaded once and kept by the id of their row, so
a rotated key is picked up as soon as the directory learns of it. An RSA-2048 signature takes a quarter of a
millisecond, for which OpenSSL needs no interpreter: a thread makes it while the event loop goes on. The way into the
thread and back costs a third of that again, so small messages that wait at the same moment go there together.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from clawmail.base.secrets import Keyring
from clawmail.base.tenant import house_task
from clawmail.base.threads import started_threads
from clawmail.core.directory import Directory
from clawmail.model.tenancy import DkimKey, Domain
from clawmail.protocol.arc import ArcResult, seal
from clawmail.protocol.dkim.sign import SigningKey, load_signing_key, sign
from clawmail.protocol.headers import split_message

#: opened keys kept in memory.
MAX_OPEN_KEYS = 10_000
THREADS = 2
#: messages above so many bytes are signed one by one, beside the small ones: hashing them takes longer than the way.
SMALL_BYTES = 64 * 1024
#: small messages signed together: some five milliseconds, so that the first need not wait long for the last.
MAX_BATCH = 16


class _Unsigned(NamedTuple):
    """A small message that waits for its signature."""

    raw: bytes
    keys: Sequence[SigningKey]
    signed: asyncio.Future[bytes]


class Signers:
    """Signs for the domains of this installation."""

    def __init__(self, directory: Directory, keyring: Keyring, *, with_ed25519: bool = False) -> None:
        self._directory = directory
        self._keyring = keyring
        self._with_ed25519 = with_ed25519
        self._open: OrderedDict[UUID, SigningKey] = OrderedDict()
        self._threads = started_threads(THREADS, "sign")
        self._waiting: deque[_Unsigned] = deque()
        self._signing: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def keys_of(self, domain: Domain) -> tuple[SigningKey, ...]:
        """What mail of ``domain`` is signed with, RSA first; empty if it has no active key."""
        sealed = await self._directory.signing_keys(domain)
        wanted = [key for key in sealed if self._with_ed25519 or key.algorithm == "rsa-sha256"]
        return tuple([await self._opened(domain, key) for key in wanted])

    async def sign(self, domain: Domain, raw: bytes) -> bytes:
        """The DKIM-Signature fields to put on top of ``raw``; b"" if the domain has no active key."""
        keys = await self.keys_of(domain)
        if not keys:
            return b""
        loop = asyncio.get_running_loop()
        if len(raw) > SMALL_BYTES:
            return await loop.run_in_executor(self._threads, _signature, raw, keys)
        signed: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append(_Unsigned(raw, keys, signed))
        if self._signing is None:
            self._signing = house_task(self._sign_waiting(), "sign")
        return await signed

    async def _sign_waiting(self) -> None:
        """Signs all that waits; what arrives meanwhile goes with the next batch."""
        batch: list[_Unsigned] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                results = await asyncio.get_running_loop().run_in_executor(self._threads, _signatures, batch)
                for one, result in zip(batch, results, strict=True):
                    _settle(one.signed, result)
        finally:
            self._signing = None
            for one in (*batch, *self._waiting):  # none is left, unless the threads have ended: then nobody may wait
                one.signed.cancel()
            self._waiting.clear()

    async def seal(self, domain: Domain, raw: bytes, results: str, chain: ArcResult, *, authserv_id: str) -> bytes:
        """The ARC set to put on top of ``raw`` (RFC 8617); b"" if there is no key, or the chain must not be sealed.

        ``results`` is the value of our Authentication-Results, ``chain`` what the chain was when the message came in.
        """
        keys = [key for key in await self.keys_of(domain) if key.algorithm == "rsa-sha256"]
        if not keys:
            return b""

        def make() -> bytes:
            return seal(
                split_message(raw),
                keys[0],
                authserv_id=authserv_id,
                authentication_results=results,
                chain=chain,
                now=time.time(),
            )

        return await asyncio.get_running_loop().run_in_executor(self._threads, make)

    async def _opened(self, domain: Domain, key: DkimKey) -> SigningKey:
        opened = self._open.get(key.id)
        if opened is None:
            private = self._keyring.open(key.private_sealed, bound_to=key.id.bytes)
            # OpenSSL checks the numbers of an RSA key, which takes some 40 ms.
            load = functools.partial(load_signing_key, domain.name, key.selector, private)
            opened = self._open[key.id] = await asyncio.get_running_loop().run_in_executor(self._threads, load)
            while len(self._open) > MAX_OPEN_KEYS:
                self._open.popitem(last=False)
        return opened


def _signature(raw: bytes, keys: Sequence[SigningKey]) -> bytes:
    return sign(raw, keys, now=time.time())


def _signatures(batch: Sequence[_Unsigned]) -> list[bytes | Exception]:
    """One result for each; what is wrong with one message is its owner's to hear."""
    results: list[bytes | Exception] = []
    for one in batch:
        try:
            results.append(_signature(one.raw, one.keys))
        except Exception as error:  # noqa: BLE001
            results.append(error)
    return results


def _settle(signed: asyncio.Future[bytes], result: bytes | Exception) -> None:
    """Hands a result over, unless nobody waits for it any more."""
    if signed.done():
        return
    if isinstance(result, bytes):
        signed.set_result(result)
    else:
        signed.set_exception(result)
