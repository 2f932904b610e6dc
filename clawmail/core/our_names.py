"""Our names: those under which nobody but this server may say who judged a message.

They are the server's own name and ``mx.<domain>`` of every verified domain. A stranger's Authentication-Results that
bears one of them is forged (RFC 8601 section 5): it is taken out of what is shown and of what is sent on.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from clawmail.core.directory import Directory
from clawmail.protocol.authres import claimed_names, remove_forged
from clawmail.protocol.headers import RawMessage

#: octets of a header above which reading it moves to a thread; strangers write them to be costly.
CHEAP_HEADER_BYTES = 8 * 1024


class Honest(NamedTuple):
    """A message less every Authentication-Results that was forged."""

    raw: bytes
    #: those of our names that forged fields bear, or none of them; None when nothing had to go.
    forged: frozenset[str] | None


class OurNames:
    """Tells our names from other hosts'."""

    def __init__(self, directory: Directory, *, hostname: str, mx_label: str) -> None:
        """``mx_label`` is that of mx.<domain>."""
        self._directory = directory
        self._hostname = hostname.lower()
        self._mx_prefix = f"{mx_label.lower()}."

    async def honest(self, message: RawMessage) -> Honest:
        """What a stranger's message may be shown and sent on as."""
        cheap = message.body_start <= CHEAP_HEADER_BYTES
        claimed = claimed_names(message) if cheap else await asyncio.to_thread(claimed_names, message)
        ours = frozenset([name for name in claimed if await self._has(name)])
        # Asked for even if no name is ours: a field that hides whose it is goes in any case.
        raw = remove_forged(message, ours) if cheap else await asyncio.to_thread(remove_forged, message, ours)
        return Honest(raw, None if raw is message.raw else ours)

    async def _has(self, name: str) -> bool:
        if name == self._hostname:
            return True
        if not name.startswith(self._mx_prefix):
            return False
        domain = await self._directory.domain(name.removeprefix(self._mx_prefix))
        return domain is not None and domain.verified
