"""Lists that are walked by cursor over HTTP: threads, events, suppressed addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clawmail.base.ids import id_at, new_id
from clawmail.model.events import Event, EventType
from clawmail.store import events, suppressions
from clawmail.store.db import Database
from tests.support import mail
from tests.support.events import write_as_made
from tests.support.mail_api import MailApi, running_mail_api
from tests.support.tenants import Tenant, add_tenant


@pytest.fixture
async def api(db: Database, tenant: Tenant) -> AsyncIterator[MailApi]:
    async with running_mail_api(db, tenant) as running:
        yield running


async def test_threads_and_their_cursors(api: MailApi, db: Database, tenant: Tenant) -> None:
    first = mail.plain("plans", "first")
    name = mail.message_of(first).rfc_message_id
    ids = [await mail.file(db, tenant, first)]
    for n in range(3):
        ids.append(await mail.file(db, tenant, mail.plain("Re: plans", f"answer {n}", f"In-Reply-To: {name}")))
    for n in range(3):
        await mail.file(db, tenant, mail.plain(f"other {n}"))
    page = (await api.get("/threads?limit=3")).json
    assert [t["subject"] for t in page["threads"]] == ["other 2", "other 1", "other 0"]
    page = (await api.get(f"/threads?limit=3&cursor={page['next_cursor']}")).json
    assert page["next_cursor"] is None
    (thread,) = page["threads"]
    moments = thread.pop("first_message_at"), thread.pop("last_message_at")
    assert moments[0] <= moments[1]
    assert thread == {
        "thread_id": thread["thread_id"], "subject": "plans", "snippet": "answer 2", "message_count": 4,
        "last_direction": "inbound", "has_attachments": False,
    }  # fmt: skip
    path = f"/threads/{thread['thread_id']}"
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await api.get(f"{path}?limit=3{cursor and '&cursor=' + cursor}")).json
        assert page["subject"] == "plans"
        seen += [e["id"] for e in page["emails"]]
        cursor = page["next_cursor"]
    assert seen == [str(email) for email in ids]


async def test_cursors_made_up_or_of_another_list_are_refused(api: MailApi, db: Database, tenant: Tenant) -> None:
    for n in range(3):
        await mail.file(db, tenant, mail.plain(f"talk {n}"))
    cursor = (await api.get("/threads?limit=1")).json["next_cursor"]
    neighbour = await api.in_hands_of(await add_tenant(db, "elsewhere.test"), db)
    changed = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    wrong = [
        (api, f"/threads?cursor={made_up}") for made_up in ("x", "", "null", "0", cursor[:-4], changed, "%ff", "%00")
    ]
    wrong += [(api, f"/events?cursor={cursor}"), (neighbour, f"/threads?cursor={cursor}"), (api, "/threads?limit=0")]
    for who, path in wrong:
        assert (await who.get(path)).status == 400, path
    assert (await api.get(f"/threads?limit=1&cursor={cursor}")).json["threads"][0]["subject"] == "talk 1"


async def test_events_by_email_inbox_and_domain(api: MailApi, db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    other = await add_tenant(db, "elsewhere.test")
    about = [(tenant, email), (tenant, None), (tenant, email), (other, None)]
    made = [
        Event(
            new_id(), of.organisation_id, of.domain.id, EventType.DEFERRED, datetime.now(UTC), of.inbox.id, which,
            recipient="a@far.test", detail={"reply": f"451 {n}"},
        )
        for n, (of, which) in enumerate(about)
    ]  # fmt: skip
    async with db.transaction() as conn:
        await events.append(conn, made)
    (first, second) = (await api.get(f"/emails/{email}/events")).json["events"]
    assert first.pop("at")
    assert first == {
        "id": str(made[0].id), "type": "deferred", "email_id": str(email), "recipient": "a@far.test",
        "detail": {"reply": "451 0"},
    }  # fmt: skip
    assert second["id"] == str(made[2].id)
    for key in (api.key, api.domain_token):
        page = (await api.get("/events?limit=2", key=key)).json
        assert [e["id"] for e in page["events"]] == [str(e.id) for e in made[:2]]
        page = (await api.get(f"/events?limit=2&cursor={page['next_cursor']}", key=key)).json
        assert [e["id"] for e in page["events"]] == [str(made[2].id)]
        assert page["next_cursor"] is None


async def test_who_keeps_asking_for_events_misses_none(api: MailApi, db: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)

    async def happens(*ages: float) -> list[str]:
        """Events whose ids were made so many seconds ago."""
        owner = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id, "inbox_id": tenant.inbox.id}
        made = [
            Event(id_at(now - timedelta(seconds=age)), at=now, type=EventType.DEFERRED, **owner)  # type: ignore[arg-type]  # by name
            for age in ages
        ]
        async with db.transaction() as conn:
            await write_as_made(conn, made)
        return [str(event.id) for event in made]

    async def asked(path: str) -> tuple[list[str], dict[str, Any]]:
        page = (await api.get(path)).json
        return [event["id"] for event in page["events"]], page

    nothing, empty = await asked("/events")
    old, older, young, youngest = await happens(500, 400, 5, 4)
    first, page = await asked("/events?limit=2")
    assert (nothing, first, page["after"]) == ([], [old, older], older)
    second, page = await asked(f"/events?limit=1&cursor={page['next_cursor']}")
    third, page = await asked(f"/events?limit=1&cursor={page['next_cursor']}")
    assert (second, third, page["next_cursor"]) == ([young], [youngest], None)
    # While ``young`` was read, this one was on its way to the disk, with a smaller id.
    (late,) = await happens(15)
    again, page = await asked(f"/events?after={page['after']}")
    assert (again, page["next_cursor"]) == ([late, young, youngest], None)
    assert (await asked(f"/events?after={empty['after']}"))[0] == again
    # An id that was not given out as ``after`` is taken at its word, and nobody is sent back behind it.
    assert await asked(f"/events?after={youngest}") == ([], {"events": [], "next_cursor": None, "after": youngest})
    assert (await asked(f"/events?after={late}"))[1]["after"] == late
    assert (await api.get("/events?after=yesterday")).status == 400


async def test_an_event_that_takes_its_time_to_be_written_is_not_missed(
    api: MailApi, db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its transaction goes on, a poller walks past it; and when he is at the end of his walk, it is over."""
    statements = events._sql.statements
    monkeypatch.setitem(statements, "settled", statements["settled"].replace("30 seconds", "0 seconds"))
    owner = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id, "inbox_id": tenant.inbox.id}

    def deferred() -> Event:
        return Event(new_id(), at=datetime.now(UTC), type=EventType.DEFERRED, **owner)  # type: ignore[arg-type]  # by name

    async with db.transaction() as conn:
        await events.append(conn, [late := deferred()])
        async with db.transaction() as other:
            await events.append(other, young := [deferred(), deferred()])
        first = (await api.get("/events?limit=1")).json
    assert [event["id"] for event in first["events"]] == [str(young[0].id)]
    last = (await api.get(f"/events?cursor={first['next_cursor']}")).json
    assert ([event["id"] for event in last["events"]], last["next_cursor"]) == ([str(young[1].id)], None)
    again = (await api.get(f"/events?after={last['after']}")).json
    assert [event["id"] for event in again["events"]] == [str(event.id) for event in (late, *young)]
    assert again["after"] == str(young[1].id)


