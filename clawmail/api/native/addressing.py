"""What a mail route is about: whose inbox, which email.

Ids in a path are a stranger's text. One that is no UUID names nothing that exists, so it is answered like one of
another tenant: not found.
"""

from __future__ import annotations

from uuid import UUID

from clawmail.api.routing import Call
from clawmail.base.errors import NotFound, Unauthenticated


def inbox_of(call: Call) -> UUID:
    """The inbox whose key was shown."""
    inbox_id = call.principal.inbox_id
    if inbox_id is None:
        raise Unauthenticated("An inbox key is needed")
    return inbox_id


def id_in(call: Call, what: str = "Email") -> UUID:
    """The ``{id}`` of the path, in its canonical form (RFC 9562 section 4). Raises NotFound for anything else."""
    text = call.path["id"]
    try:
        identifier = UUID(text)
    except ValueError:
        raise NotFound(f"{what} not found") from None
    if str(identifier) != text.lower():  # braces, urn: and missing hyphens, which Python would take
        raise NotFound(f"{what} not found")
    return identifier
