"""Whole sessions under atheris, which follows the code's branches; run by hand, for as long as you like:

    pip install atheris
    python -m tests.fuzz.atheris_smtp -max_total_time=3600 [CORPUS]

The first octet of an input says how its blocks are cut; the rest goes over the wire, where an octet from 0xE0 on stands
for a whole command, so that the fuzzer need not find their words by chance. The invariants are those of
``test_fuzz_smtp``; a crash leaves its input in the working directory.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from clawmail.base import log

#: not among the project's dependencies: see above.
atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["clawmail.smtpd"]):
    from tests.support.wire import Wire

MAX_BYTES = 300
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
HELLO = b"EHLO fuzz.test\r\n"
COMMANDS = (
    *(b"EHLO a.test\r\n", b"HELO a.test\r\n", b"MAIL FROM:<>\r\n", b"MAIL FROM:<a@b.test>", b"MAIL FROM:", b"\r\n"),
    *(
        b"RCPT TO:<agent@example.test>\r\n",
        b"RCPT TO:<unknown@example.test>\r\n",
        b"RCPT TO:",
        b"DATA\r\n",
        b"\r\n.\r\n",
    ),
    *(b"BDAT 5\r\n", b"BDAT 5 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT ", b" LAST\r\n", b"BDAT 400\r\n", b"x" * 200),
    *(b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"VRFY x\r\n", b"AUTH PLAIN AA==\r\n", b" SIZE=", b" SMTPUTF8", b" BODY="),
    *(b" NOTIFY=", b" ORCPT=rfc822;", b" RET=FULL", b" ENVID=", b"\r\n.", b"8BITMIME\r\n"),
)
OPENED = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<agent@example.test>\r\n"

loop = asyncio.new_event_loop()
data_dir = Path(tempfile.gettempdir())


def one_session(octets: bytes) -> None:
    """Plays an input; raises when an invariant does not hold."""
    if not octets:
        return
    how = octets[0]
    stream = b"".join(COMMANDS[octet - 0xE0] if octet >= 0xE0 else bytes([octet]) for octet in octets[1:])
    size = how % 64 + 1
    wire = Wire(loop, data_dir, max_message_bytes=MAX_BYTES, bare_newline="normalize" if how & 128 else "reject")
    blocks = [stream[i : i + size] for i in range(0, len(stream), size)]
    replies = wire.send(HELLO, *([OPENED] if how & 64 else []), *blocks)
    wire.end()
    kept = wire.receiver.envelopes
    assert len(kept) == sum("queued as" in reply for reply in replies)
    for envelope in kept:
        assert len(envelope.raw) <= MAX_BYTES
        assert not BARE.search(envelope.raw)


def main() -> None:
    """Fuzzes until it is told to stop, or something breaks."""
    log.configure("error")
    atheris.Setup(sys.argv, one_session)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
