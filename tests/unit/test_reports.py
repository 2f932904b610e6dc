"""Complaints (RFC 5965)."""

from __future__ import annotations

from datetime import UTC, datetime

from clawmail.protocol.reports import Complaint, read_complaint

REPORT = b"""From: feedback@provider.example\r
Subject: FW: hello\r
Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
This is an email abuse report.\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: Abuse\r
User-Agent: SomeGenerator/1.0\r
Version: 1\r
Original-Mail-From: <bounce+1.x@ours.example>\r
Original-Rcpt-To: <bob@provider.example>\r
Arrival-Date: Thu, 8 Mar 2026 14:00:00 EDT\r
Source-IP: 192.0.2.1\r
\r
--b\r
Content-Type: message/rfc822\r
\r
From: ann@ours.example\r
To: hidden@provider.example\r
Message-ID: <8787@ours.example>\r
\r
Buy now\r
--b--\r
"""


def test_a_complaint() -> None:
    assert read_complaint(REPORT) == Complaint(
        feedback_type="abuse",
        recipients=("bob@provider.example",),
        message_id="<8787@ours.example>",
        mail_from="bounce+1.x@ours.example",
        arrived=datetime(2026, 3, 8, 18, tzinfo=UTC),
        source_ip="192.0.2.1",
        user_agent="SomeGenerator/1.0",
    )


def test_the_returned_copy_tells_what_the_report_does_not() -> None:
    raw = REPORT.replace(b"Original-Rcpt-To: <bob@provider.example>\r\n", b"").replace(b"rfc822\r\n", b"rfc822\r\n", 1)
    complaint = read_complaint(raw)
    assert complaint is not None
    assert complaint.recipients == ("hidden@provider.example",)
    assert complaint.mail_from == "bounce+1.x@ours.example"
    raw = REPORT.replace(b"Original-Mail-From: <bounce+1.x@ours.example>\r\n", b"")
    complaint = read_complaint(raw.replace(b"From: ann", b"Return-Path: <bounce+2.x@ours.example>\r\nFrom: ann"))
    assert complaint is not None and complaint.mail_from == "bounce+2.x@ours.example"
    headers_only = read_complaint(REPORT.replace(b"message/rfc822", b"text/rfc822-headers"))
    assert headers_only is not None
    assert headers_only.message_id == "<8787@ours.example>"


def test_a_bare_report_is_one_all_the_same() -> None:
    raw = b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n--b--"
    complaint = read_complaint(raw)
    assert complaint is not None
    assert (complaint.feedback_type, complaint.recipients, complaint.message_id) == ("other", (), None)


def test_other_mail_is_no_complaint() -> None:
    assert read_complaint(b"") is None
    assert read_complaint(b"Subject: abuse\r\n\r\nFeedback-Type: abuse\r\n") is None
