"""All sites that are being served, and what replies teach about each: how fast to go, and when to leave it alone.

A site where no host answers is parked for everybody, in the database: its mail waits untried, which costs no retries.
The parking grows from at most a minute to at most a quarter of an hour, and ends with a single probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.core.outbound.classify import nobody_answered, wants_less
from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.presets import Presets
from clawmail.core.outbound.settle import Schedule
from clawmail.core.outbound.site import Carry, Site
from clawmail.model.attempt import Outcome
from clawmail.net.mx import Route
from clawmail.store import destinations
from clawmail.store.db import Connection, Database

#: sites remembered; the pace of one that is forgotten is learnt anew.
MAX_SITES = 5_000
#: domains whose site is remembered.
MAX_DOMAINS = 50_000
#: a dead site is left alone so long at first, and at most.
FIRST_PARK_SECONDS = 60.0
MOST_PARK_SECONDS = 900.0

log = logger("queue")


class Sites:
    """Sites by name, the last used at the end."""

    def __init__(
        self,
        db: Database,
        presets: Presets,
        schedule: Schedule,
        *,
        carry: Carry,
        give_back: Callable[[Sequence[Job]], Awaitable[None]],
        on_room: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        """``give_back`` takes jobs that will not be started here."""
        self._db = db
        self._presets = presets
        self._carry = carry
        self._give_back = give_back
        self._on_room = on_room
        self._clock = clock
        # A schedule with shorter gaps than the parking would be held up by it.
        self._first_park = min([FIRST_PARK_SECONDS, *schedule.gaps[:1]])
        self._most_park = min([MOST_PARK_SECONDS, *schedule.gaps[-1:]])
        self._sites: dict[str, Site] = {}
        #: those that were given work since they were last found idle with their usual room, or more.
        self._stirred: dict[str, Site] = {}
        self._site_of: dict[str, str] = {}
        self._learnt: dict[str, str] = {}

    @property
    def usual_room(self) -> int:
        """Deliveries that a site takes of which nothing is known."""
        return self._presets.default.start_connections

    def rooms(self) -> dict[str, int]:
        """Deliveries each site takes now: those at work, and those that take fewer than the usual number.

        An idle site that would take more is left out: the first claim gives it the usual, the next one all it can do.
        """
        usual, rooms = self.usual_room, dict[str, int]()
        for name, site in list(self._stirred.items()):
            if (room := site.room()) < usual or site.busy:
                rooms[name] = room
            else:
                del self._stirred[name]
        return rooms

    def learnt(self) -> dict[str, str]:
        """Sites of domains that nobody was told of yet; asking makes them told."""
        learnt, self._learnt = self._learnt, {}
        return learnt

    def of(self, route: Route) -> Site:
        """The site that serves a destination."""
        name, limits = self._presets.site_of(route.primary)
        if self._site_of.get(route.destination) != name:
            self._site_of[route.destination] = self._learnt[route.destination] = name
        site = self._sites.pop(name, None)
        if site is None:
            site = Site(name, limits, carry=self._carry, on_room=self._on_room)
            self._forget()
        self._sites[name] = self._stirred[name] = site
        return site

    def _forget(self) -> None:
        if len(self._sites) >= MAX_SITES:
            quiet = [name for name, site in self._sites.items() if not site.busy and not site.idle]
            for name in quiet[: MAX_SITES // 10]:
                del self._sites[name]
                self._stirred.pop(name, None)
        if len(self._site_of) >= MAX_DOMAINS:
            self._site_of.clear()

    async def observe(self, site: Site, outcomes: Sequence[Outcome]) -> None:
        """What one job's outcomes say about the site as a whole."""
        if all(nobody_answered(outcome) for outcome in outcomes):
            await self._park(site, str(outcomes[0].reply))
            return
        if site.was_parked:
            site.was_parked = False
            await self._note(partial(destinations.answers, site=site.name, now=self._clock()))
        for outcome in outcomes:
            if outcome.delivered:
                site.pace.good()
                continue
            if wants_less(outcome):
                site.pace.bad(asyncio.get_running_loop().time())
            await self._react(site, outcome)

    async def _react(self, site: Site, outcome: Outcome) -> None:
        """Words that ask for more than one delivery's patience."""
        asked = self._presets.reaction(site.name, outcome.reply.text)
        if asked is None:
            return
        log.info("slowed down", site=site.name, reply=str(outcome.reply))
        if asked.slow_seconds:
            now = asyncio.get_running_loop().time()
            site.pace.slow_down(now, asked.slow_seconds, asked.messages_per_minute)
        if asked.suspend_seconds:
            now_utc = self._clock()
            until, why = now_utc + timedelta(seconds=asked.suspend_seconds), str(outcome.reply)
            await self._note(partial(destinations.suspend, site=site.name, now=now_utc, until=until, why=why))
            await self._give_back(site.give_back())

    async def _park(self, site: Site, why: str) -> None:
        """Nobody answers: what waits goes back untried, and the site is left alone for a while."""
        write = partial(destinations.park, first_seconds=self._first_park, most_seconds=self._most_park, why=why)
        await self._note(partial(write, site=site.name, now=self._clock()))
        if not site.was_parked:
            log.info("parked", site=site.name, problem=why)
        site.was_parked = True
        site.pace.probe()
        await self._give_back(site.give_back())

    async def _note(self, write: Callable[[Connection], Awaitable[None]]) -> None:
        """Writes what all processes should know of a site. If the database is away, only we know it for now."""
        try:
            async with self._db.connection() as conn:
                await write(conn)
        except StoreUnwell as unwell:
            log.warning("not noted", problem=unwell.message)

    async def close(self, grace: float) -> None:
        """Gives back what was not started, lets the rest finish within ``grace`` seconds, then hangs up."""
        for site in self._sites.values():
            await self._give_back(site.give_back())
        await asyncio.gather(*(site.close(grace) for site in self._sites.values()))
