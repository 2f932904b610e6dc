"""A furnished server for flow tests: the real daemon, a name server it asks, domains verified by DNS, their inboxes.

async with furnished_house(await postgres.create()) as house:
    domain = await house.domain("house.example")
    inbox = await domain.inbox("agent")
    await house.deliver(raw, inbox.address)
    (email,) = await inbox.emails()
"""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.daemon import Daemon, running_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port

#: seconds after which something that should have happened fails a test.
PATIENCE_SECONDS = 30.0
#: further loopback addresses, each good for one more host on the port that mail is sent to.
HOSTS = tuple(f"127.0.0.{last}" for last in range(2, 10))


@dataclass
class House:
    """A running daemon and the world around it."""

    daemon: Daemon
    dns: DnsServerThread
    #: the port that is dialled at every MX.
    out_port: int
    #: where its own MX records point.
    public_ip: str

    async def domain(self, name: str) -> OwnedDomain:
        """Registers ``name``, publishes every record the server asks for, verifies it."""
        made = await self.daemon.post("/api/v1/domains/register", "", {"domain": name})
        token = made["verification_token"]
        self.dns.set(made["dns_txt_record"], "TXT", [made["dns_txt_value"]])
        self.dns.set(name, "MX", [f"10 {made['mx_record']}"])
        self.dns.set(made["a_record"]["name"], "A", [made["a_record"]["value"]])
        await self.daemon.post("/api/v1/domains/verify", "", {"verification_token": token}, status=200)
        for record in (await self.daemon.get(f"/api/v1/domains/{name}/dns", token))["records"]:
            if record["state"] != "ok":
                self.dns.set(record["name"], record["type"], [record["value"]])
        return OwnedDomain(self, name, token)

    def mx(self, domain: str, *hosts: str) -> None:
        """Publishes ``hosts`` as the MX hosts of ``domain``, the first one preferred."""
        names = [f"mx{number}.{domain}" for number in range(1, len(hosts) + 1)]
        self.dns.set(domain, "MX", [f"{10 * number} {name}" for number, name in enumerate(names, 1)])
        for name, host in zip(names, hosts, strict=True):
            self.dns.set(name, "A", [host])

    async def deliver(
        self, raw: bytes, *recipients: str, sender: str = "stranger@elsewhere.test", options: Sequence[str] = ()
    ) -> tuple[int, bytes]:
        """Sends ``raw`` exactly as it is over SMTP; the reply after the dot, or the refusal before it."""
        return await asyncio.to_thread(_deliver, self.daemon.smtp, raw, sender, recipients, tuple(options))


@dataclass
class OwnedDomain:
    """A verified domain and its token."""

    house: House
    name: str
    token: str

    async def inbox(self, local_part: str) -> OwnedInbox:
        """An inbox with a key."""
        address = f"{local_part}@{self.name}"
        made = await self.house.daemon.post("/api/v1/api-keys", self.token, {"email": address, "label": "flow"})
        return OwnedInbox(self.house, address, f"{address}:{made['api_key']}")

    async def rule(self, pattern: str, destination: str, *, field: str = "subject") -> dict[str, Any]:
        """A forwarding rule."""
        body = {"match_field": field, "regex_pattern": pattern, "destination_email": destination}
        return dict(await self.house.daemon.post("/api/v1/forwarding-rules", self.token, body))

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The domain's events of one type, oldest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"/api/v1/events?limit=100{f'&cursor={cursor}' if cursor else ''}"
            page = await self.house.daemon.get(query, self.token)
            found += page["events"]
            cursor = page["next_cursor"]
        return [event for event in found if event["type"] == kind]

    async def usage(self, address: str) -> tuple[int, int]:
        """Bytes used and unread emails of one of its inboxes."""
        inboxes = (await self.house.daemon.get("/api/v1/inboxes", self.token))["inboxes"]
        (inbox,) = (one for one in inboxes if one["address"] == address)
        return int(inbox["storage_used_bytes"]), int(inbox["unread_count"])


