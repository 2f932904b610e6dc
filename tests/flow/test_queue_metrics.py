"""GET /metrics tells of the queue: how deep, how old, what hosts answer, and how TLS went."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from clawmail.core.outbound.measure import QueueMeter
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.parts import utc_now
from clawmail.model.delivery import State
from clawmail.store.db import Database
from tests.support.certificates import make_host
from tests.support.daemon import Daemon
from tests.support.house import eventually, furnished_house
from tests.support.outgoing import queue
from tests.support.postgres import TestServer
from tests.support.smtp_sink import SmtpSink
from tests.support.tenants import Tenant

Labels = tuple[tuple[str, str], ...]


def read(text: str) -> dict[tuple[str, Labels], float]:
    """Every sample, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(daemon: Daemon) -> dict[tuple[str, Labels], float]:
    async with daemon.request("GET", "/metrics") as response:
        assert response.status == 200
        return read(await response.text())


async def test_the_daemon_shows_its_queue(postgres: TestServer) -> None:
    async with furnished_house(await postgres.create()) as house:
        inbox = await (await house.domain("house.example")).inbox("agent")
        tls = make_host("mx1.there.test").server_context()
        async with (
            SmtpSink("127.0.0.2", house.out_port, tls=tls),
            SmtpSink("127.0.0.3", house.out_port, replies={"RCPT": "450 4.2.1 not now"}),
        ):
            house.mx("there.test", "127.0.0.2")
            house.mx("busy.test", "127.0.0.3")
            taken, put_off = await inbox.send("bob@there.test"), await inbox.send("bob@busy.test")
            await inbox.settled(taken["id"], "delivered")
            await inbox.settled(put_off["id"], "deferred")
        expected = {
            ("clawmail_queue_depth", (("state", "deferred"),)): 1.0,
            ("clawmail_queue_depth", (("state", "queued"),)): 0.0,
            ("clawmail_queue_depth", (("state", "leased"),)): 0.0,
            ("clawmail_queue_depth", (("state", "held"),)): 0.0,
            ("clawmail_deliveries_total", (("reason", ""), ("state", "delivered"))): 1.0,
            ("clawmail_deliveries_in_flight", ()): 0.0,
            ("clawmail_site_attempts_total", (("reply", "taken"), ("site", "mx1.there.test"))): 1.0,
            ("clawmail_site_attempts_total", (("reply", "450"), ("site", "mx1.busy.test"))): 1.0,
            ("clawmail_delivery_attempt_seconds_count", ()): 2.0,
            ("clawmail_tls_sessions_total", (("policy", "no-policy-found"), ("result", "successful"))): 1.0,
            ("clawmail_tls_sessions_total", (("policy", "no-policy-found"), ("result", "starttls-not-supported"))): 1.0,
            ("clawmail_lease_takeovers_total", ()): 0.0,
            ("clawmail_possible_duplicates_total", ()): 0.0,
        }
        shown: dict[tuple[str, Labels], float] = {}

        async def there() -> bool:
            shown.update(await scrape(house.daemon))
            return expected.items() <= shown.items()

        await eventually(there, lambda: dict(expected.items() - shown.items()))
        assert 0 < shown["clawmail_queue_oldest_seconds", (("state", "deferred"),)] < 60
        # What the process counts of itself stands beside it.
        assert shown["process_resident_memory_bytes", ()] > 0
        assert any(name == "clawmail_http_requests_total" for name, _ in shown)


async def test_depth_and_age_by_state(db: Database, tenant: Tenant) -> None:
    await queue(db, tenant, ["a@there.test", "b@there.test"])
    await queue(db, tenant, ["c@there.test"], state=State.HELD)
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    meter = QueueMeter(db, OutboundMetrics(), clock=lambda: in_an_hour)
    shown = read(generate_latest(await meter.measured()).decode())
    depth = {labels[0][1]: value for (name, labels), value in shown.items() if name == "clawmail_queue_depth"}
    assert depth == {"queued": 2, "held": 1, "leased": 0, "deferred": 0}
    assert 3590 < shown["clawmail_queue_oldest_seconds", (("state", "held"),)] < 3610
    assert shown["clawmail_queue_oldest_seconds", (("state", "leased"),)] == 0


async def test_without_the_database_the_depth_is_unknown(database_url: str) -> None:
    gone = Database(database_url, pool_size=1)
    await gone.open()
    await gone.close()
    shown = read(generate_latest(await QueueMeter(gone, OutboundMetrics(), clock=utc_now).measured()).decode())
    assert math.isnan(shown["clawmail_queue_depth", (("state", "queued"),)])
    assert math.isnan(shown["clawmail_queue_oldest_seconds", (("state", "queued"),)])
    assert shown["clawmail_lease_takeovers_total", ()] == 0
