"""The reference's walk-through against the real daemon: every call in its order, with a real DNS and real SMTP."""

from __future__ import annotations

import asyncio
import io
import smtplib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from tests.support.daemon import Daemon, running_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.smtp_sink import SmtpSink, Taken

DOMAIN = "clawmail.example"
REGISTER_TOKEN = "only-the-operator"


World = tuple[Daemon, DnsServerThread, int]


@asynccontextmanager
async def world_on(database_url: str) -> AsyncIterator[World]:
    """A daemon on the database at ``database_url``, a name server, and the port its outgoing mail is sent to."""
    out_port = free_port("127.0.0.1", "127.0.0.2")
    with DnsServerThread({}) as dns:
        settings: dict[str, dict[str, Any]] = {
            "server": {"app_domain": DOMAIN, "public_ip": "127.0.0.1"},
            "database": {"url": database_url},
            "smtp": {"listen": ["127.0.0.1:0"]},
            "api": {"listen": ["127.0.0.1:0"], "domain_register_token": REGISTER_TOKEN},
            "dns": {"nameservers": [dns.nameserver]},
            "outbound": {"port": out_port, "allow_private": True},
            "limits": {"enabled": False},
        }
        async with running_daemon(settings) as daemon:
            yield daemon, dns, out_port


def send(daemon: Daemon, message: EmailMessage, to: str, sender: str = "sender@other.test") -> None:
    """One mail over real SMTP."""
    with smtplib.SMTP(*daemon.smtp, timeout=20) as client:
        client.send_message(message, sender, [to])


async def arrived(sink: SmtpSink) -> Taken:
    """The next message the sink takes, which it then no longer holds."""
    async with asyncio.timeout(20):
        while not sink.messages:
            await asyncio.sleep(0.01)
    return sink.messages.pop(0)


async def in_thread(*call: Any) -> Any:
    """A blocking call beside the loop."""
    return await asyncio.to_thread(*call)


async def test_every_call_of_the_reference_in_order(database_url: str) -> None:
    async with world_on(database_url) as world:
        await walk_through(world)


