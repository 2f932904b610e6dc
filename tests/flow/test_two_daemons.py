"""Two Clawmail servers write to each other: found by MX, judged in full, and the reply joins the thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.daemon import Daemon, running_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.postgres import TestServer


@dataclass
class House:
    """One of the two: its daemon, its domain and the key of its inbox."""

    daemon: Daemon
    domain: str
    token: str
    key: str

    @property
    def address(self) -> str:
        return f"agent@{self.domain}"

    async def emails(self, query: str = "") -> list[dict[str, Any]]:
        """What its inbox lists."""
        return list((await self.daemon.get(f"/api/v1/emails{query}", self.key))["emails"])

    async def arrived(self) -> dict[str, Any]:
        """The first unread email, once there is one."""
        async with asyncio.timeout(20):
            while not (unread := await self.emails("?is_read=false")):
                await asyncio.sleep(0.02)
        return unread[0]


async def furnish(daemon: Daemon, dns: DnsServerThread, domain: str, host: str) -> House:
    """Registers and verifies ``domain`` as its owner would, publishing what the server asks for."""
    made = await daemon.post("/api/v1/domains/register", "", {"domain": domain})
    token = made["verification_token"]
    dns.set(made["dns_txt_record"], "TXT", [made["dns_txt_value"]])
    dns.set(domain, "MX", [f"10 {made['mx_record']}"])
    dns.set(made["a_record"]["name"], "A", [host])
    await daemon.post("/api/v1/domains/verify", "", {"verification_token": token}, status=200)
    for record in (await daemon.get(f"/api/v1/domains/{domain}/dns", token))["records"]:
        if record["state"] != "ok":
            dns.set(record["name"], record["type"], [record["value"]])
    records = (await daemon.get(f"/api/v1/domains/{domain}/dns", token))["records"]
    assert {record["state"] for record in records} == {"ok"}, records
    made = await daemon.post("/api/v1/api-keys", token, {"email": f"agent@{domain}", "label": "flow"})
    return House(daemon, domain, token, f"agent@{domain}:{made['api_key']}")


@pytest.fixture
async def houses(postgres: TestServer) -> AsyncIterator[tuple[House, House, DnsServerThread]]:
    """Two servers on 127.0.0.1 and 127.0.0.2, one port, one DNS with a zone for each."""
    port = free_port("127.0.0.1", "127.0.0.2")
    urls = [await postgres.create(), await postgres.create()]
    async with AsyncExitStack() as stack:
        dns = stack.enter_context(DnsServerThread({}))
        found = []
        for url, host, domain in zip(urls, ("127.0.0.1", "127.0.0.2"), ("one.example", "two.example"), strict=True):
            settings: dict[str, dict[str, Any]] = {
                "server": {"app_domain": domain, "public_ip": host},
                "database": {"url": url},
                "smtp": {"listen": [f"{host}:{port}"]},
                "api": {"listen": [f"{host}:0"]},
                "dns": {"nameservers": [dns.nameserver]},
                "outbound": {"port": port, "allow_private": True, "source_ip": host},
                "limits": {"enabled": False},
            }
            daemon = await stack.enter_async_context(running_daemon(settings))
            found.append(await furnish(daemon, dns, domain, host))
        yield found[0], found[1], dns
    for url in urls:
        await postgres.drop(url)


def verdicts(email: dict[str, Any]) -> tuple[str, str, str]:
    """SPF, DKIM and DMARC of an email."""
    results = email["authentication_results"]
    return results["spf"]["result"], results["dkim"]["result"], results["dmarc"]["result"]


async def test_mail_passes_every_check_and_the_answer_joins_the_thread(
    houses: tuple[House, House, DnsServerThread],
) -> None:
    one, two, _ = houses
    body = {"to": two.address, "subject": "Grüße", "text": "Erste Zeile\n", "html": "<p>Erste Zeile</p>"}
    sent = await one.daemon.post("/api/v1/emails/send", one.key, body)
    email = await two.arrived()
    assert verdicts(email) == ("pass", "pass", "pass")
    assert (email["subject"], email["body_text"].strip()) == ("Grüße", "Erste Zeile")
    assert email["sender_warning"] is None
    assert email["message_id"] == sent["message_id"]
    (signature,) = email["authentication_results"]["dkim"]["signatures"]
    assert (signature["signing_domain"], signature["aligned"]) == (one.domain, True)
    alignment = email["authentication_results"]["dmarc"]["alignment"]
    assert (alignment["spf"]["result"], alignment["dkim"]["result"]) == (one.domain, one.domain)

    answer = await two.daemon.post(f"/api/v1/emails/{email['id']}/reply", two.key, {"text": "Zweite Zeile"})
    back = await one.arrived()
    assert verdicts(back) == ("pass", "pass", "pass")
    assert back["subject"] == "Re: Grüße"
    assert back["in_reply_to"] == sent["message_id"]
    assert back["thread_id"] == sent["thread_id"]
    assert answer["thread_id"] == email["thread_id"]

    shown = await one.daemon.get(f"/api/v1/emails/{sent['id']}", one.key)
    (recipient,) = shown["recipients"]
    assert (recipient["address"], recipient["state"], recipient["mx"]) == (two.address, "delivered", "mx.two.example")
    assert recipient["last_reply"].startswith("250 2.0.0")
    events = (await one.daemon.get(f"/api/v1/emails/{sent['id']}/events", one.key))["events"]
    assert [event["type"] for event in events] == ["accepted", "attempted", "delivered"]


async def test_two_inboxes_of_one_server_write_to_each_other_without_leaving_it(
    houses: tuple[House, House, DnsServerThread],
) -> None:
    one, _, _ = houses
    made = await one.daemon.post("/api/v1/api-keys", one.token, {"email": f"other@{one.domain}", "label": ""})
    other = House(one.daemon, one.domain, one.token, f"other@{one.domain}:{made['api_key']}")
    await one.daemon.post("/api/v1/emails/send", one.key, {"to": f"other@{one.domain}", "subject": "Hi", "text": "x"})
    email = await other.arrived()
    assert verdicts(email) == ("pass", "pass", "pass")
    await one.daemon.post(f"/api/v1/emails/{email['id']}/reply", other.key, {"text": "y"})
    assert (await one.arrived())["subject"] == "Re: Hi"


async def test_a_key_rotates_without_a_gap(houses: tuple[House, House, DnsServerThread]) -> None:
    one, two, dns = houses

    async def selector_of_next_mail() -> str:
        await one.daemon.post("/api/v1/emails/send", one.key, {"to": two.address, "subject": "Key", "text": "x"})
        email = await two.arrived()
        await two.daemon.get(f"/api/v1/emails/{email['id']}", two.key)
        assert verdicts(email) == ("pass", "pass", "pass")
        return str(email["authentication_results"]["dkim"]["signatures"][0]["selector"])

    old = await selector_of_next_mail()
    rotated = await one.daemon.post(f"/api/v1/domains/{one.domain}/dkim/rotate", one.token)
    assert rotated["selector"] != old
    assert await selector_of_next_mail() == old
    dns.set(rotated["dns_record_name"], "TXT", [rotated["dns_record_value"]])
    await one.daemon.get(f"/api/v1/domains/{one.domain}/dns", one.token)
    assert await selector_of_next_mail() == rotated["selector"]
