"""Messages in ``tests/golden/mime`` and bounces in ``tests/golden/bounce``, each a folder with what must come out.

``message.eml`` is read octet for octet, ``odd.txt`` says what is odd about it, ``expected.json`` is the answer of
``clawmail parse``: all of it for a message, its ``bounce`` (or null) for a bounce.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawmail.cli.parse import describe_message
from clawmail.protocol.headers import to_crlf
from clawmail.protocol.mime.parse import attachment_content, attachment_contents, parse_message

GOLDEN = Path(__file__).parent.parent / "golden"
MESSAGES = sorted(folder for folder in (GOLDEN / "mime").iterdir() if (folder / "message.eml").exists())
BOUNCES = sorted(folder for folder in (GOLDEN / "bounce").iterdir() if (folder / "message.eml").exists())


@pytest.mark.parametrize("folder", MESSAGES, ids=lambda folder: folder.name)
def test_message(folder: Path) -> None:
    raw = (folder / "message.eml").read_bytes()
    assert (folder / "odd.txt").read_text().strip()
    assert describe_message(raw) == json.loads((folder / "expected.json").read_text())


@pytest.mark.parametrize("folder", MESSAGES, ids=lambda folder: folder.name)
def test_attachments_are_cut_out_as_described(folder: Path) -> None:
    import hashlib

    raw = (folder / "message.eml").read_bytes()
    attachments = parse_message(raw).attachments
    contents = list(attachment_contents(raw))
    assert contents == [attachment_content(raw, part.index) for part in attachments]
    assert [len(content) for content in contents] == [part.size for part in attachments]
    assert [hashlib.sha256(content).hexdigest() for content in contents] == [part.sha256 for part in attachments]
    assert attachment_content(raw, len(attachments)) is None
    assert attachment_content(raw, -1) is None


@pytest.mark.parametrize("folder", BOUNCES, ids=lambda folder: folder.name)
def test_bounce(folder: Path) -> None:
    raw = (folder / "message.eml").read_bytes()
    expected = json.loads((folder / "expected.json").read_text())
    assert describe_message(to_crlf(raw)).get("bounce") == expected
    assert describe_message(raw).get("bounce") == expected, "the same with LF line ends"


def test_there_are_enough() -> None:
    assert len(BOUNCES) >= 30
    assert len(MESSAGES) >= 30