async def test_suppressions_are_listed_and_lifted_by_the_domain(api: MailApi, db: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    owner = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id, "now": now}
    async with db.transaction() as conn:
        for n in range(3):
            await suppressions.record_hard(conn, address=f"A{n}@far.test", detail="550 5.1.1", **owner)  # type: ignore[arg-type]  # by name
    page = (await api.get("/suppressions?limit=2", key=api.domain_token)).json
    assert [s["address"] for s in page["suppressions"]] == ["a2@far.test", "a1@far.test"]
    page = (await api.get(f"/suppressions?limit=2&cursor={page['next_cursor']}", key=api.domain_token)).json
    (last,) = page["suppressions"]
    assert last.pop("created_at")
    assert last == {"address": "a0@far.test", "reason": "hard bounce", "detail": "550 5.1.1", "expires_at": None}
    neighbour = await api.in_hands_of(await add_tenant(db, "elsewhere.test"), db)
    assert (await api.delete("/suppressions/A0%40far.test", key=neighbour.domain_token)).status == 404
    assert (await api.delete("/suppressions/A0%40far.test", key=api.domain_token)).status == 204
    assert (await api.delete("/suppressions/A0%40far.test", key=api.domain_token)).status == 404
    assert (await api.get("/suppressions")).status == 401