async def walk_through(world: World) -> None:
    """Every call of the reference in its order, each answer looked at."""
    daemon, dns, out_port = world
    async with daemon.request("GET", "/health") as response:
        health = await response.json()
    assert health["status"] == "ok"
    assert len(health["timestamp"]) == len("2026-01-01T00:00:00.000Z")
    assert health["timestamp"].endswith("Z")

    # 1, 2: register and verify
    await daemon.post("/api/v1/domains/register", "", {"domain": DOMAIN}, status=401)
    first = await daemon.post("/api/v1/domains/register", REGISTER_TOKEN, {"domain": DOMAIN})
    made = await daemon.post("/api/v1/domains/register", REGISTER_TOKEN, {"domain": DOMAIN})
    assert made["verification_token"] != first["verification_token"]
    assert made["dns_txt_value"] != first["dns_txt_value"]
    assert made["dns_txt_record"] == f"_clawmail.{DOMAIN}"
    assert made["mx_record"] == f"mx.{DOMAIN}"
    assert made["a_record"] == {"name": f"mx.{DOMAIN}", "value": "127.0.0.1"}
    token = made["verification_token"]
    failed = await daemon.post("/api/v1/domains/verify", "", {"verification_token": token}, status=400)
    assert failed["error"] == "DNS verification failed. TXT: FAIL, MX: FAIL, A: FAIL"
    await daemon.post("/api/v1/domains/verify", "", {"verification_token": first["verification_token"]}, status=404)
    dns.set(made["dns_txt_record"], "TXT", [made["dns_txt_value"]])
    dns.set(DOMAIN, "MX", [f"10 mx.{DOMAIN}"])
    dns.set(f"mx.{DOMAIN}", "A", ["127.0.0.1"])
    verified = await daemon.post("/api/v1/domains/verify", "", {"verification_token": token}, status=200)
    assert verified["domain"] == DOMAIN
    assert verified["verified"] is True
    dkim = verified["dkim"]
    assert dkim["dns_record_name"] == f"{dkim['selector']}._domainkey.{DOMAIN}"
    assert dkim["dns_record_value"].startswith("v=DKIM1; k=rsa; p=MII")
    dns.set(dkim["dns_record_name"], "TXT", [dkim["dns_record_value"]])
    dns.set(DOMAIN, "TXT", [f"v=spf1 a:mx.{DOMAIN} -all"])
    dns.set(f"_dmarc.{DOMAIN}", "TXT", [f"v=DMARC1; p=none; rua=mailto:dmarc@{DOMAIN}"])
    again = await daemon.post("/api/v1/domains/register", REGISTER_TOKEN, {"domain": DOMAIN}, status=409)
    assert again["error"] == "Domain is already verified"

    # 3, 4: keys
    creation = await daemon.post("/api/v1/inbox-creation-keys", token)
    assert creation["inbox_creation_key"].startswith("cmic_")
    assert creation["key_prefix"] == creation["inbox_creation_key"][:11]
    address = f"agent@{DOMAIN}"
    body = {"email": address, "label": "my-agent"}
    key = await daemon.post("/api/v1/api-keys", creation["inbox_creation_key"], body)
    assert key["api_key"].startswith("cm_")
    assert key["key_prefix"] == key["api_key"][:11]
    assert (key["email"], key["label"]) == (address, "my-agent")
    await daemon.post("/api/v1/api-keys", creation["inbox_creation_key"], body, status=401)
    inbox_key = f"{address}:{key['api_key']}"

    # 5: inboxes
    (inbox,) = (await daemon.get("/api/v1/inboxes", token))["inboxes"]
    assert inbox["address"] == address
    assert (inbox["storage_used_bytes"], inbox["unread_count"]) == ("0", "0")
    assert inbox["storage_quota_bytes"] == "524288000"

    # 6, 7, 8: forwarding rules
    rule = {"match_field": "subject", "regex_pattern": "urgent|critical", "destination_email": "alerts@rules.test"}
    made_rule = await daemon.post("/api/v1/forwarding-rules", token, rule)
    assert made_rule.items() >= rule.items()
    assert made_rule["is_active"] is True
    await daemon.post("/api/v1/forwarding-rules", token, {**rule, "regex_pattern": "^(?=.*x)"}, status=400)
    assert (await daemon.get("/api/v1/forwarding-rules", token))["rules"] == [made_rule]

    # mail comes in, with a file, and the rule sends it on
    dns.set("rules.test", "MX", ["10 mx.rules.test"])
    dns.set("mx.rules.test", "A", ["127.0.0.1"])
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Sender <sender@other.test>", address, "An urgent matter"
    message["Message-ID"] = "<first@other.test>"
    message.set_content("Hi there")
    message.add_alternative("<p>Hi there</p>", subtype="html")
    message.add_attachment(b"%PDF-1", maintype="application", subtype="pdf", filename="invoice.pdf")
    async with SmtpSink(port=out_port) as sink:
        await in_thread(send, daemon, message, address)
        forwarded = await arrived(sink)
    assert forwarded.recipients == ["alerts@rules.test"]
    assert forwarded.mail_from.startswith("SRS0=")
    assert forwarded.mail_from.endswith(f"=sender@{DOMAIN}")
    assert b"invoice.pdf" in forwarded.data
    async with daemon.request("DELETE", f"/api/v1/forwarding-rules/{made_rule['id']}", key=token) as response:
        assert response.status == 204

    # 9: list
    listed = await daemon.get("/api/v1/emails?page=1&limit=20", inbox_key)
    assert (listed["total"], listed["page"], listed["limit"]) == (1, 1, 20)
    (email,) = listed["emails"]
    assert email["message_id"] == "<first@other.test>"
    assert email["direction"] == "inbound"
    assert (email["from_address"], email["envelope_from_address"]) == ("sender@other.test", "sender@other.test")
    assert email["sender_warning"] is None
    assert email["authentication_results"]["spf"]["result"] == "none"
    assert email["authentication_results"]["dkim"] == {"result": "none", "signatures": []}
    assert email["authentication_results"]["dmarc"]["result"] == "none"
    assert (email["to_addresses"], email["cc_addresses"]) == ([address], [])
    assert (email["body_text"].strip(), email["body_html"].strip()) == ("Hi there", "<p>Hi there</p>")
    assert (email["has_attachments"], email["attachments"]) == (True, ["invoice.pdf"])
    assert (email["is_read"], email["is_archived"]) == (False, False)
    assert (await daemon.get("/api/v1/emails?is_read=false", inbox_key))["total"] == 1
    assert (await daemon.get("/api/v1/emails?is_archived=true", inbox_key))["total"] == 0

    # 10: attachments
    download = f"/api/v1/emails/{email['id']}/attachments/download"
    async with daemon.request("GET", download, key=inbox_key) as response:
        assert (response.status, await response.read()) == (200, b"%PDF-1")
    async with daemon.request("GET", f"{download}?format=zip", key=inbox_key) as response:
        assert f"email-{email['id']}-attachments.zip" in response.headers["Content-Disposition"]
        packed = zipfile.ZipFile(io.BytesIO(await response.read()))
    assert packed.namelist() == ["invoice.pdf"]

    # 11: send
    dns.set("far.test", "MX", ["10 mx.far.test"])
    dns.set("mx.far.test", "A", ["127.0.0.1"])
    dns.set("other.test", "MX", ["10 mx.far.test"])
    outgoing = {"to": ["recipient@far.test"], "subject": "Hello", "text": "This is a test.", "html": "<p>Test.</p>"}
    async with SmtpSink(port=out_port) as sink:
        sent = await daemon.post("/api/v1/emails/send", inbox_key, outgoing)
        delivered = await arrived(sink)
        # 12: reply
        answer = await daemon.post(f"/api/v1/emails/{email['id']}/reply", inbox_key, {"text": "Thanks!"})
        replied = await arrived(sink)
    assert set(sent) == {"id", "message_id", "thread_id", "created_at"}
    assert delivered.recipients == ["recipient@far.test"]
    assert delivered.data.startswith(b"DKIM-Signature: ")
    assert replied.recipients == ["sender@other.test"]
    assert b"In-Reply-To: <first@other.test>" in replied.data
    assert b"Subject: Re: An urgent matter" in replied.data
    assert answer["thread_id"] == email["thread_id"]
    assert (await daemon.get("/api/v1/emails?is_read=false", inbox_key))["total"] == 0

    # 13: archive
    archived = await daemon.post(f"/api/v1/emails/{email['id']}/archive", inbox_key, status=200)
    assert archived == {"id": email["id"], "is_archived": True}
    assert [e["id"] for e in (await daemon.get("/api/v1/emails?is_archived=true", inbox_key))["emails"]] == [
        email["id"]
    ]
