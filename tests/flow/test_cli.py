"""The command line as scripts and people use it: on a real database, beside a daemon and alone."""

from __future__ import annotations

import asyncio
import re
import smtplib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from clawmail.store.db import Database
from tests.support import mail
from tests.support.daemon import Daemon, start_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.shell import Shell
from tests.support.tenants import Tenant

#: seconds that the door may take.
SECONDS = 60


@pytest.fixture
def dns() -> Iterator[DnsServerThread]:
    with DnsServerThread() as server:
        yield server


@pytest.fixture
def shell(database_url: str, dns: DnsServerThread, tmp_path: Path) -> Shell:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\ndata_dir = "{tmp_path}/data"\npublic_ip = "127.0.0.1"\n'
        f'[database]\nurl = "{database_url}"\n[dns]\nnameservers = ["{dns.nameserver}"]\n'
    )
    return Shell(config)


async def test_a_domain_from_its_registration_to_its_end(shell: Shell, dns: DnsServerThread) -> None:
    made = await shell.json("domain", "add", "Example.TEST")
    assert (made["domain"], made["state"], made["verified"]) == ("example.test", "pending", False)
    assert made["verification_token"].startswith("cmd_")

    early = await shell.json("domain", "verify", "example.test", status=1)
    assert early["verified"] is False
    assert early["problem"] == "DNS verification failed. TXT: FAIL, MX: FAIL, A: FAIL"
    assert {record["state"] for record in early["records"]} == {"missing"}

    for record in (await shell.json("domain", "dns", "example.test"))["records"]:
        value = record["value"] if record["priority"] is None else f"{record['priority']} {record['value']}"
        dns.set(record["name"], record["type"], [value])
    verified = await shell.json("domain", "verify", "example.test")
    assert (verified["verified"], verified["problem"]) == (True, None)
    assert [record["state"] for record in verified["records"]] == ["ok"] * 6
    assert all(record["fix"] == "" for record in verified["records"])

    (listed,) = await shell.json("domain", "list")
    assert (listed["domain"], listed["state"], listed["trusted"]) == ("example.test", "verified", False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", listed["verified_at"])
    again = await shell.json("domain", "token", "example.test")
    assert again["verification_token"] not in (made["verification_token"], "")

    assert "already verified" in await shell.refusal("domain", "add", "example.test")
    assert "domain name" in await shell.refusal("domain", "add", "no domain")
    assert "no domain other.test" in await shell.refusal("domain", "dns", "other.test")
    assert await shell.json("domain", "remove", "example.test", "--yes") == {"domain": "example.test", "removed": True}
    assert await shell.json("domain", "list") == []
    assert "no domain example.test" in await shell.refusal("domain", "remove", "example.test")


async def test_a_domain_keeps_things_for_as_long_as_its_operator_says(shell: Shell) -> None:
    await shell.json("domain", "add", "example.test", "--trusted")
    shown = await shell.json("domain", "retention", "example.test")
    assert shown["own"] == {"mail_days": None, "attachment_hours": None, "event_days": None}
    assert (shown["mail_days"], shown["event_days"]) == (0, 90)
    shown = await shell.json("domain", "retention", "example.test", "--mail-days", "7.5", "--event-days", "0")
    assert shown["own"] == {"mail_days": 7.5, "attachment_hours": None, "event_days": 0}
    shown = await shell.json("domain", "retention", "example.test", "--event-days", "default")
    assert (shown["mail_days"], shown["event_days"]) == (7.5, 90)
    refused = await shell.run("domain", "retention", "example.test", "--mail-days=-1")
    assert (refused.status, "not a number of 0 or more" in refused.err) == (2, True)


async def test_inboxes_and_keys(shell: Shell) -> None:
    trusted = await shell.json("domain", "add", "example.test", "--trusted")
    assert (trusted["state"], trusted["trusted"]) == ("verified", True)
    await shell.json("domain", "add", "other.test", "--trusted")

    added = await shell.json("inbox", "add", "Agent@example.test", "--quota", "1.5MiB")
    assert (added["address"], added["storage_quota_bytes"]) == ("Agent@example.test", 1572864)
    assert (added["storage_used_bytes"], added["unread_count"]) == (0, 0)
    assert "already exists" in await shell.refusal("inbox", "add", "agent@example.test")
    assert "no domain nowhere.test" in await shell.refusal("inbox", "add", "agent@nowhere.test")
    assert "name@domain" in await shell.refusal("inbox", "add", "agent")
    changed = await shell.json("inbox", "quota", "agent@EXAMPLE.test", "2GB")
    assert changed["storage_quota_bytes"] == 2_000_000_000
    wrong = await shell.run("inbox", "quota", "agent@example.test", "much")
    assert (wrong.status, "500MiB" in wrong.err) == (2, True)

    key = await shell.json("key", "create", "agent@example.test", "--label", "laptop")
    assert key["api_key"].startswith(key["key_prefix"])
    assert (len(key["key_prefix"]), key["email"], key["label"]) == (11, "Agent@example.test", "laptop")
    other = await shell.json("key", "create", "new@other.test")
    assert [row["address"] for row in await shell.json("inbox", "list")] == ["Agent@example.test", "new@other.test"]
    assert [row["address"] for row in await shell.json("inbox", "list", "other.test")] == ["new@other.test"]
    assert [row["id"] for row in await shell.json("key", "list")] == [key["id"], other["id"]]
    (listed,) = await shell.json("key", "list", "example.test")
    assert "api_key" not in listed
    assert listed["revoked_at"] is None

    await shell.json("key", "revoke", key["key_prefix"])
    await shell.json("key", "revoke", other["id"])
    assert all(row["revoked_at"] for row in await shell.json("key", "list"))
    assert "clawmail key list" in await shell.refusal("key", "revoke", key["key_prefix"])
    await shell.json("inbox", "remove", "agent@example.test", "--yes")
    assert "clawmail inbox list" in await shell.refusal("inbox", "remove", "agent@example.test", "--yes")


async def test_tables_are_for_people(shell: Shell) -> None:
    assert "clawmail domain add NAME" in (await shell.run("domain", "list")).out
    made = await shell.run("domain", "add", "example.test", "--trusted")
    assert "shown only now" in made.out
    await shell.run("inbox", "add", "agent@example.test")
    table = (await shell.run("inbox", "list")).out.splitlines()
    assert table[0].split()[:3] == ["address", "used", "quota"]
    assert table[1].split()[:5] == ["agent@example.test", "0", "B", "500.0", "MiB"]
    assert "it is made" in (await shell.run("key", "create", "agnet@example.test")).out, "lest a slip go unseen"
    assert "it is made" not in (await shell.run("key", "create", "agent@example.test")).out
    assert (await shell.run("queue", "list")).out == "nothing waits\n"
    assert (await shell.run("queue", "list", "--state", "held")).out == "there is no such delivery\n"
    records = (await shell.run("domain", "dns", "example.test")).out
    value = re.search(r"value  (v=DKIM1.*)", records)
    assert value is not None
    assert len(value[1]) > 390, "a value that has to be copied is on one line"


async def test_the_queue_in_an_operators_hands(shell: Shell, db: Database, tenant: Tenant) -> None:
    recipients = ("ann@one.test", "bob@two.test", "cid@two.test")
    await mail.file(db, tenant, direction="outbound", recipients=recipients)
    rows = await shell.json("queue", "list")
    assert [row["recipient"] for row in rows] == list(recipients)
    ids = [row["id"] for row in rows]
    assert [row["id"] for row in await shell.json("queue", "list", "--destination", "two.test")] == ids[1:]
    assert [row["id"] for row in await shell.json("queue", "list", "--after", ids[0], "--limit", "1")] == [ids[1]]
    assert await shell.json("queue", "list", "--domain", "nobody.test") == []

    assert await shell.json("queue", "hold", ids[0], ids[1]) == {"moved": 2, "named": 2}
    assert [row["id"] for row in await shell.json("queue", "list", "--state", "held")] == ids[:2]
    part = await shell.run("queue", "release", ids[0], ids[2])
    assert (part.status, part.out) == (1, "1 delivery released\n")
    assert "queue show" in part.err
    assert await shell.json("queue", "drop", ids[1]) == {"moved": 1, "named": 1}
    assert await shell.json("queue", "retry", ids[0], ids[2]) == {"moved": 2, "named": 2}
    assert "waiting" in await shell.refusal("queue", "retry", ids[1])
    shown = await shell.json("queue", "show", ids[1])
    assert (shown["state"], shown["recipient"], shown["events"]) == ("cancelled", "bob@two.test", [])
    assert "cancelled" in (await shell.run("queue", "show", ids[1])).out
    assert "not a delivery id" in await shell.refusal("queue", "show", "one")

    assert (await shell.json("queue", "pause", "Two.test", "--reason", "asked to"))["destination"] == "two.test"
    top = {row["site"]: row for row in await shell.json("queue", "top")}
    assert (top["two.test"]["waiting"], top["two.test"]["pause_reason"]) == (1, "asked to")
    assert "paused asked to" in (await shell.run("queue", "top")).out
    await shell.json("queue", "resume", "two.test")
    assert "neither paused nor parked" in await shell.refusal("queue", "resume", "two.test")


async def test_verify_export_and_import(shell: Shell, db: Database, tenant: Tenant, tmp_path: Path) -> None:
    raw = mail.plain("hello", "From here\r\nto there")
    await mail.file(db, tenant, raw)
    clean = await shell.json("verify")
    assert (clean["ok"], clean["problems"], clean["checked"]["messages"]) == (True, [], 1)
    async with db.connection() as conn:
        await conn.execute("UPDATE inbox_usage SET used_bytes = 1")
    found = await shell.run("verify")
    assert found.status == 1
    assert "used_bytes is kept as 1" in found.out
    assert "clawmail verify --repair" in found.out
    repaired = await shell.json("verify", "--repair")
    assert (repaired["ok"], repaired["problem_count"], repaired["repaired_count"]) == (True, 1, 1)
    assert repaired["problems"][0]["check"] == "counts"

    path = tmp_path / "mail.mbox"
    out = ("--inbox", tenant.inbox.address, "--format", "mbox")
    assert (await shell.json("export", *out, str(path)))["exported"] == 1
    assert "is there already" in await shell.refusal("export", *out, str(path))
    piped = await shell.start("export", *out, "-")
    assert piped.out.encode() == path.read_bytes()
    await shell.json("inbox", "add", "second@example.test")
    back = ("--inbox", "second@example.test", "--format", "mbox")
    assert (await shell.json("import", *back, str(path)))["imported"] == 1
    again = await shell.start("import", *back, "-", stdin=path.read_bytes())
    assert (again.status, "skipped, there already: 1" in again.out) == (0, True)
    async with db.connection() as conn:
        assert [row["raw"] for row in await conn.fetch("SELECT raw FROM messages")] == [raw, raw]
    assert "clawmail inbox add" in await shell.refusal("export", "--inbox", "x@y.test", "--format", "jsonl", "-")
    assert (await shell.run("export", *out[:2], "--format", "maildir", "-")).status == 2


async def test_doctor_reports_and_exits_by_what_it_found(shell: Shell, db: Database) -> None:
    ran = await shell.start("doctor", "--json")
    assert (ran.status, ran.err, ran.json["ok"]) == (1, "", False)
    assert sum(ran.json["counts"].values()) == len(ran.json["findings"])
    assert {"check", "status", "domain", "message", "fix"} == set(ran.json["findings"][0])
    lines = (await shell.run("doctor")).out
    assert re.search(r"^fail  hostname: ", lines, re.MULTILINE)
    assert re.search(r"^      do: ", lines, re.MULTILINE)
    async with db.connection() as conn:
        await conn.execute("DELETE FROM schema_migrations WHERE name = '0002_outbound'")
    findings = (await shell.json("doctor", status=1))["findings"]
    (told,) = [finding for finding in findings if finding["check"] == "database" and finding["status"] == "fail"]
    assert "0002_outbound" in told["message"]
    assert "clawmail migrate" in told["fix"]


async def test_errors_say_what_to_do(shell: Shell, tmp_path: Path) -> None:
    shell.config.write_text('[server]\nhostnam = "x"\n')
    assert "hostname" in await shell.refusal("domain", "list")
    shell.config.write_text('[server]\npublic_ip = "here"\n[dns]\nnameservers = ["no host"]\n')
    broken = await shell.json("doctor", status=1)
    assert "server.public_ip: 'here' is not an IP address" in broken["findings"][0]["message"]
    assert broken["findings"][0]["check"] == "configuration"
    shell.config.write_text('[dns]\nnameservers = ["no host"]\n')
    broken = await shell.json("doctor", status=1)
    assert "dns.nameservers: 'no host'" in broken["findings"][0]["message"]
    shell.config.write_text('[dns]\nnameservers = ["no-such-host.invalid"]\n')
    assert "dns.nameservers: 'no-such-host.invalid'" in await shell.refusal("doctor")
    port = free_port()
    shell.config.write_text(f'[database]\nurl = "postgresql://nobody@127.0.0.1:{port}/x"\n')
    assert "no PostgreSQL answers" in await shell.refusal("domain", "list")
    unreachable = await shell.json("doctor", status=1)
    assert [f["status"] for f in unreachable["findings"] if f["check"] == "database"] == ["fail"]


@pytest.fixture
async def daemon_and_shell() -> AsyncIterator[tuple[Daemon, Shell]]:
    """A daemon with its embedded PostgreSQL, and a shell beside it."""
    with tempfile.TemporaryDirectory(prefix="clawmail-cli-") as text:
        directory = Path(text)
        directory.chmod(0o755)
        settings: dict[str, dict[str, Any]] = {
            "server": {"data_dir": f"{text}/data", "app_domain": "example.test"},
            "smtp": {"listen": ["127.0.0.1:0"]},
            "api": {"listen": ["127.0.0.1:0"]},
        }
        daemon = await start_daemon(settings, directory)
        try:
            yield daemon, Shell(directory / "config.toml")
        finally:
            await daemon.stop()


async def test_a_running_daemon_learns_of_a_change_at_once(daemon_and_shell: tuple[Daemon, Shell]) -> None:
    """What the daemon remembers (that a domain is unknown, that a key is good) it forgets with the command's commit."""
    daemon, shell = daemon_and_shell
    assert await _rcpt(daemon, "agent@example.test") == 550
    assert (await shell.start("domain", "add", "example.test", "--trusted")).status == 0
    assert await _rcpt(daemon, "agent@example.test") == 250

    made = await shell.json("key", "create", "agent@example.test")
    bearer = f"{made['email']}:{made['api_key']}"
    assert (await daemon.get("/api/v1/emails", bearer))["emails"] == []
    assert (await shell.start("key", "revoke", made["id"])).status == 0
    async with daemon.request("GET", "/api/v1/emails", key=bearer) as response:
        assert response.status == 401

    await shell.json("inbox", "quota", "agent@example.test", "0")
    assert (await shell.json("verify"))["ok"] is True
    await shell.json("domain", "remove", "example.test")
    assert await _rcpt(daemon, "agent@example.test") == 550


async def _rcpt(daemon: Daemon, address: str) -> int:
    """The reply to RCPT."""

    def ask() -> int:
        with smtplib.SMTP(*daemon.smtp, local_hostname="client.test", timeout=SECONDS) as client:
            client.ehlo()
            client.mail("a@client.test")
            return client.rcpt(address)[0]

    return await asyncio.to_thread(ask)
