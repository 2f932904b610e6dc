"""SMTP conversations as text files, played against a live door.

A file tells in its comments what is tried and why the right answer is right; then, one step a line:

    set smtp.bare_newline normalize     a setting of this door
    only plain                          not inside TLS as well
    each END = \\n.\\n | \\r.\\r        once for every value of {END}
    hello                               greeting, EHLO; inside TLS: STARTTLS and EHLO again
    C: MAIL FROM:<a@sender.test>        a line is sent, with CRLF
    raw: one\\r\\n.\\r\\n               octets are sent as they are
    repeat 20: C: NONSENSE              a step many times over
    S: 250 2.1.0                        the next reply begins so
    has: PIPELINING                     a line of that reply holds it
    lacks: BINARYMIME                   no line of it does
    tls                                 the handshake begins
    half-close                          the client sends no more, but listens
    {512}                               so many letters x, anywhere in what is sent
    closed                              the server has closed
    kept 1                              so many messages were kept in all
    kept-as: Subject: x\\r\\n           the last one is exactly this
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from clawmail.base.settings import Smtp
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door, trusting

_REPEATED = re.compile(r"\{(\d+)\}")


@dataclass(frozen=True)
class Play:
    """One way to play a file."""

    name: str
    tls: bool
    settings: dict[str, Any]
    steps: tuple[tuple[int, str], ...] = field(repr=False)


def plays(path: Path) -> Iterator[Play]:
    """Every way a file is to be played: plain and inside TLS, for each variant."""
    settings: dict[str, Any] = {}
    steps: list[tuple[int, str]] = []
    variants: list[tuple[str, str]] = [("", "")]
    ways: tuple[bool, ...] = (False, True)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word == "set":
            key, _, value = rest.partition(" ")
            settings[key.removeprefix("smtp.")] = value
        elif word == "only":
            ways = (rest == "tls",)
        elif word == "each":
            name, _, values = rest.partition(" = ")
            variants = [(f"{{{name}}}", value.strip()) for value in values.split(" | ")]
        else:
            steps.append((number, line))
    typed = msgspec.to_builtins(msgspec.convert(settings, Smtp, strict=False))
    for tls in ways:
        for mark, value in variants:
            told = tuple((number, step.replace(mark, value) if mark else step) for number, step in steps)
            label = " ".join(filter(None, [path.stem, value, "tls" if tls else "plain"]))
            yield Play(label, tls, {key: typed[key] for key in settings}, told)


async def perform(play: Play, data_dir: Path) -> None:
    """Plays it; an AssertionError names the line that did not come true."""
    receiver = ScriptedReceiver()
    async with open_door(door_settings(data_dir, **play.settings), receiver) as door:
        actor = _Actor(await Client.connect(door.addresses[0]), receiver, play.tls)
        try:
            for number, step in play.steps:
                try:
                    await actor.do(step)
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"line {number}: {step}\n{error or 'timed out'}") from None
        finally:
            await actor.client.close()


class _Actor:
    def __init__(self, client: Client, receiver: ScriptedReceiver, tls: bool) -> None:
        self.client = client
        self._receiver = receiver
        self._tls = tls
        self._reply = ""

    async def do(self, step: str) -> None:
        word, _, rest = _REPEATED.sub(lambda match: "x" * int(match[1]), step).partition(" ")
        match word:
            case "hello":
                await self._hello()
            case "C:":
                self.client.send(rest.encode() + b"\r\n")
            case "raw:":
                self.client.send(_octets(rest))
            case "repeat":
                count, _, inner = rest.partition(": ")
                for _ in range(int(count)):
                    await self.do(inner)
            case "S:":
                self._reply = await self.client.reply()
                assert self._reply.splitlines()[-1].startswith(rest), f"the reply was {self._reply!r}"
            case "has:":
                assert rest in _keywords(self._reply), self._reply
            case "lacks:":
                assert rest not in _keywords(self._reply), self._reply
            case "tls":
                await self.client.writer.start_tls(trusting())
            case "half-close":
                self.client.writer.write_eof()
            case "closed":
                left = await self._last_words()
                assert left == "", f"the server said {left!r}"
            case "kept":
                kept = len(self._receiver.envelopes)
                assert kept == int(rest), f"{kept} were kept"
            case "kept-as:":
                raw = self._receiver.envelopes[-1].raw
                assert raw == _octets(rest), f"kept was {raw!r}"
            case _:
                raise AssertionError("no such step")

    async def _hello(self) -> None:
        reply = await self.client.hello()
        assert reply.splitlines()[-1].startswith("250 "), reply
        if self._tls:
            await self.client.starttls()
            reply = await self.client.say("EHLO client.test")
        self._reply = reply

    async def _last_words(self) -> str:
        try:
            return await self.client.reply()
        except (ssl.SSLError, ConnectionError):
            return ""


def _keywords(reply: str) -> set[str]:
    """The lines of a reply without their codes."""
    return {line[4:] for line in reply.splitlines()}


def _octets(text: str) -> bytes:
    r"""``\r``, ``\n``, ``\0`` and ``\xHH`` as octets, everything else as UTF-8."""
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")
