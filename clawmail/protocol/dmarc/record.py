"""A DMARC Policy Record: what a domain owner asks of those who receive mail in its name (RFC 9989 section 4.7).

It is one TXT record at ``_dmarc.<domain>``, a list of ``tag=value`` pairs parted by semicolons:
``v=DMARC1; p=reject; sp=quarantine; rua=mailto:reports@example.org``. Only the version decides whether it is a DMARC
record at all. Everything behind it is read kindly (section 4.8): unknown tags and the removed ``pct``, ``ri`` and
``rf`` are ignored, a value that is not one of the known words falls back to the tag's default. Policies are the
exception, because a misspelled ``reject`` must not silently become something else: section 4.10.1 turns such a record
into ``p=none`` if it asks for reports, and into no record at all if it does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

Policy = Literal["none", "quarantine", "reject"]

#: tags read from one record; what stands behind them is ignored.
MAX_TAGS = 100
#: report addresses kept of one record.
MAX_REPORT_URIS = 20
#: octets; longer records are read, but not remembered.
MAX_CACHED_RECORD = 1024
#: parsed records remembered.
CACHED_RECORDS = 4096

# dmarc-version = "v" equals %s"DMARC1" ; the value is case sensitive, the name of the tag is not (RFC 5234 2.3)
_VERSION = re.compile(rb"[ \t]*[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
# dmarc-tag = 1*ALPHA equals 1*dmarc-value ; printing characters but the semicolon. A value may be empty here, so
# that "sp=" is seen to be present and wrong.
_TAG = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([\x20-\x3A\x3C-\x7E]*?)[ \t]*\Z")
# obs-dmarc-uri = dmarc-uri "!" 1*DIGIT [ "k" / "m" / "g" / "t" ] ; the size is to be ignored
_REPORT_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:[^\s!,]+)(?:![0-9]+[kmgtKMGT]?)?\Z")
_UNPRINTABLE = re.compile(r"[^\x20-\x7E]")

_POLICIES: dict[str, Policy] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
# "one level below the specified policy" (section 4.7, tag "t")
_ONE_LEVEL_BELOW: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class Policies(NamedTuple):
    """The policies a record is applied with, after section 4.10.1; None where ``p`` stands in."""

    p: Policy
    sp: Policy | None
    np: Policy | None


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One parsed DMARC Policy Record."""

    #: as published, for people; unprintable octets are shown as U+FFFD.
    text: str
    #: None when the record states no usable policy and asks for no reports: DMARC then does not apply.
    policies: Policies | None
    #: "y" a public suffix, "n" an organisation's top, "u" unknown (the default).
    psd: Literal["y", "n", "u"]
    #: DKIM identifiers must be identical to the author domain.
    adkim_strict: bool
    #: SPF identifiers must be identical to the author domain.
    aspf_strict: bool
    #: ``t=y``: the owner is still testing, policies apply one level lower.
    testing: bool
    #: aggregate report addresses, without an obsolete ``!size``.
    rua: tuple[str, ...]
    #: failure report addresses.
    ruf: tuple[str, ...]
    #: what the owner should mend, in words for people.
    notes: tuple[str, ...]

    def lowered(self, policy: Policy) -> Policy:
        """``policy`` as it is to be applied: one level lower while the owner is testing (section 4.7, ``t``)."""
        return _ONE_LEVEL_BELOW[policy] if self.testing else policy


def is_policy_record(value: bytes) -> bool:
    """Whether a TXT record is a DMARC record: it starts with exactly ``v=DMARC1`` (section 4.7, ``v``)."""
    return _VERSION.match(value) is not None


def parse_record(value: bytes) -> PolicyRecord:
    """Read a TXT record for which ``is_policy_record`` holds. Never fails: errors become defaults and ``notes``."""
    return _parse_remembered(value) if len(value) <= MAX_CACHED_RECORD else _parse(value)


def _parse(value: bytes) -> PolicyRecord:
    text = value.decode("latin-1")
    notes: list[str] = []
    tags = _read_tags(text, notes)
    rua = _report_uris(tags.get("rua", ""))
    return PolicyRecord(
        text=_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).strip(),
        policies=_policies(tags, bool(rua), notes),
        psd=_word(tags, "psd", "u", "yn", notes),  # type: ignore[arg-type]  # one of "u", "y", "n" by construction
        adkim_strict=_word(tags, "adkim", "r", "s", notes) == "s",
        aspf_strict=_word(tags, "aspf", "r", "s", notes) == "s",
        testing=_word(tags, "t", "n", "y", notes) == "y",
        rua=rua,
        ruf=_report_uris(tags.get("ruf", "")),
        notes=tuple(notes),
    )


_parse_remembered = lru_cache(maxsize=CACHED_RECORDS)(_parse)


def _read_tags(text: str, notes: list[str]) -> dict[str, str]:
    """Tag names in lower case to values. Of a repeated tag the first counts: the second is the error to ignore."""
    tags: dict[str, str] = {}
    for part in text.split(";", MAX_TAGS)[1:MAX_TAGS]:
        if match := _TAG.match(part):
            name = match[1].lower()
            if name in tags:
                notes.append(f"the tag {name}= is repeated; the first one counts")
            else:
                tags[name] = match[2]
        elif name := part.partition("=")[0].strip(" \t").lower():
            # A value with octets outside the grammar is present and wrong, which matters for policies.
            if name in ("p", "sp", "np"):
                tags.setdefault(name, "")
            notes.append(f"{_UNPRINTABLE.sub('?', name)[:20]!r} is not a tag=value pair; ignored")
    return tags


def _word(tags: dict[str, str], name: str, default: str, others: str, notes: list[str]) -> str:
    """The one-letter value of a tag. ABNF literals are case-insensitive; anything else means the default."""
    value = tags.get(name)
    if value is None:
        return default
    value = value.lower()
    if len(value) == 1 and (value == default or value in others):
        return value
    notes.append(f"{name}={value[:20]} is not a known value; {name}={default} is assumed")
    return default


def _policies(tags: dict[str, str], wants_reports: bool, notes: list[str]) -> Policies | None:
    """The policies by section 4.10.1: valid, or ``p=none`` for the sake of reports, or None."""
    published: dict[str, Policy | None] = {}
    sound = True
    for name in ("p", "sp", "np"):
        value = tags.get(name)
        published[name] = _POLICIES.get(value.lower()) if value is not None else None
        if value is not None and published[name] is None:
            notes.append(f"{name}={value[:20]} is not a policy; it must be none, quarantine or reject")
            sound = False
    if "p" not in tags:
        notes.append("the record has no p= tag")
    p = published["p"]
    if sound and p is not None:
        return Policies(p, published["sp"], published["np"])
    return Policies("none", None, None) if wants_reports else None


def _report_uris(value: str) -> tuple[str, ...]:
    """The syntactically valid URIs of a ``dmarc-urilist`` (section 4.8)."""
    matches = (_REPORT_URI.match(uri.strip(" \t")) for uri in value.split(",", MAX_REPORT_URIS)[:MAX_REPORT_URIS])
    return tuple(match[1] for match in matches if match)
