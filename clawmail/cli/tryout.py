"""What ``clawmail dev`` adds to a server: loopback addresses, a trusted domain, an inbox, a key, and lines to paste."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clawmail.base.errors import Conflict
from clawmail.config import ConfigError, load

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.running import App

DOMAIN = "clawmail.test"
ADDRESS = f"agent@{DOMAIN}"
SMTP = "127.0.0.1:2525"
API = "127.0.0.1:3000"
#: label of the keys made here; the one of the last time is revoked.
LABEL = "dev"
REPLACED = "The key below is new; that of the last start works no more.\n"


def settings(data_dir: str) -> Settings:
    """Settings of a server to try things out; the environment still beats them."""
    defaults = {
        "CLAWMAIL_SERVER_APP_DOMAIN": DOMAIN,
        "CLAWMAIL_SERVER_DATA_DIR": data_dir,
        "CLAWMAIL_SMTP_LISTEN": SMTP,
        "CLAWMAIL_API_LISTEN": API,
        # Trying things out means doing them often.
        "CLAWMAIL_LIMITS_ENABLED": "false",
        # What is told of mail listens on this machine, too.
        "CLAWMAIL_WEBHOOKS_ALLOW_PRIVATE": "true",
    }
    try:
        return load(Path(os.devnull), {**defaults, **os.environ})
    except ConfigError as error:
        raise click.ClickException("the environment is wrong:\n  " + "\n  ".join(error.problems)) from None


async def introduce(app: App) -> None:
    """Makes the domain, the inbox and a fresh key, and prints what to paste."""
    now = datetime.now(UTC)
    domains, inboxes = app.services.domains, app.services.inboxes
    with contextlib.suppress(Conflict):  # it is there since the last time
        await domains.add_trusted(DOMAIN, now)
    owner = await domains.owner(DOMAIN)
    old_keys = [key for key in await inboxes.list_keys(owner) if key.label == LABEL and key.revoked_at is None]
    for old in old_keys:
        await inboxes.revoke_inbox_key(owner, str(old.id), now)
    made = await inboxes.new_inbox_key(owner, ADDRESS, LABEL, now)
    text = lines(app.door.addresses[0], app.api.addresses[0], made.text, app.settings.server.data_dir, bool(old_keys))
    click.echo(text)


def lines(smtp: tuple[str, int], api: tuple[str, int], key: str, data_dir: str, replaced: bool) -> str:
    """The text that greets whoever tries Clawmail. ``replaced``: an earlier key works no more."""
    base, bearer = f"http://{api[0]}:{api[1]}", f"Authorization: Bearer {ADDRESS}:{key}"
    hello = rf"printf 'From: friend@example.net\nTo: {ADDRESS}\nSubject: Hello\n\nHi there\n'"
    return f"""
Clawmail is ready. One inbox, {ADDRESS}, on a trusted domain. Ctrl-C stops everything; {data_dir} keeps the mail.
{REPLACED if replaced else ""}
# send it a mail, as the world would
swaks --server {smtp[0]}:{smtp[1]} --from friend@example.net --to {ADDRESS} --header 'Subject: Hello' --body 'Hi there'

# the same without swaks
{hello} | curl -s --crlf smtp://{smtp[0]}:{smtp[1]} --mail-from friend@example.net --mail-rcpt {ADDRESS} -T -

# read it
curl -s '{base}/api/v1/emails' -H '{bearer}'

# send one, here to itself
curl -s '{base}/api/v1/emails/send' -H '{bearer}' -H 'Content-Type: application/json' \\
  -d '{{"to": "{ADDRESS}", "subject": "Note to self", "text": "It works."}}'

# what happened to it
curl -s '{base}/api/v1/events' -H '{bearer}'

# be told of mail by a POST to a program of yours, here one on port 8000: see docs/webhooks.md
curl -s '{base}/api/v1/webhooks' -H '{bearer}' -H 'Content-Type: application/json' \\
  -d '{{"url": "http://127.0.0.1:8000/hook"}}'

The API in full: {base}/api.md. For an agent: {base}/skills.md.
"""
