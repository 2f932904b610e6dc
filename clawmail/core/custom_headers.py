"""Header fields that a caller may add to a mail of his own.

What says who sent a mail, to whom, when and in what form is the server's to write, and so are the fields by which
others vouch for it; a caller who could set them could pretend. A field name is what RFC 5322 section 2.2 allows, and a
value is one line: a CR or LF in it would begin a field of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from clawmail.base.errors import Invalid

#: custom fields of one mail, and octets of one of them.
MAX_FIELDS = 50
MAX_FIELD_OCTETS = 8 * 1024

#: written by the server alone, in lower case.
RESERVED = frozenset(
    {"from", "sender", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version"}
    | {"received", "return-path", "dkim-signature", "authentication-results"}
)
RESERVED_PREFIXES = ("arc-", "content-")

# RFC 5322 section 3.6.8: field-name = 1*ftext
_NAME = re.compile(r"[!-9;-~]{1,100}")
_NOT_ONE_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")


def check_custom_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """``headers`` (name, value) as they may be sent. Raises Invalid, naming the one that may not."""
    checked = tuple(headers)
    if len(checked) > MAX_FIELDS:
        raise Invalid(f"headers: at most {MAX_FIELDS} can be added", field="headers")
    for name, value in checked:
        if not _NAME.fullmatch(name):
            raise Invalid(f"headers: {name[:100]!r} is not a header name", field="headers")
        if name.lower() in RESERVED or name.lower().startswith(RESERVED_PREFIXES):
            raise Invalid(f"headers: {name} is set by the server and cannot be given", field="headers")
        if _NOT_ONE_LINE.search(value):
            raise Invalid(f"headers: the value of {name} has to be one line of text", field="headers")
        if len(name) + len(value.encode()) > MAX_FIELD_OCTETS:
            raise Invalid(f"headers: {name} is longer than {MAX_FIELD_OCTETS} bytes", field="headers")
    return checked
