"""``clawmail parse``: a message file as the store would keep it, in JSON.

One file gives one JSON object, laid out over several lines for a terminal and compact for a pipe. With ``--jsonl``
every line of input names a file and gives exactly one line of output, in order, a failure being ``{"error": …}``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

if TYPE_CHECKING:
    from clawmail.protocol.address import Mailbox

Json = dict[str, Any]


@click.command("parse")
@click.argument("file", required=False)
@click.option(
    "--jsonl",
    metavar="FILE",
    help='Read one path per line from FILE ("-" is standard input), print one JSON object per line.',
)
@click.option("--json", "compact", is_flag=True, help="Print compact JSON, also on a terminal.")
def parse_command(file: str | None, jsonl: str | None, compact: bool) -> None:
    """Print what would be kept of the message in FILE ("-" is standard input).

    Line ends of a bare LF are read as CRLF. A bounce also shows which recipients failed, and whether for good.
    """
    if (file is None) == (jsonl is None):
        raise click.UsageError("give either a FILE or --jsonl FILE")
    out = sys.stdout.buffer
    if jsonl is not None:
        _answer_lines(jsonl, out)
        return
    try:
        answer = describe_file(file or "-")
    except (OSError, ValueError) as error:
        raise click.ClickException(_reason(error)) from error
    out.write(_encode(answer, indent=0 if compact or not sys.stdout.isatty() else 2))


def _answer_lines(source: str, out: BinaryIO) -> None:
    try:
        for line in _lines(source):
            try:
                answer = describe_file(_path_of(line))
            except (OSError, ValueError) as error:
                answer = {"error": _reason(error)}
            out.write(_encode(answer, indent=0))
            out.flush()
    except OSError as error:
        raise click.ClickException(_reason(error)) from error


def _lines(source: str) -> Iterator[bytes]:
    if source == "-":
        yield from sys.stdin.buffer
        return
    with Path(source).open("rb") as stream:
        yield from stream


def _path_of(line: bytes) -> str:
    """The path a line names: bare, or as ``{"file": path}`` like the lines of ``clawmail check message``."""
    import msgspec

    text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    if text.startswith("{"):
        try:
            return str(msgspec.json.decode(text.encode("utf-8", "replace"), type=dict[str, Any])["file"])
        except (msgspec.MsgspecError, KeyError) as error:
            raise ValueError('expected a path, or an object with "file"') from error
    if not text.strip():
        raise ValueError("the line is empty; expected a path")
    return text


def describe_file(path: str) -> Json:
    """The answer for one file; raises OSError or ValueError when it cannot be read."""
    from clawmail.protocol.headers import to_crlf

    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    return describe_message(to_crlf(raw))


def describe_message(raw: bytes) -> Json:
    """A message as JSON: the fields of ``ParsedMessage``, and ``bounce`` when it is one."""
    from clawmail.protocol.dsn import read_bounce
    from clawmail.protocol.mime.parse import parse_message

    message = parse_message(raw)
    answer: Json = {
        "subject": message.subject,
        "from": _mailbox(message.from_),
        "to": [_mailbox(box) for box in message.to],
        "cc": [_mailbox(box) for box in message.cc],
        "reply_to": [_mailbox(box) for box in message.reply_to],
        "date": message.date.isoformat() if message.date else None,
        "message_id": message.message_id,
        "in_reply_to": message.in_reply_to,
        "references": list(message.references),
        "text": message.text,
        "html": message.html,
        "attachments": [
            {
                "filename": part.filename,
                "content_type": part.content_type,
                "size": part.size,
                "content_id": part.content_id,
                "disposition": part.disposition,
                "sha256": part.sha256,
            }
            for part in message.attachments
        ],
    }
    if message.notes:
        answer["notes"] = list(message.notes)
    if (recipients := read_bounce(raw)) is not None:
        answer["bounce"] = [
            {
                "recipient": failed.recipient,
                "status": failed.status,
                "action": failed.action,
                "hard": failed.hard,
                "reason": failed.reason,
            }
            for failed in recipients
        ]
    return answer


def _mailbox(box: Mailbox | None) -> Json | None:
    return None if box is None else {"name": box.name, "address": box.address}


def _encode(answer: Json, *, indent: int) -> bytes:
    import msgspec

    encoded = msgspec.json.encode(answer)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return str(error)
