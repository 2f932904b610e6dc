"""Mail as JSON and as files: shapes, names, cursors, custom header fields."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.api.native import mail_json, mail_requests, mail_shapes
from clawmail.api.native.downloads import content_disposition
from clawmail.api.native.mail_answers import AuthenticationAnswer, EmailAnswer
from clawmail.base.errors import Invalid
from clawmail.base.ids import new_id
from clawmail.core.cursors import Cursors
from clawmail.core.custom_headers import RESERVED, check_custom_headers
from clawmail.core.downloads import entry_names
from clawmail.core.mailbox import LISTED_WEIGHT, Mailbox
from clawmail.model.mailbox import EmailView
from tests.support.mail import AUTHENTICATION

MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


def a_view(**changes: Any) -> EmailView:
    view = EmailView(
        id=new_id(),
        thread_id=new_id(),
        message_id="<m@other.test>",
        in_reply_to=None,
        direction="inbound",
        from_address="peer@other.test",
        envelope_from_address="",
        sender_warning=None,
        authentication=json.dumps(AUTHENTICATION),
        to_addresses=["agent@example.test"],
        cc_addresses=[],
        subject="hello",
        weight=0,
        body_text=None,
        body_html=None,
        attachments="[]",
        is_read=False,
        is_archived=False,
        received_at=MOMENT,
        created_at=MOMENT,
    )
    return view._replace(**changes)


def encoded(view: EmailView) -> Any:
    return json.loads(msgspec.json.encode(mail_shapes.email(view)))


class OneEmail(Mailbox):
    """A mailbox that knows nothing but one email, and that only once it is asked."""

    def __init__(self, view: EmailView | None) -> None:
        self.view = view

    async def whole(self, *_: object) -> EmailView | None:
        """What was given."""
        return self.view


def test_the_stores_json_is_the_answers_json() -> None:
    shown = encoded(a_view())["authentication_results"]
    assert shown == AUTHENTICATION
    assert msgspec.convert(shown, AuthenticationAnswer).dmarc.alignment.dkim.under_sized is False
    assert encoded(a_view(authentication=None))["authentication_results"] is None


def test_attachments_are_shown_by_name() -> None:
    described = [{"filename": name, "content_type": "x/y", "size": 1, "index": 0} for name in ("a.pdf", "ü")]
    shown = encoded(a_view(attachments=json.dumps(described)))
    assert (shown["attachments"], shown["has_attachments"]) == (["a.pdf", "ü"], True)


@given(TEXT, TEXT)
def test_whatever_text_there_is_comes_out_as_it_was(subject: str, body: str) -> None:
    shown = encoded(a_view(subject=subject, body_text=body))
    assert (shown["subject"], shown["body_text"]) == (subject, body)


async def listed(views: list[EmailView], mailbox: Mailbox) -> list[bytes]:
    return [piece async for piece in mail_json.email_list(views, mailbox, new_id())]


async def test_an_email_in_pieces_is_the_email_in_one() -> None:
    text = 'line "one" \\ \u2028 €😀\r\n' * 60_000
    for body_text, body_html in ((text, None), (None, text), (text, text), ("", "x")):
        whole = a_view(weight=LISTED_WEIGHT + 1, body_text=body_text, body_html=body_html)
        pieces = await listed([whole._replace(subject="", body_text=None), a_view(), whole], OneEmail(whole))
        assert max(map(len, pieces)) < len(text)
        first, second, third = json.loads(b"".join(pieces))
        assert first == third == encoded(whole)
        assert set(first) == set(second) == set(EmailAnswer.__struct_encode_fields__)


async def test_an_email_that_is_deleted_while_a_list_is_written_is_left_out() -> None:
    large, small = a_view(weight=LISTED_WEIGHT + 1), a_view()
    for views, shown in (([large], []), ([large, small, large], [small]), ([small, large, small], [small, small])):
        pieces = await listed(views, OneEmail(None))
        assert [email["id"] for email in json.loads(b"".join(pieces))] == [str(view.id) for view in shown]


def test_names_in_a_zip_are_base_names_and_each_is_there_once() -> None:
    assert entry_names(["a.txt", "a.txt", "a (2).txt", "a.txt"]) == ["a.txt", "a (2).txt", "a (2) (2).txt", "a (3).txt"]
    assert entry_names(["x.tar.gz", "x.tar.gz", "noext", "noext"]) == ["x.tar.gz", "x.tar (2).gz", "noext", "noext (2)"]
    assert entry_names(["../../etc/passwd", "C:\\boot.ini", "", "..", "a\x00b\n.c"]) == [
        "passwd", "boot.ini", "attachment", "attachment (2)", "ab.c",
    ]  # fmt: skip
    assert len(set(entry_names(["same.bin"] * 5000))) == 5000


@given(st.lists(st.one_of(st.sampled_from(["a", "a (2)", "A", ".a", "a/b", ""]), st.text(max_size=12)), max_size=20))
def test_no_name_escapes_or_repeats(filenames: list[str]) -> None:
    names = entry_names(filenames)
    assert len(names) == len(set(names)) == len(filenames)
    for name in names:
        assert name
        assert name not in (".", "..")
        assert not re.search(r"[/\\\x00-\x1f\x7f]", name)


def test_content_disposition_is_plain_where_it_can_be() -> None:
    assert content_disposition("report 1.pdf") == 'attachment; filename="report 1.pdf"'
    assert content_disposition("naïve.pdf") == "attachment; filename=\"na_ve.pdf\"; filename*=UTF-8''na%C3%AFve.pdf"
    # A percent sign in the plain name is taken for an escape by some browsers (RFC 6266 appendix D).
    assert content_disposition("100%.txt") == "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"


@given(st.text(min_size=1, max_size=60))
def test_content_disposition_cannot_be_broken_out_of(filename: str) -> None:
    header = content_disposition(filename)
    match = re.fullmatch(
        r"attachment; filename=\"([ -~]*)\"(?:; filename\*=UTF-8''([!#$&+.^_`|~0-9A-Za-z%-]*))?", header
    )
    assert match is not None
    assert '"' not in match[1]
    told = unquote(match[2]) if match[2] is not None else match[1]
    assert told == filename.encode("utf-8", "replace").decode()


def test_a_cursor_leads_only_back_to_its_own_list() -> None:
    cursors, owner, last = Cursors(b"k" * 32), new_id(), new_id()
    cursor = cursors.write("threads", owner, last)
    assert cursors.read("threads", owner, cursor) == last
    assert cursors.read("threads", owner, None) is None
    assert re.fullmatch(r"[\w-]+", cursor), "it needs no escaping in a query string"
    for name, whose, by in (
        ("events", owner, cursors),
        ("threads", new_id(), cursors),
        ("threads", owner, Cursors(b"")),
    ):
        with pytest.raises(Invalid):
            by.read(name, whose, cursor)


@given(st.one_of(st.text(max_size=40), st.binary(max_size=30).map(lambda octets: octets.hex())))
def test_a_cursor_made_up_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        Cursors(b"k" * 32).read("threads", new_id(), cursor)


def test_custom_headers_of_the_server_are_refused_by_name() -> None:
    assert check_custom_headers([("X-A", "b"), ("References", "<a@b>")]) == (("X-A", "b"), ("References", "<a@b>"))
    for name in (*RESERVED, "ARC-Seal", "content-type", "Content-", "CC"):
        with pytest.raises(Invalid, match=re.escape(name)):
            check_custom_headers([(name, "x")])


@pytest.mark.parametrize(
    "header",
    [("X A", "b"), ("X:A", "b"), ("", "b"), ("Ü", "b"), ("X-A\r\nY", "b"), ("X-A", "b\nc"), ("X-A", "b\rc"),
     ("X-A", "\0"), ("X-A", "b\u2028c"), ("X-A", "b\x85c"), ("X-A", "b" * 9000), ("X" * 101, "b")],
)  # fmt: skip
def test_custom_headers_are_one_line_each(header: tuple[str, str]) -> None:
    with pytest.raises(Invalid, match="headers"):
        check_custom_headers([header])
    with pytest.raises(Invalid, match="at most"):
        check_custom_headers([("X-A", "b")] * 51)


@given(st.text(max_size=20), st.text(max_size=40))
def test_no_custom_header_makes_a_second_one(name: str, value: str) -> None:
    try:
        ((kept_name, kept_value),) = check_custom_headers([(name, value)])
    except Invalid:
        return
    assert len(f"{kept_name}: {kept_value}".splitlines()) == 1
    assert kept_name.isascii()
    assert ":" not in kept_name


def test_only_the_inbox_itself_may_be_named_as_sender() -> None:
    mail_requests.check_sender(None, "agent@example.test")
    mail_requests.check_sender("AGENT@example.test", "agent@example.test")
    others: tuple[Any, ...] = (
        "boss@example.test",
        "Boss <agent@example.test>",
        "",
        ["agent@example.test"],
        0,
        False,
        {},
    )
    for other in others:
        with pytest.raises(Invalid, match="from"):
            mail_requests.check_sender(other, "agent@example.test")
