"""All routes of the native API and of the server itself, in one table that also describes itself."""

from __future__ import annotations

from clawmail.api import pages, public
from clawmail.api.native import accounts, downloads, journal, mail, webhooks
from clawmail.api.openapi import with_description

ROUTES = with_description(
    (
        *public.ROUTES,
        *pages.ROUTES,
        *accounts.ROUTES,
        *mail.ROUTES,
        *downloads.ROUTES,
        *journal.ROUTES,
        *webhooks.ROUTES,
    )
)
