"""Delivery status notifications: the bounces we write and the bounces we read (RFC 3464, 3461, 3463, 6522, 6533)."""

from .read import read_bounce, read_unnamed_bounce
from .status import BounceRecipient, is_hard
from .write import DsnRecipient, DsnRequest, write_dsn

__all__ = [
    "BounceRecipient",
    "DsnRecipient",
    "DsnRequest",
    "is_hard",
    "read_bounce",
    "read_unnamed_bounce",
    "write_dsn",
]
