"""The mail routes of ``/api/v1``: what the holder of an inbox key does with that inbox's mail.

Each handler reads its call, asks one use-case, and shapes the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from aiohttp import web
from msgspec import UNSET

from clawmail.api import reading
from clawmail.api.errors import JSON_TYPE
from clawmail.api.native import mail_json, mail_shapes
from clawmail.api.native.addressing import id_in, inbox_of
from clawmail.api.native.mail_answers import (
    ArchivedAnswer,
    EmailListAnswer,
    FlagsAnswer,
    OpenedEmailAnswer,
    OpenedThreadAnswer,
    SentAnswer,
    ThreadListAnswer,
)
from clawmail.api.native.mail_requests import (
    ChangeBody,
    CursorQuery,
    ForwardBody,
    ListQuery,
    ReplyBody,
    SendBody,
    ShowQuery,
    check_sender,
    to_forward,
    to_mail,
)
from clawmail.api.native.streaming import streamed
from clawmail.api.routing import Call, Route, encoded_response, json_response
from clawmail.base.errors import Invalid
from clawmail.model.outgoing import Idempotency, Sent

IDEMPOTENCY_HEADER = "Idempotency-Key"
JSON_HEADERS = {"Content-Type": JSON_TYPE}

_encode = msgspec.json.Encoder().encode


async def list_emails(call: Call) -> EmailListAnswer | web.Response:
    """A page of the inbox, newest first."""
    query: ListQuery = call.query
    inbox_id, mailbox = inbox_of(call), call.services.mailbox
    read = None if query.is_read is None else query.is_read == "true"
    found = await mailbox.list(
        inbox_id, archived=query.is_archived == "true", read=read, page=query.page, limit=query.limit
    )
    if any(map(mail_json.is_large, found.emails)):
        rest = _encode({"total": found.total, "page": query.page, "limit": query.limit})
        emails = mail_json.email_list(found.emails, mailbox, inbox_id)
        return streamed(_object_with(b'{"emails":', emails, b"," + rest[1:]), JSON_HEADERS)
    return EmailListAnswer([mail_shapes.email(view) for view in found.emails], found.total, query.page, query.limit)


async def show_email(call: Call) -> OpenedEmailAnswer | web.Response:
    """One email with all that is known of it; it becomes read unless ``peek``."""
    query: ShowQuery = call.query
    opened = await call.services.mailbox.open(inbox_of(call), id_in(call), peek=query.peek == "true")
    if mail_json.is_large(opened.view):
        answer = mail_shapes.opened_email(opened, with_bodies=False)
        return streamed(mail_json.large_email(answer, opened.view), JSON_HEADERS)
    return mail_shapes.opened_email(opened)


async def change_email(call: Call) -> FlagsAnswer:
    """Marks an email read or unread, archived or not."""
    body: ChangeBody = call.body
    if body.is_read is UNSET and body.is_archived is UNSET:
        raise Invalid("is_read or is_archived is required")
    email_id = id_in(call)
    marks = await call.services.mailbox.change(
        inbox_of(call),
        email_id,
        is_read=None if body.is_read is UNSET else body.is_read,
        is_archived=None if body.is_archived is UNSET else body.is_archived,
    )
    return mail_shapes.flags(email_id, marks)


async def delete_email(call: Call) -> None:
    """Removes an email for good."""
    await call.services.mailbox.delete(inbox_of(call), id_in(call))


async def archive_email(call: Call) -> ArchivedAnswer:
    """Archives an email; doing it again changes nothing."""
    email_id = id_in(call)
    marks = await call.services.mailbox.change(inbox_of(call), email_id, is_archived=True)
    return ArchivedAnswer(email_id, marks.is_archived)


async def send_email(call: Call) -> web.Response:
    """Takes a new email over for sending."""
    body: SendBody = call.body
    check_sender(body.from_, call.principal.address)
    mail = to_mail(body)
    return await _once(call, lambda once: call.services.submitter.send(call.principal, mail, once))


async def reply_to_email(call: Call) -> web.Response:
    """Takes an answer to an email over for sending, in its thread."""
    body: ReplyBody = call.body
    check_sender(body.from_, call.principal.address)
    email_id, mail = id_in(call), to_mail(body)
    return await _once(call, lambda once: call.services.submitter.reply(call.principal, email_id, mail, once))


async def forward_email(call: Call) -> web.Response:
    """Sends an email on as a new one: its texts quoted, its files attached."""
    body: ForwardBody = call.body
    check_sender(body.from_, call.principal.address)
    email_id, mail = id_in(call), to_forward(body)
    return await _once(call, lambda once: call.services.submitter.forward(call.principal, email_id, mail, once))


async def _once(call: Call, work: Callable[[Idempotency | None], Awaitable[Sent]]) -> web.Response:
    """Does ``work`` once for each Idempotency-Key, and answers a repeated request as the first one."""
    status = call.route.status
    key = call.request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return json_response(mail_shapes.sent(await work(None)), status=status)
    # The path as it was asked, with the email's id: the same key on another email is another request.
    place = f"{call.route.method} {call.request.path}"
    digest = await _digest(call.raw_body)
    once = Idempotency(place, key, digest, status, lambda done: _encode(mail_shapes.sent(done)))
    async with call.services.once_only.request(inbox_of(call), once, call.now) as repeated:
        if repeated is not None:
            replayed = {"Idempotency-Replayed": "true"}
            return encoded_response(repeated.body, status=repeated.status, headers=replayed)
        return json_response(mail_shapes.sent(await work(once)), status=status)


async def _digest(body: bytes) -> bytes:
    large = len(body) > reading.THREAD_BYTES
    return await asyncio.to_thread(_sha256, body) if large else _sha256(body)


def _sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


async def list_threads(call: Call) -> ThreadListAnswer:
    """Conversations, the one with the newest email first."""
    query: CursorQuery = call.query
    page = await call.services.mailbox.threads(inbox_of(call), cursor=query.cursor, limit=query.limit)
    return ThreadListAnswer([mail_shapes.thread(view) for view in page.threads], page.next_cursor)


async def show_thread(call: Call) -> OpenedThreadAnswer | web.Response:
    """One conversation and its emails, oldest first."""
    query: CursorQuery = call.query
    inbox_id, mailbox = inbox_of(call), call.services.mailbox
    found = await mailbox.thread(inbox_id, id_in(call, "Thread"), cursor=query.cursor, limit=query.limit)
    if any(map(mail_json.is_large, found.emails)):
        outside = mail_shapes.thread(found.thread)
        rest = b',"next_cursor":' + _encode(found.next_cursor) + b"}"
        emails = mail_json.email_list(found.emails, mailbox, inbox_id)
        return streamed(_object_with(_encode(outside)[:-1] + b',"emails":', emails, rest), JSON_HEADERS)
    emails_shown = [mail_shapes.email(view) for view in found.emails]
    return mail_shapes.opened_thread(found.thread, emails_shown, found.next_cursor)


async def _object_with(before: bytes, emails: AsyncIterator[bytes], after: bytes) -> AsyncIterator[bytes]:
    yield before
    async for piece in emails:
        yield piece
    yield after


_ONCE = {IDEMPOTENCY_HEADER: "At most 256 characters, kept 24 h: the same key and body get the same answer again"}

ROUTES = (
    Route(
        "GET", "/api/v1/emails", list_emails, "List emails, newest first",
        auth="inbox", limiter="read", query=ListQuery, answer=EmailListAnswer,
    ),
    Route(
        "GET", "/api/v1/emails/{id}", show_email, "Read one email; it becomes read unless peek=true",
        auth="inbox", limiter="read", query=ShowQuery, answer=OpenedEmailAnswer,
    ),
    Route(
        "PATCH", "/api/v1/emails/{id}", change_email, "Mark an email read or unread, archived or not",
        auth="inbox", limiter="read", body=ChangeBody, answer=FlagsAnswer,
    ),
    Route(
        "DELETE", "/api/v1/emails/{id}", delete_email, "Remove an email for good",
        auth="inbox", limiter="read", status=204,
    ),
    Route(
        "POST", "/api/v1/emails/{id}/archive", archive_email, "Archive an email",
        auth="inbox", limiter="read", answer=ArchivedAnswer,
    ),
    Route(
        "POST", "/api/v1/emails/send", send_email, "Send an email",
        auth="inbox", limiter="send", body=SendBody, answer=SentAnswer, status=201, errors=(409, 413, 422),
        request_headers=_ONCE,
    ),
    Route(
        "POST", "/api/v1/emails/{id}/reply", reply_to_email, "Reply to an email, in its thread",
        auth="inbox", limiter="send", body=ReplyBody, answer=SentAnswer, status=201, errors=(409, 413, 422),
        request_headers=_ONCE,
    ),
    Route(
        "POST", "/api/v1/emails/{id}/forward", forward_email, "Send an email on, with its attachments",
        auth="inbox", limiter="send", body=ForwardBody, answer=SentAnswer, status=201, errors=(409, 413, 422),
        request_headers=_ONCE,
    ),
    Route(
        "GET", "/api/v1/threads", list_threads, "List threads, newest first",
        auth="inbox", limiter="read", query=CursorQuery, answer=ThreadListAnswer,
    ),
    Route(
        "GET", "/api/v1/threads/{id}", show_thread, "Read a thread, oldest email first",
        auth="inbox", limiter="read", query=CursorQuery, answer=OpenedThreadAnswer,
    ),
)  # fmt: skip