@dataclass
class OwnedInbox:
    """An inbox and its credential."""

    house: House
    address: str
    key: str

    async def emails(self, query: str = "") -> list[dict[str, Any]]:
        """What it lists, newest first. Fails unless the answer is JSON to the letter (RFC 8259, no lone surrogates)."""
        async with self.house.daemon.request("GET", f"/api/v1/emails{query}", key=self.key) as response:
            body = await response.read()
            assert response.status == 200, body
        return list(strict_json(body)["emails"])

    async def opened(self, email_id: str) -> dict[str, Any]:
        """One email with everything that is known of it, left unread."""
        return dict(await self.house.daemon.get(f"/api/v1/emails/{email_id}?peek=true", self.key))

    async def file(self, path: str) -> bytes:
        """The bytes of a download below this inbox's emails."""
        async with self.house.daemon.request("GET", f"/api/v1/emails/{path}", key=self.key) as response:
            body = await response.read()
            assert response.status == 200, (response.status, body[:200])
            return bytes(body)

    async def send(self, to: str | Sequence[str], subject: str = "hello", **more: Any) -> dict[str, Any]:
        """Sends a mail; the answer."""
        body = {"to": to, "subject": subject, "text": "Hi there", **more}
        return dict(await self.house.daemon.post("/api/v1/emails/send", self.key, body))

    async def recipients(self, email_id: str) -> dict[str, dict[str, Any]]:
        """How far a sent mail got, by address."""
        return {one["address"]: one for one in (await self.opened(email_id))["recipients"]}

    async def settled(self, email_id: str, *states: str) -> dict[str, dict[str, Any]]:
        """The recipients of a sent mail, once each of them is in one of ``states``."""
        found: dict[str, dict[str, Any]] = {}

        async def there() -> bool:
            found.update(await self.recipients(email_id))
            return all(one["state"] in states for one in found.values())

        await eventually(there, lambda: found)
        return found

    async def arrived(self, subject: str) -> dict[str, Any]:
        """The inbound email with that in its subject, once it is there."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            listed = await self.emails("?limit=100")
            found[:] = [one for one in listed if subject in one["subject"] and one["direction"] == "inbound"]
            return bool(found)

        await eventually(there, lambda: f"no mail about {subject!r}")
        return found[0]


async def eventually(holds: Callable[[], Any], told: Callable[[], object] = lambda: "") -> None:
    """Waits until the coroutine function ``holds`` gives true; what ``told`` says is the failure's message."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"did not happen: {told()}") from None


def strict_json(body: bytes) -> Any:
    """JSON as every other reader takes it: UTF-8, no NaN, no string that is not Unicode text."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    decoded = json.loads(body.decode("utf-8"), parse_constant=refuse)
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    return decoded


@asynccontextmanager
async def furnished_house(
    database_url: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    public_ip: str = "127.0.0.1",
    neighbour: House | None = None,
) -> AsyncIterator[House]:
    """A daemon on the database at ``database_url``; ``settings`` are put over those of a test.

    At one of ``HOSTS`` its door is where its MX records lead; elsewhere it has any free port and tests connect to it.
    With a ``neighbour`` it lives in the neighbour's world: the same name server, the same port to dial.
    """
    out_port = neighbour.out_port if neighbour else free_port("127.0.0.1", *HOSTS)
    with ExitStack() as stack:
        dns = neighbour.dns if neighbour else stack.enter_context(DnsServerThread({}))
        sections: dict[str, dict[str, Any]] = {
            "server": {"app_domain": "house.example", "public_ip": public_ip},
            "database": {"url": database_url},
            "smtp": {"listen": [f"{public_ip}:{out_port if public_ip in HOSTS else 0}"]},
            "api": {"listen": ["127.0.0.1:0"]},
            "dns": {"nameservers": [dns.nameserver]},
            "outbound": {"port": out_port, "allow_private": True, "poll_seconds": 0.2},
            "limits": {"enabled": False},
        }
        for section, keys in (settings or {}).items():
            sections[section] = {**sections.get(section, {}), **keys}
        async with running_daemon(sections) as daemon:
            yield House(daemon, dns, out_port, public_ip)


def _deliver(
    address: tuple[str, int], raw: bytes, sender: str, recipients: Sequence[str], options: Sequence[str]
) -> tuple[int, bytes]:
    """One transaction. ``smtplib``'s own ``data`` would mend the line ends, so the octets are stuffed and sent here.

    DATA cannot carry a last line without an end: such a message goes as one chunk (RFC 3030).
    """
    with smtplib.SMTP(*address, timeout=PATIENCE_SECONDS) as client:
        client.ehlo("elsewhere.test")
        code, said = client.mail(sender, options)
        for recipient in recipients if code == 250 else ():
            code, said = client.rcpt(recipient)
            if code != 250:
                break
        if code != 250:
            return code, said
        if not raw.endswith(b"\r\n"):
            client.send(b"BDAT %d LAST\r\n" % len(raw) + raw)
            return client.getreply()
        code, said = client.docmd("DATA")
        if code != 354:
            return code, said
        stuffed = raw.replace(b"\r\n.", b"\r\n..")
        client.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        return client.getreply()
