"""Webhooks of ``/api/v1``: where an owner is told of events, and what became of each."""

from __future__ import annotations

from uuid import UUID

from clawmail.api.native import webhook_shapes as shapes
from clawmail.api.native.addressing import id_in
from clawmail.api.native.mail_requests import CursorQuery
from clawmail.api.routing import Call, Route
from clawmail.base.errors import NotFound
from clawmail.base.ids import as_uuid


def _webhook(call: Call) -> UUID:
    return id_in(call, "Webhook")


async def create_webhook(call: Call) -> shapes.WebhookWithSecret:
    """POST /webhooks"""
    wanted: shapes.CreateWebhook = call.body
    made = await call.services.webhooks.add(call.principal, wanted.url, wanted.events, call.now, inbox=wanted.inbox)
    return shapes.WebhookWithSecret.made(made)


async def list_webhooks(call: Call) -> shapes.WebhookList:
    """GET /webhooks"""
    return shapes.WebhookList([shapes.WebhookInfo.of(one) for one in await call.services.webhooks.all(call.principal)])


async def get_webhook(call: Call) -> shapes.WebhookInfo:
    """GET /webhooks/{id}"""
    return shapes.WebhookInfo.of(await call.services.webhooks.get(call.principal, _webhook(call)))


async def change_webhook(call: Call) -> shapes.WebhookInfo:
    """PATCH /webhooks/{id}"""
    wanted: shapes.ChangeWebhook = call.body
    changed = await call.services.webhooks.change(
        call.principal,
        _webhook(call),
        call.now,
        url=wanted.url,
        event_types=wanted.events,
        active=wanted.is_active,
    )
    return shapes.WebhookInfo.of(changed)


async def delete_webhook(call: Call) -> None:
    """DELETE /webhooks/{id}"""
    await call.services.webhooks.remove(call.principal, _webhook(call), call.now)


async def rotate_webhook_secret(call: Call) -> shapes.WebhookWithSecret:
    """POST /webhooks/{id}/rotate"""
    return shapes.WebhookWithSecret.made(await call.services.webhooks.rotate(call.principal, _webhook(call), call.now))


async def check_webhook(call: Call) -> shapes.WebhookTest:
    """POST /webhooks/{id}/test"""
    return shapes.WebhookTest.of(await call.services.webhooks.test(call.principal, _webhook(call), call.now))


async def list_webhook_deliveries(call: Call) -> shapes.WebhookDeliveryList:
    """GET /webhooks/{id}/deliveries"""
    query: CursorQuery = call.query
    page = await call.services.webhooks.deliveries(
        call.principal, _webhook(call), cursor=query.cursor, limit=query.limit
    )
    return shapes.WebhookDeliveryList([shapes.WebhookDeliveryInfo.of(one) for one in page.deliveries], page.next_cursor)


async def retry_webhook_delivery(call: Call) -> shapes.WebhookDeliveryInfo:
    """POST /webhooks/{id}/deliveries/{event}/retry"""
    event_id = as_uuid(call.path["event"])
    if event_id is None:
        raise NotFound("Delivery not found")
    return shapes.WebhookDeliveryInfo.of(
        await call.services.webhooks.retry(call.principal, _webhook(call), event_id, call.now)
    )


ROUTES = (
    Route(
        "POST", "/api/v1/webhooks", create_webhook, "Have events of the inbox or domain posted to an address",
        auth="inbox or domain", limiter="read", body=shapes.CreateWebhook, answer=shapes.WebhookWithSecret,
        status=201, errors=(404, 409),
    ),
    Route(
        "GET", "/api/v1/webhooks", list_webhooks, "List webhooks",
        auth="inbox or domain", limiter="read", answer=shapes.WebhookList,
    ),
    Route(
        "GET", "/api/v1/webhooks/{id}", get_webhook, "One webhook",
        auth="inbox or domain", limiter="read", answer=shapes.WebhookInfo,
    ),
    Route(
        "PATCH", "/api/v1/webhooks/{id}", change_webhook, "Change a webhook, or switch it off and on",
        auth="inbox or domain", limiter="read", body=shapes.ChangeWebhook, answer=shapes.WebhookInfo,
    ),
    Route(
        "DELETE", "/api/v1/webhooks/{id}", delete_webhook, "Remove a webhook; it is told nothing more",
        auth="inbox or domain", limiter="read", status=204,
    ),
    Route(
        "POST", "/api/v1/webhooks/{id}/rotate", rotate_webhook_secret,
        "A new secret; for a day the one before signs too",
        auth="inbox or domain", limiter="read", answer=shapes.WebhookWithSecret, status=201,
    ),
    Route(
        "POST", "/api/v1/webhooks/{id}/test", check_webhook, "Post a test event now; what the endpoint answered",
        auth="inbox or domain", limiter="send", answer=shapes.WebhookTest,
    ),
    Route(
        "GET", "/api/v1/webhooks/{id}/deliveries", list_webhook_deliveries,
        "What became of a webhook's events, newest first",
        auth="inbox or domain", limiter="read", query=CursorQuery, answer=shapes.WebhookDeliveryList,
    ),
    Route(
        "POST", "/api/v1/webhooks/{id}/deliveries/{event}/retry", retry_webhook_delivery,
        "Tell a webhook of an event once more",
        auth="inbox or domain", limiter="read", answer=shapes.WebhookDeliveryInfo,
    ),
)  # fmt: skip
