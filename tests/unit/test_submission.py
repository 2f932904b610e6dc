"""What a mail client hands in: finished, not rewritten; and who its authors are."""

from __future__ import annotations

from datetime import UTC, datetime

from clawmail.protocol.submission import authors_of, complete_submission, without_fields

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def test_a_missing_date_and_message_id_are_added_and_bcc_is_taken_out() -> None:
    raw = b"From: a@b.test\r\nBcc: secret@b.test,\r\n also@b.test\r\nSubject:  kept  as it is\r\n\r\nbody\r\n"
    done = complete_submission(raw, "b.test", NOW)
    assert done.endswith(b"From: a@b.test\r\nSubject:  kept  as it is\r\n\r\nbody\r\n")
    assert done.startswith(b"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <")
    assert b"secret" not in done
    assert b"also" not in done


def test_a_finished_message_is_not_touched() -> None:
    raw = b"date: x\r\nMESSAGE-ID: <1@b>\r\nFrom: a@b.test\r\n\r\n"
    assert complete_submission(raw, "b.test", NOW) is raw


def test_fields_are_taken_out_wherever_they_stand_and_the_body_stays() -> None:
    raw = b"X: 1\r\nFrom: a\r\nx: 2\r\n\r\nX: body\r\n"
    assert without_fields(raw, {b"x"}) == b"From: a\r\n\r\nX: body\r\n"
    assert without_fields(b"X: 1", {b"x"}) == b""


def test_every_author_of_every_from_counts() -> None:
    assert authors_of(b"From: A@b.test\r\n\r\n") == ["a@b.test"]
    assert authors_of(b"From: a@b.test, boss@b.test\r\n\r\n") == ["a@b.test", "boss@b.test"]
    assert authors_of(b"From: a@b.test\r\nFROM: boss@b.test\r\n\r\n") == ["a@b.test", "boss@b.test"]
    assert authors_of(b"Subject: none\r\n\r\n") == []
