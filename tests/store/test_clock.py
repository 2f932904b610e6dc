"""The house's clock: the database's time, whatever anybody does to the wall clock meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from clawmail.base.ids import new_id
from clawmail.core.clock import HouseClock
from clawmail.core.writer import Writer
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.mail import Posting
from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant


async def test_time_passes_by_the_monotonic_clock_from_what_the_database_said(db: Database) -> None:
    seconds = [100.0]
    wrong = datetime(2001, 1, 1, tzinfo=UTC)
    clock = HouseClock(db, monotonic=lambda: seconds[0], wall=lambda: wrong)
    assert clock() == wrong
    await clock.sync()
    read = clock()
    assert abs((read - datetime.now(UTC)).total_seconds()) < 60
    seconds[0] += 90
    wrong += timedelta(days=365)
    assert clock() == read + timedelta(seconds=90)


async def test_mail_that_is_due_at_once_is_due_whatever_the_machine_thinks(db: Database, tenant: Tenant) -> None:
    wrong, right = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC)
    message = mail.message_of(b"From: a@example.test\r\n\r\nx", received_at=wrong)
    owner = (tenant.organisation_id, tenant.domain.id)

    def delivery(created_at: datetime, next_attempt_at: datetime) -> NewDelivery:
        about = (*owner, tenant.inbox.id, None, None, "forward", "", "a@far.test", "far.test", State.QUEUED)
        return NewDelivery(new_id(), *about, next_attempt_at, created_at)  # type: ignore[arg-type]  # in their order

    at_once, later = delivery(wrong, wrong), delivery(right, right + timedelta(minutes=5))
    await Writer(db).write(Posting(message, (), (at_once, later)))
    async with db.connection() as conn:
        waits = dict(await conn.fetch("SELECT id, next_attempt_at > now() FROM deliveries"))
    assert waits == {at_once.id: False, later.id: True}
