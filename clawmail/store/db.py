"""The pool, transactions, and the one place where PostgreSQL's errors become ours.

A use-case opens ``db.transaction()`` and hands the connection to the store's functions, so that what commits together
can be read off the call. Every wait has a timeout. ``listen`` keeps one connection for NOTIFY, which only ever hints:
whoever is woken looks again, and whoever was not woken looks by himself from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg

from clawmail.base import errors
from clawmail.base.log import logger
from clawmail.base.tenant import current_tenant
from clawmail.store.queries import load
from clawmail.store.turns import Turns

#: asyncpg carries no types: a connection of the pool, or a bare one.
Connection = Any

#: constraints a caller can run into: what to tell him.
CONSTRAINTS: dict[str, Callable[[], errors.ClawmailError]] = {
    "domains_live_name": lambda: errors.Conflict("Domain is already registered"),
    "inboxes_live_address": lambda: errors.Conflict("Inbox already exists"),
    "messages_pkey": lambda: errors.Conflict("Message is filed already"),
}
#: seconds between tries to listen again after the connection is lost.
LISTEN_RETRY_SECONDS = 1.0
#: seconds between two looks at whether a connection that only listens still reaches anybody.
LISTEN_PROBE_SECONDS = 10.0
_PROBE = load("health").ping
#: statements after which a connection is made anew: often enough to give memory back, seldom enough to cost nothing.
MAX_QUERIES = 1_000_000
#: seconds without work after which a connection is closed, where connections come and go.
IDLE_SECONDS = 60.0

#: what a server says that goes on serving, and has undone what it was asked.
REFUSALS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.ReadOnlySQLTransactionError)

#: what goes wrong with a connection, RuntimeError among it (``_is_write_after_loss``).
FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    RuntimeError,
)

log = logger("store")


def translate(error: BaseException) -> errors.ClawmailError | None:
    """What a PostgreSQL or connection error means to a caller; None if it is a fault of our own."""
    if isinstance(error, asyncpg.UniqueViolationError | asyncpg.ForeignKeyViolationError | asyncpg.CheckViolationError):
        known = CONSTRAINTS.get(error.constraint_name or "")
        return known() if known else None
    if isinstance(error, asyncpg.DiskFullError | asyncpg.OutOfMemoryError):
        full = errors.StoreFull("the store is full")
        full.answered = True
        return full
    unwell = (
        asyncpg.PostgresConnectionError,
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.PostgresIOError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        ConnectionError,
        TimeoutError,
        OSError,
    )
    if not isinstance(error, unwell) and not _is_write_after_loss(error):
        return None
    found = errors.StoreUnwell("the store is not available")
    found.answered = isinstance(error, REFUSALS)
    return found


def _is_write_after_loss(error: BaseException) -> bool:
    """uvloop's words for a connection that is gone: asyncpg says goodbye to it when it gives up a statement."""
    return isinstance(error, RuntimeError) and str(error).endswith("the handler is closed")


async def _as_it_is(_connection: Connection) -> None:
    """Gives a connection back without a round trip: nobody changes its session, and open transactions asyncpg ends."""


class Database:
    """A pool of connections to one PostgreSQL, given out to tenants in turn."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        timeout_seconds: float = 30.0,
        keeps_open: bool = False,
        plans_once: bool = False,
        learns: Sequence[str] = (),
    ) -> None:
        """``keeps_open``: all connections are made at once and stay. One that is made when it is needed is made when
        the machine is busy, and takes seconds then.

        ``plans_once``: each statement is planned once, to go by indexes; for what handles few rows at a time.
        PostgreSQL would go by the size that a table had at that moment, and read all of one that has grown since, until
        it is analysed. And a statement that is given an empty array now and then it would plan anew each time, which
        takes longer than to run it.

        ``learns``: statements whose types a connection asks for when it is made, for 20 ms, and not when mail waits."""
        self.url = url
        self._plans_once = plans_once
        self._keeps_open = keeps_open
        self._statements = learns
        self._pool_size = pool_size
        self._timeout = timeout_seconds
        self._pool: asyncpg.Pool | None = None
        self._turns = Turns(pool_size)
        self._listeners: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connects. Raises StoreUnwell when there is no PostgreSQL to talk to."""
        try:
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=self._pool_size if self._keeps_open else 1,
                max_size=self._pool_size,
                timeout=self._timeout,
                command_timeout=self._timeout,
                max_inactive_connection_lifetime=0.0 if self._keeps_open else IDLE_SECONDS,
                max_queries=MAX_QUERIES,
                reset=_as_it_is,
                init=self._learn,
                server_settings={
                    "application_name": "clawmail",
                    "jit": "off",
                    "enable_seqscan": "off" if self._plans_once else "on",
                    "plan_cache_mode": "force_generic_plan" if self._plans_once else "auto",
                    "synchronous_commit": "on",
                    "timezone": "UTC",
                },
            )
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise translate(error) or errors.StoreUnwell("the store is not available") from error

    async def _learn(self, connection: Connection) -> None:
        for statement in self._statements:
            await connection.prepare(statement)

    async def close(self) -> None:
        """Stops listening and closes every connection, by force after a few seconds."""
        for task in self._listeners:
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        self._listeners.clear()
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 5)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for reading; each statement is its own transaction. Errors come out as ours."""
        if self._pool is None:
            raise errors.StoreUnwell("the store is not open")
        tenant = current_tenant.get()
        # Who has what others wait for does not queue for the loop as well (decision 13): they would queue with him.
        current_tenant.set(None)
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.enter(tenant)
            try:
                async with self._pool.acquire(timeout=self._timeout) as connection:
                    yield connection
            finally:
                self._turns.leave()
        except FAILURES as e:
            known = translate(e)
            if known is None:
                raise
            raise known from e
        finally:
            current_tenant.set(tenant)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end of the block, rolled back if the block raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    def listen(self, channel: str, heard: Callable[[str], None], lost: Callable[[], None] | None = None) -> None:
        """Calls ``heard(payload)`` for each NOTIFY on ``channel`` until close; ``lost()`` when hearing may have gaps.

        The connection is made anew when it breaks. ``lost`` is called at each break and each new start: whatever was
        cached on the promise of being told has to be forgotten then.
        """
        task = asyncio.create_task(self._listen(channel, heard, lost), name=f"listen {channel}")
        self._listeners.add(task)

    async def _listen(self, channel: str, heard: Callable[[str], None], lost: Callable[[], None] | None) -> None:
        while True:
            try:
                await self._listen_once(channel, heard, lost)
            except FAILURES as error:
                log.warning("not listening", channel=channel, problem=str(error) or type(error).__name__)
            if lost is not None:
                lost()
            await asyncio.sleep(LISTEN_RETRY_SECONDS)

    async def _listen_once(self, channel: str, heard: Callable[[str], None], lost: Callable[[], None] | None) -> None:
        connection = await asyncpg.connect(self.url, timeout=self._timeout, command_timeout=self._timeout)
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _connection: closed.set())

        def on_notify(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            heard(payload)

        try:
            await connection.add_listener(channel, on_notify)
            if lost is not None:
                lost()
            while not closed.is_set():
                try:
                    await asyncio.wait_for(closed.wait(), LISTEN_PROBE_SECONDS)
                except TimeoutError:
                    # A network that swallows bytes closes nothing: whoever only listens would listen for ever.
                    await connection.execute(_PROBE)
        finally:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await connection.close(timeout=2)
