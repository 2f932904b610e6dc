"""Postfix's smtp-sink takes our mail: many recipients at once, with and without extensions, and when it breaks off."""

from __future__ import annotations

import asyncio
import email
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from clawmail.store.db import Database
from clawmail.worker import OutboundWorker
from tests.support import partners
from tests.support.outgoing import (
    MESSAGE,
    events_of,
    make_settings,
    make_worker,
    mx_zone,
    queue,
    reached,
    running,
    settled,
)
from tests.support.ports import free_port
from tests.support.tenants import Tenant

pytestmark = pytest.mark.skipif(
    bool(partners.missing("smtp-sink", "postfix")), reason=partners.missing("smtp-sink", "postfix")
)

PATIENCE_SECONDS = 10.0
#: begins a message in smtp-sink's file, before the header fields that say how it came.
MARK = "--- message ---\n"


@dataclass
class Sink:
    """A running smtp-sink and the file it appends messages to."""

    port: int
    file: Path

    def messages(self) -> list[Message]:
        """What it took, with ``X-Client-Proto``, ``X-Mail-Args`` and one ``X-Rcpt-Args`` a recipient."""
        parts = self.file.read_bytes().decode("latin-1").split(MARK)[1:] if self.file.exists() else []
        return [email.message_from_string(part) for part in parts]


@asynccontextmanager
async def smtp_sink(*options: str) -> AsyncIterator[Sink]:
    with tempfile.TemporaryDirectory(prefix="clawmail-sink-") as directory:
        Path(directory).chmod(0o777)  # smtp-sink does not work as root; it becomes nobody
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        sink = Sink(free_port("127.0.0.1"), Path(directory, "taken"))
        process = await asyncio.create_subprocess_exec(
            "smtp-sink",
            *(
                *account,
                *options,
                "-D",
                str(sink.file),
                "-S",
                MARK.replace("\n", r"\n"),
                f"127.0.0.1:{sink.port}",
                "50",
            ),
            env={"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"},
        )
        try:
            await _listens(sink.port)
            yield sink
        finally:
            process.terminate()
            await process.wait()


async def _listens(port: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return


def patient_worker(db: Database, port: int) -> OutboundWorker:
    """One that tries again in an hour."""
    return make_worker(db, mx_zone(["there.test"]), make_settings(port, retry_schedule_seconds=[3600]))


@pytest.mark.parametrize(
    "options", [(), ("-p",), ("-8",), ("-e",)], ids=["all", "no pipelining", "no 8BITMIME", "HELO"]
)
async def test_all_recipients_share_transactions(db: Database, tenant: Tenant, options: tuple[str, ...]) -> None:
    people = [f"user{number}@there.test" for number in range(40)]
    async with smtp_sink(*options) as sink:
        async with running(make_worker(db, mx_zone(["there.test"]), make_settings(sink.port))):
            first, second = [(await queue(db, tenant, people))[1] for _ in range(2)]
            found = await settled(db, first + second)
        taken = sink.messages()
    assert [(row["state"], row["attempts"]) for row in found] == [("delivered", 1)] * 80
    assert {one["X-Client-Proto"] for one in taken} == {"SMTP" if options == ("-e",) else "ESMTP"}
    assert all(f"<{tenant.inbox.address}>" in one["X-Mail-Args"] for one in taken)
    named = sorted(line.partition(" ")[0] for one in taken for line in one.get_all("X-Rcpt-Args", []))
    assert named == sorted(f"<{person}>" for person in people * 2)
    assert len(taken) <= 4  # a claim may end between recipients of a message, but not between each two
    body = MESSAGE.partition(b"\r\n\r\n")[2].decode().replace("\r\n", "\n")
    assert {one.get_payload() for one in taken} == {body + "\n"}  # an empty line ends a message in its file


@pytest.mark.parametrize("extensions", [(), ("-p",)], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "."])
async def test_a_sink_that_hangs_up(db: Database, tenant: Tenant, stage: str, extensions: tuple[str, ...]) -> None:
    async with smtp_sink(*extensions, "-q", stage) as sink, running(patient_worker(db, sink.port)):
        (row,) = await reached(db, (await queue(db, tenant, ["bob@there.test"]))[1], "deferred")
    (attempt, _) = [detail for _, detail in await events_of(db, row["id"])]
    assert row["attempts"] == 1
    # Only after the dot may the host have the message all the same.
    assert attempt.get("possible_duplicate", False) is (stage == ".")


@pytest.mark.parametrize(("option", "state"), [("-r", "deferred"), ("-f", "bounced"), ("-Q", "deferred")])
async def test_a_sink_that_refuses_recipients(db: Database, tenant: Tenant, option: str, state: str) -> None:
    async with smtp_sink(option, "RCPT") as sink:
        async with running(patient_worker(db, sink.port)):
            found = await reached(db, (await queue(db, tenant, ["a@there.test", "b@there.test"]))[1], state)
        assert sink.messages() == []
    assert {row["last_reply"][:1] for row in found} == {"5" if state == "bounced" else "4"}
