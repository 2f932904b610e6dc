"""Message files and mbox entries: what is put in comes out, octet by octet; what is strange is taken as it is."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.core.archive.entry import Facts, Kept, message_file, read_message_file
from clawmail.protocol.mbox import Entry, entry_bytes, read_entries
from tests.support import mail

OCTETS = st.lists(
    st.sampled_from(
        [b"From ", b">", b"\n", b"\r\n", b"\r", b"a", b" ", b":", b"From a@b Thu Jan  1 00:00:00 2026\n", b"\xff"]
    )
).map(b"".join)


@given(st.lists(OCTETS, max_size=4), st.booleans())
@settings(max_examples=150)
def test_any_octets_survive_an_mbox(messages: list[bytes], read: bool) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    status = b"Status: RO\r\n" if read else b""
    kept = [
        Kept(
            received_at=moment,
            trace=b"Return-Path: <>\r\n",
            raw=raw,
            envelope_from="a b",
            is_archived=True,
            is_read=read,
        )
        for raw in messages
    ]
    text = b"".join(entry_bytes(Entry("a b", moment, message_file(one, status=status))) for one in kept)
    entries = list(read_entries(io.BytesIO(text)))
    fallback = Facts(is_read=read)
    assert [read_message_file(entry.content, fallback, has_folders=False) for entry in entries] == kept


@given(st.text(), st.lists(st.text(max_size=200), max_size=5))
@settings(max_examples=100)
def test_any_fact_survives_its_field(sender: str, bcc: list[str]) -> None:
    kept = Kept(raw=b"x", envelope_from=sender, bcc=tuple(bcc), authentication={"comment": sender * 9})
    assert read_message_file(message_file(kept), Facts(), has_folders=True) == kept
    assert max(len(line) for line in message_file(Kept(raw=b"", envelope_from="word " * 400)).split(b"\r\n")) <= 78


def test_a_file_whose_line_ends_were_changed_is_ours_all_the_same() -> None:
    kept = Kept(raw=mail.plain("x", "one\r\ntwo"), trace=b"Received: by x\r\n", envelope_from="a@b.test")
    unix = message_file(kept).replace(b"\r\n", b"\n")
    assert read_message_file(unix, Facts(), has_folders=True).raw == kept.raw


def test_a_file_that_was_changed_is_taken_as_it_shows_itself() -> None:
    kept = Kept(raw=mail.plain("x", "one"), direction="outbound", envelope_from="a@b.test")
    changed = read_message_file(message_file(kept).replace(b"one", b"two"), Facts(), has_folders=True)
    assert (changed.direction, changed.raw) == ("inbound", kept.raw.replace(b"one", b"two"))


def test_an_mbox_date_is_read_with_a_zone_or_without() -> None:
    for date in ("Wed Mar  1 10:11:12 2023", "Wed Mar 01 10:11 2023", "Wed Mar  1 10:11:12 +0000 2023"):
        (entry,) = read_entries(io.BytesIO(f"From a@b {date}\nSubject: x\n\nbody\n".encode()))
        assert entry.moment is not None
        assert entry.moment.date().isoformat() == "2023-03-01"
    (entry,) = read_entries(io.BytesIO(b"From - Wed Feb 31 10:11:12 2023\n\n\n"))
    assert (entry.moment, entry.sender) == (None, "-")
