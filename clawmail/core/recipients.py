"""Recipients of what a caller sends: read, checked, counted, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clawmail.base.errors import Invalid
from clawmail.model.outgoing import OutgoingMail
from clawmail.protocol.address import Address, Mailbox, parse_address, parse_mailboxes

#: longest text of one entry of to, cc or bcc, in characters.
MAX_ENTRY_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who gets a mail, and who is shown as getting it."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    bcc: tuple[Mailbox, ...]
    #: everybody once, in order of appearance.
    addresses: tuple[Address, ...]

    @classmethod
    def of_mail(cls, mail: OutgoingMail, *, limit: int) -> Recipients:
        """The recipients of ``mail``. Raises Invalid, naming field and entry, also for none or too many."""
        to, cc, bcc = (mailboxes(getattr(mail, name), name) for name in ("to", "cc", "bcc"))
        if not to and not cc and not bcc:
            raise Invalid("to is required: at least one email address", field="to")
        return cls(to, cc, bcc, _once([*to, *cc, *bcc], limit))

    @classmethod
    def of_envelope(cls, addresses: Sequence[str], *, limit: int) -> Recipients:
        """The recipients of an SMTP envelope; the message itself says who is shown."""
        return cls((), (), (), _once([one_mailbox(address) for address in addresses], limit))


def mailboxes(entries: Iterable[str], field: str) -> tuple[Mailbox, ...]:
    """``Name <address>`` or plain addresses as mailboxes. Raises Invalid naming the field and the wrong entry."""
    found: list[Mailbox] = []
    for entry in entries:
        # A line end inside an address is somebody's try to begin a header field of his own.
        one_line = len(entry) <= MAX_ENTRY_LENGTH and not {"\r", "\n"} & set(entry)
        boxes = parse_mailboxes(entry) if one_line else []
        checked = [(box, parse_address(box.address)) for box in boxes]
        if not checked or any(address is None for _, address in checked):
            raise Invalid(f"{field}: {entry[:200]!r} is not an email address", field=field)
        found += [Mailbox(box.name, str(address)) for box, address in checked]
    return tuple(found)


def one_mailbox(address: str) -> Mailbox:
    """A bare address as a mailbox without a name."""
    return Mailbox("", address)


def _once(boxes: Iterable[Mailbox], limit: int) -> tuple[Address, ...]:
    addresses: dict[str, Address] = {}
    for box in boxes:
        address = parse_address(box.address)
        if address is None:
            raise Invalid(f"{box.address[:200]!r} is not an email address", field="to")
        addresses.setdefault(str(address).lower(), address)
    if len(addresses) > limit:
        raise Invalid(f"at most {limit} recipients in all of to, cc and bcc", field="to")
    return tuple(addresses.values())
