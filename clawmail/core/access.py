"""Who is calling: bearer keys turned into principals.

A key is found by its prefix and proved with argon2id in a thread. One that proved right is remembered for some seconds
under a digest of it, so the usual request costs neither argon2 nor a round trip. A change to a key is heard at once
(NOTIFY in the changing transaction), and everything is forgotten when hearing may have had gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from clawmail.base.errors import StoreUnwell, Unauthenticated
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.secrets import fingerprint, hash_key, key_matches, key_prefix, new_key
from clawmail.base.threads import started_threads
from clawmail.core.same_question import SameQuestion
from clawmail.model.tenancy import AccessKey, KeyKind, Principal
from clawmail.protocol.address import folded
from clawmail.store import keys as store
from clawmail.store.db import Database

#: seconds that a verified key is believed without being told of a change.
REMEMBERED_SECONDS = 30.0
#: verified keys remembered.
MAX_REMEMBERED = 20_000
#: argon2 computations at a time; more would take the cores from the mail.
ARGON2_THREADS = 2
#: seconds between two notes of when keys were last used.
NOTE_USE_SECONDS = 60.0
#: what keys begin with, by kind.
KEY_MARKS: dict[KeyKind, str] = {"domain": "cmd_", "creation": "cmic_", "inbox": "cm_"}
#: what is said to whoever shows a wrong one.
WRONG: dict[KeyKind, str] = {
    "domain": "Invalid verification token",
    "creation": "Invalid inbox creation key or verification token",
    "inbox": "Invalid email or API key",
}

log = logger("access")


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    verified_at: float


class Access:
    """Judges keys; one for a process. ``start`` it, so that it hears of revoked keys."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._changes_heard = 0
        self._asked = SameQuestion()
        self._used: dict[UUID, datetime] = {}
        self._threads = started_threads(ARGON2_THREADS, "argon2")
        self._noting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to hear of changes and to note when keys are used."""
        self._db.listen(store.CHANNEL, self._heard, lost=self.forget_all)
        self._noting = asyncio.create_task(self._note_uses(), name="note key uses")

    async def stop(self) -> None:
        """Writes down what is noted and stops."""
        if self._noting is not None:
            self._noting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._noting
        with contextlib.suppress(StoreUnwell):  # a note lost with the store it belongs to
            await self.note_uses()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def inbox(self, address: str, key: str) -> Principal:
        """The holder of an inbox's key. Raises Unauthenticated."""
        return await self._remembering("inbox", f"{address}:{key}", lambda: self._inbox(address, key))

    async def domain(self, token: str, *, pending: bool = False) -> Principal:
        """The holder of a domain's token; ``pending``: the domain need not be verified yet. Raises Unauthenticated."""
        if not pending:
            return await self._remembering("domain", token, lambda: self._domain(token))
        return (await self._proved(token, "domain")).principal

    async def creation(self, token: str) -> Principal:
        """The holder of a creation key that is still good, or of a domain's token. Raises Unauthenticated."""
        if not token.startswith(KEY_MARKS["creation"]):
            return await self.domain(token)
        candidate = await self._proved(token, "creation")
        return _of_verified_domain(candidate)

    @property
    def remembers(self) -> int:
        """How many verified keys are remembered."""
        return len(self._remembered)

    def forget(self, key_or_domain_id: UUID) -> None:
        """Drops what is remembered of a key, or of a domain's keys."""
        self._changes_heard += 1
        gone = [
            digest
            for digest, known in self._remembered.items()
            if key_or_domain_id in (known.principal.key_id, known.principal.domain_id)
        ]
        for digest in gone:
            del self._remembered[digest]

    def forget_all(self) -> None:
        """Drops everything: changes may have gone unheard."""
        self._changes_heard += 1
        self._remembered.clear()

    async def note_uses(self) -> None:
        """Writes down when keys were last used, all in one statement."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._db.connection() as conn:
                await store.were_used(conn, used)
        except Exception:
            self._used = used | self._used
            raise

    def _heard(self, payload: str) -> None:
        try:
            self.forget(UUID(payload))
        except ValueError:
            self.forget_all()

    async def _note_uses(self) -> None:
        while True:
            await asyncio.sleep(NOTE_USE_SECONDS)
            try:
                await self.note_uses()
            except Exception as error:  # noqa: BLE001  a note that cannot be written must not end the noting
                log.warning("key uses not noted", problem=str(error) or type(error).__name__)

    async def _remembering(
        self, kind: KeyKind, credential: str, judge: Callable[[], Awaitable[Principal]]
    ) -> Principal:
        digest = fingerprint(f"{kind} {credential}")  # what opens an inbox must not be found when a domain is asked for
        if (known := self._known(digest)) is not None:
            return known
        async with self._asked(digest):
            if (known := self._known(digest)) is not None:
                return known
            changes_heard = self._changes_heard
            principal = await judge()
            # A change heard while we looked may be a revocation of this very key: believe it this once, keep nothing.
            if changes_heard == self._changes_heard:
                self._remembered[digest] = _Remembered(principal, self._clock())
                self._remembered.move_to_end(digest)
                while len(self._remembered) > MAX_REMEMBERED:
                    self._remembered.popitem(last=False)
        return principal

    def _known(self, digest: bytes) -> Principal | None:
        """Whose credential this is, if it was shown not long ago."""
        known = self._remembered.get(digest)
        if known is None or self._clock() - known.verified_at >= REMEMBERED_SECONDS:
            return None
        self._used[known.principal.key_id] = datetime.now(UTC)
        return known.principal

    async def _inbox(self, address: str, key: str) -> Principal:
        principal = (await self._proved(key, "inbox")).principal
        if folded(principal.address or "") != folded(address):
            raise Unauthenticated("Invalid email or API key")
        return principal

    async def _domain(self, token: str) -> Principal:
        return _of_verified_domain(await self._proved(token, "domain"))

    async def _proved(self, key: str, kind: KeyKind) -> store.Candidate:
        """The live key whose text this is; a prefix nobody has costs no argon2."""
        now = datetime.now(UTC)
        if key.startswith(KEY_MARKS[kind]) and key.isascii():
            async with self._db.connection() as conn:
                candidates = await store.candidates(conn, key_prefix(key), [kind], now)
            loop = asyncio.get_running_loop()
            for candidate in candidates:
                if await loop.run_in_executor(self._threads, key_matches, key, candidate.secret_hash):
                    self._used[candidate.principal.key_id] = now
                    return candidate
        raise Unauthenticated(WRONG[kind])


def _of_verified_domain(candidate: store.Candidate) -> Principal:
    if not candidate.verified:
        raise Unauthenticated("This domain is not verified yet", code="domain_not_verified")
    return candidate.principal


async def stored_key(
    kind: KeyKind,
    owner: Principal,
    now: datetime,
    *,
    inbox_id: UUID | None = None,
    label: str = "",
    expires_at: datetime | None = None,
) -> tuple[AccessKey, str]:
    """A new key of the owner's domain, ready to be stored, and its text, which is kept nowhere."""
    text = new_key(KEY_MARKS[kind])
    hashed = await asyncio.to_thread(hash_key, text)
    key = AccessKey(
        id=new_id(),
        organisation_id=owner.organisation_id,
        domain_id=owner.domain_id,
        inbox_id=inbox_id,
        kind=kind,
        prefix=key_prefix(text),
        secret_hash=hashed,
        label=label,
        created_at=now,
        last_used_at=None,
        expires_at=expires_at,
        used_at=None,
        revoked_at=None,
    )
    return key, text
