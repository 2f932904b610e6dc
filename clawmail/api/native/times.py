"""Times as ``/api/v1`` shows them: UTC, ISO 8601 with Z, in whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def whole_seconds(moment: datetime) -> datetime:
    """``moment`` in UTC without a fraction of a second."""
    return moment.astimezone(UTC).replace(microsecond=0)


def seconds_or_none(moment: datetime | None) -> datetime | None:
    """``whole_seconds`` of a time that there may not be."""
    return None if moment is None else whole_seconds(moment)
