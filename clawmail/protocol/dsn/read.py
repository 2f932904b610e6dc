"""Bounces that come in (RFC 3464 section 2, RFC 6533), whoever wrote them.

A report with a ``message/delivery-status`` part is read by the standard. Everything else that a mail system sent back
is handed to ``habits``. What is no bounce: complaints (RFC 5965), read receipts, vacation replies, and reports that say
``delivered``, ``relayed`` or ``expanded``. A ``delayed`` one is: it is soft, and its action says that more may come.
"""

from __future__ import annotations

import re

from ..mime.bodies import body_text, sort_parts
from ..mime.charset import clean
from ..mime.mailboxes import parse_mailboxes
from ..mime.structure import Part, Structure, read_structure
from ..mime.transfer import decode_transfer
from ..mime.words import header_text
from .habits import read_by_habit, read_unnamed, reasons_in
from .origin import READ_FIELDS, from_a_mail_system
from .status import MAX_RECIPIENTS, BounceRecipient, find_status, is_hard, meaning, one_line, status_of

#: octets of a delivery-status part, and characters of a text, that are looked at.
MAX_STATUS_OCTETS = 256 * 1024
MAX_TEXT_CHARS = 64 * 1024


_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
#: reports that are something else (RFC 5965, RFC 8098).
_OTHER_REPORTS = (
    "message/feedback-report",
    "message/disposition-notification",
    "message/global-disposition-notification",
)
_NO_FAILURE = ("delivered", "relayed", "expanded")
_FINAL_RECIPIENT = re.compile(r"^final-recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
_GROUPS = re.compile(rb"(?:\r?\n[ \t]*){2,}+")
_FIELD = re.compile(rb"^([A-Za-z][A-Za-z-]*+)[ \t]*+:((?>[^\n]*\n[ \t])*+[^\n]*+)", re.MULTILINE)
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")  # utf-8-addr-xtext (RFC 6533 section 3)


def read_bounce(raw: bytes) -> tuple[BounceRecipient, ...] | None:
    """The recipients of a bounce, or None when ``raw`` is not one. Never raises; linear in the message."""
    structure = read_structure(raw)
    leaves = list(_leaves(structure.root))
    types = {part.content_type for part in leaves}
    report_type = structure.root.parameters.get("report-type", "").lower()
    if types & set(_OTHER_REPORTS) or report_type in ("feedback-report", "disposition-notification"):
        return None
    for part in leaves:
        if part.content_type in _STATUS_TYPES:
            groups = _groups(decode_transfer(raw[part.start : part.end], part.encoding)[:MAX_STATUS_OCTETS])
            # Where a group gives no diagnostic, the text for people may.
            told = {} if all("diagnostic-code" in group for group in groups[1:]) else reasons_in(_text(raw, structure))
            if (failed := _failed(groups, told)) is not None:
                return failed or None
    fields = _fields(structure)
    calls_itself_one = report_type == "delivery-status" or bool(types & set(_STATUS_TYPES))
    if not calls_itself_one and not from_a_mail_system(fields):
        return None
    text = _text(raw, structure)
    # Some write the fields of a status part into the text, or lose the header that made them one.
    if _FINAL_RECIPIENT.search(text) and (failed := _failed(_groups(text.encode()), reasons_in(text))) is not None:
        return failed or None
    return read_by_habit(fields, text)


def read_unnamed_bounce(raw: bytes) -> BounceRecipient | None:
    """The failure in a bounce that ``read_bounce`` finds none in because it names nobody; its recipient is "".

    For bounces that came to an address made for one recipient. None where no mail system wrote it or no server's
    refusal is quoted: then it may be a notice of absence, or of success. Never raises; linear in the message.
    """
    structure = read_structure(raw)
    fields = _fields(structure)
    types = {part.content_type for part in _leaves(structure.root)}
    if types & {*_STATUS_TYPES, *_OTHER_REPORTS} or not from_a_mail_system(fields):
        return None
    return read_unnamed(fields, _text(raw, structure))


def _failed(groups: list[dict[str, bytes]], told: dict[str, str]) -> tuple[BounceRecipient, ...] | None:
    """The recipients that did not get the message; None when the groups name none at all."""
    recipients = [found for group in groups if (found := _recipient(group, told))]
    failed = tuple(found for found in recipients[:MAX_RECIPIENTS] if found.action not in _NO_FAILURE)
    return failed if recipients else None


def _leaves(root: Part) -> list[Part]:
    found, waiting = [], [root]
    while waiting:
        part = waiting.pop()
        if part.children:
            waiting.extend(reversed(part.children))
        else:
            found.append(part)
    return found


def _groups(octets: bytes) -> list[dict[str, bytes]]:
    """The field groups of a delivery-status part: of the message, then of each recipient (RFC 3464 section 2.1)."""
    groups = []
    for block in _GROUPS.split(octets):
        fields: dict[str, bytes] = {}
        for name, value in _FIELD.findall(block):
            key = name.decode("ascii").lower()
            if key == "final-recipient" and key in fields:  # the blank line between two recipients was forgotten
                groups.append(fields)
                fields = {}
            fields.setdefault(key, value)
        groups.append(fields)
    return groups


def _recipient(fields: dict[str, bytes], told: dict[str, str]) -> BounceRecipient | None:
    address = ""
    for name in ("original-recipient", "final-recipient", "x-actual-recipient"):
        if name in fields and (address := _typed_address(fields[name])):
            break
    if not address:
        return None
    diagnostic = header_text(fields.get("diagnostic-code", b"")) or told.get(address, "")
    reason = one_line(re.sub(r"^[\w-]+\s*;\s*", "", diagnostic))
    status = find_status(header_text(fields.get("status", b""))) or status_of(reason)
    words = header_text(fields.get("action", b"")).lower().split()
    # An action misspelt or left out: the status tells (RFC 3463 section 2).
    action = words[0].strip("();,") if words else ""
    if action not in ("failed", "delayed", *_NO_FAILURE):
        action = {"2": "delivered", "4": "delayed"}.get(status[0], "failed")
    hard = action == "failed" and is_hard(status, reason)
    return BounceRecipient(address, status, action, hard, reason or meaning(status))


def _typed_address(value: bytes) -> str:
    # final-recipient-field = "Final-Recipient" ":" address-type ";" generic-address      (RFC 3464 section 2.3.2)
    kind, semicolon, address = header_text(value).partition(";")
    if not semicolon:
        kind, address = "rfc822", kind
    address = address.strip()
    if kind.strip().lower() == "utf-8":
        address = _ESCAPED.sub(lambda escaped: _character(escaped[1]), address)
    if address.startswith("<") and ">" in address:
        address = address[1 : address.index(">")]
    return clean(address.strip())


def _character(digits: str) -> str:
    point = int(digits, 16)
    return chr(point) if point <= 0x10FFFF else "\ufffd"


def _fields(structure: Structure) -> dict[str, str]:
    """``READ_FIELDS`` by name, first of equal ones; From parted into its bare address and ``from-name``."""
    fields: dict[str, str] = {}
    for name, value in structure.root.fields:
        key = name.decode("ascii").lower()
        if key in READ_FIELDS and key not in fields:
            fields[key] = header_text(value[:MAX_STATUS_OCTETS])
    boxes = parse_mailboxes(fields.get("from", ""))
    fields["from"], fields["from-name"] = (boxes[0].address, boxes[0].name) if boxes else ("", "")
    return fields


def _text(raw: bytes, structure: Structure) -> str:
    bodies, _ = sort_parts(structure)
    texts = [body_text(raw, part) for part in bodies if part.content_type != "text/html"]
    if not texts:  # some systems write nothing but HTML
        texts = [re.sub(r"<[^<>]{0,400}>", "\n", body_text(raw, part)[: 2 * MAX_TEXT_CHARS]) for part in bodies]
    return "\n".join(texts)[:MAX_TEXT_CHARS]
