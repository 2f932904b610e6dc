"""One site being served: the jobs that wait for it, and the connections that work on them.

Each connection takes job after job for as long as the window (``pacing``) allows that many connections; then it is
kept open for a while, in case more comes. What a job is and how it is carried is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from clawmail.base.tenant import house_task
from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.pacing import Limits, Pace
from clawmail.net.smtp_client import Session

#: carries a job, over the session given if it fits; returns the session left open, if any.
Carry = Callable[["Site", Job, Session | None], Awaitable[Session | None]]


class Site:
    """See the module's text. ``on_room`` is called when there is room for more after a job was finished."""

    def __init__(self, name: str, limits: Limits, *, carry: Carry, on_room: Callable[[], None]) -> None:
        self.name = name
        self.pace = Pace(limits, _now())
        self.waiting: deque[Job] = deque()
        #: the site was parked, by us: the next success tells everybody that it is back.
        self.was_parked = False
        self._carry = carry
        self._on_room = on_room
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        #: open connections that nobody uses, and since when; the one that has waited longest comes first.
        self._idle: dict[Session, float] = {}
        #: looks at them when the first has been idle for too long. One for all: mail by mail they would pile up.
        self._look: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """Connections at work."""
        return len(self._tasks)

    @property
    def busy(self) -> int:
        """Jobs that wait or run."""
        return len(self.waiting) + len(self._tasks)

    @property
    def idle(self) -> int:
        """Connections kept open for what may come."""
        return len(self._idle)

    def room(self) -> int:
        """Jobs the site takes now."""
        return self.pace.room(self.busy)

    def offer(self, jobs: Sequence[Job]) -> None:
        """Takes jobs; they run as soon as the window lets them."""
        self.waiting.extend(jobs)
        self._pump()

    def give_back(self) -> list[Job]:
        """The jobs that have not been started, which are now the caller's."""
        jobs = list(self.waiting)
        self.waiting.clear()
        return jobs

    async def close(self, grace: float) -> None:
        """Lets conversations finish within ``grace`` seconds, then drops every connection."""
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        tasks = self._tasks | self._closing
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._idle:
            session.abort()
        self._idle.clear()

    def _pump(self) -> None:
        while self.waiting and self.running < self.pace.places:
            if not self._may_start():
                return
            task = house_task(self._work(self.waiting.popleft()), f"site {self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._worked)

    def _may_start(self) -> bool:
        """Whether the rate lets one more message start now; if not, the pump is started again when it does."""
        if self._timer is not None:
            return False
        wait = self.pace.wait(_now())
        if not wait:
            return True
        self._timer = asyncio.get_running_loop().call_later(wait, self._tick)
        return False

    def _tick(self) -> None:
        self._timer = None
        self._pump()

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._pump()
        self._on_room()

    async def _work(self, job: Job) -> None:
        session = self._fitting(job)
        while True:
            session = await self._carry(self, job, session)
            if session is not None and session.messages >= self.pace.limits.messages_per_connection:
                await session.quit()
                session = None
            if not self.waiting or self.running > self.pace.places or not self._may_start():
                break
            job = self.waiting.popleft()
            if 2 * len(self.waiting) < self.pace.room(0) - self.running:
                self._on_room()
        if session is not None:
            self._keep(session)

    def _fitting(self, job: Job) -> Session | None:
        """An idle connection to a host of the job's destination: a first one, or the one its last mail went to."""
        for session in self._idle:
            fits = session.host in job.route.primary or session.opened_for == job.route.destination
            if fits and session.usable:
                del self._idle[session]
                return session
        return None

    def _keep(self, session: Session) -> None:
        """Keeps a connection until it has been idle for too long; it is closed then."""
        if not session.usable:
            session.abort()
            return
        self._idle[session] = _now()
        if self._look is None:
            self._look_after(self.pace.limits.idle_seconds)

    def _look_after(self, seconds: float) -> None:
        self._look = asyncio.get_running_loop().call_later(seconds, self._close_idle)

    def _close_idle(self) -> None:
        """Closes what has been idle for too long, and comes back when the next will have been."""
        self._look = None
        latest = _now() - self.pace.limits.idle_seconds
        while self._idle:
            session, since = next(iter(self._idle.items()))
            if since > latest:
                self._look_after(since - latest)
                return
            del self._idle[session]
            task = asyncio.create_task(session.quit(), name=f"quit {session.host}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _now() -> float:
    return asyncio.get_running_loop().time()
