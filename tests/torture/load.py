"""Load: mail servers that deliver and programs that send, as persistent as real ones and keeping their own books."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp

from tests.torture.ledger import Ledger, Mail, Sent

#: longest wait for any answer: shorter than the server's own patience, so that doubts do come up.
PATIENCE_SECONDS = 15.0
#: pause before a message that was not taken is tried again.
RETRY_SECONDS = 0.3
#: pause between two messages of one client: load, not a benchmark.
PAUSE_SECONDS = 0.04
#: octets of the bodies: mostly small, now and then one that takes several network reads and a large row.
SIZES = (200, 1_500, 1_500, 6_000, 30_000, 400_000)


@dataclass
class Target:
    """Where clients connect, and as whom they send."""

    smtp: Sequence[tuple[str, int]]
    api: Sequence[str]
    inbox: str
    key: str


def make_mail(recipient: str) -> tuple[str, bytes]:
    """A message that is like no other: (Message-ID, bytes with CRLF). Lines that begin with dots are part of it."""
    name = f"<{uuid4()}@sender.test>"
    body = "\r\n".join(f"{'.' * (n % 4)}line {n} {random.random()}" for n in range(random.choice(SIZES) // 30))
    head = f"From: Sender <s@sender.test>\r\nTo: {recipient}\r\nSubject: torture\r\nMessage-ID: {name}\r\n"
    return name, (head + "\r\n" + body + "\r\n").encode()


class MailClient:
    """A mail server with one message at a time, which it tries to hand over until somebody takes it."""

    def __init__(self, ledger: Ledger, target: Target, stop: asyncio.Event) -> None:
        self._ledger, self._target, self._stop = ledger, target, stop

    async def run(self) -> None:
        """Delivers until told to stop; a message without an answer then is nobody's promise."""
        while not self._stop.is_set():
            message_id, raw = make_mail(self._target.inbox)
            mail = self._ledger.expect(raw, message_id)
            while mail.promised_at is None and not self._stop.is_set():
                await self._try(mail, raw)
                await asyncio.sleep(PAUSE_SECONDS if mail.promised_at else RETRY_SECONDS)

    async def _try(self, mail: Mail, raw: bytes) -> None:
        conversation = _Conversation()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reply = await conversation.deliver(random.choice(self._target.smtp), self._target.inbox, raw)
        except (OSError, EOFError, TimeoutError) as problem:
            self._ledger.refusals["SMTP connection broke" if conversation.all_sent else "SMTP no connection"] += 1
            mail.doubts += conversation.all_sent and not isinstance(problem, ConnectionRefusedError)
            return
        finally:
            conversation.close()
        if reply.startswith("250"):
            mail.promised_at = time.monotonic()
        else:
            self._ledger.refusals[f"SMTP {reply[:9]}"] += 1
            if conversation.all_sent:
                mail.put_off.append((time.monotonic(), reply))
            if reply.startswith("5"):
                self._ledger.turned_away.append(f"SMTP {reply}")


class _Conversation:
    """One SMTP session with one message."""

    def __init__(self) -> None:
        self.all_sent = False
        self._writer: asyncio.StreamWriter | None = None

    async def deliver(self, address: tuple[str, int], recipient: str, raw: bytes) -> str:
        """The last reply: to the dot, or to the command that was refused. Raises OSError or EOFError."""
        reader, self._writer = await asyncio.open_connection(*address)
        reply = await self._reply(reader)
        for command in ("EHLO client.test", "MAIL FROM:<s@sender.test>", f"RCPT TO:<{recipient}>", "DATA"):
            if not reply.startswith(("2", "3")):
                return reply
            self._writer.write(command.encode() + b"\r\n")
            reply = await self._reply(reader)
        if not reply.startswith("354"):
            return reply
        stuffed = raw.replace(b"\r\n.", b"\r\n..")
        self._writer.write(stuffed)
        await self._writer.drain()
        self.all_sent = True
        self._writer.write(b".\r\n")
        return await self._reply(reader)

    async def _reply(self, reader: asyncio.StreamReader) -> str:
        while True:
            line = (await reader.readline()).decode("latin-1")
            if not line.endswith("\n"):
                raise EOFError("the server hung up")
            if line[3:4] != "-":
                return line.rstrip()

    def close(self) -> None:
        """Hangs up."""
        if self._writer is not None:
            self._writer.close()


class ApiClient:
    """A program that sends over the API, each message with an Idempotency-Key, and repeats what got no answer."""

    def __init__(self, ledger: Ledger, target: Target, stop: asyncio.Event, recipients: Sequence[str]) -> None:
        """``recipients``: one is chosen a message; ``{}`` in it becomes a name that nobody had before."""
        self._ledger, self._target, self._stop, self._recipients = ledger, target, stop, recipients

    async def run(self) -> None:
        """Sends until told to stop."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {self._target.key}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while not self._stop.is_set():
                await self._send(session, random.choice(self._recipients).format(uuid4().hex))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, session: aiohttp.ClientSession, recipient: str) -> None:
        mail = {"to": [recipient], "subject": "torture", "text": f"{random.random()}\n" * 20}
        key = {"Idempotency-Key": str(uuid4())}
        while not self._stop.is_set():
            try:
                url = random.choice(self._target.api) + "/api/v1/emails/send"
                async with session.post(url, json=mail, headers=key) as response:
                    answer: Any = await response.json()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                self._ledger.refusals["HTTP connection broke"] += 1
            else:
                if response.status == 201:
                    promised = Sent(answer["id"], answer["message_id"], recipient, time.monotonic())
                    self._ledger.sent[answer["id"]] = promised
                    return
                self._ledger.refusals[f"HTTP {response.status}"] += 1
                if response.status == 409:
                    return  # a process died with this key in flight; the program has to ask a person
                if response.status != 503:
                    self._ledger.turned_away.append(f"HTTP {response.status} {answer}")
                    return
            await asyncio.sleep(RETRY_SECONDS)
