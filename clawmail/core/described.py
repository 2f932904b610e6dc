"""Attachments as they are described in the store and in the API; their bytes stay in the raw message."""

from __future__ import annotations

from typing import Any

from clawmail.protocol.mime.parse import ParsedMessage


def described(parsed: ParsedMessage) -> tuple[dict[str, Any], ...]:
    """One object for each attachment, in the order in which they are counted from 1."""
    return tuple(
        {
            "filename": attachment.filename,
            "content_type": attachment.content_type,
            "size": attachment.size,
            "content_id": attachment.content_id,
            "disposition": attachment.disposition,
            "sha256": attachment.sha256,
        }
        for attachment in parsed.attachments
    )
