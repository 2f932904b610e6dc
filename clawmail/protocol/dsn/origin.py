"""Did a mail system write this? What is asked before a message's text is read as a bounce.

The words of a bounce also stand in letters about one, in answers and in notices of absence; who sent a message, and
under which subject, tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Names and local parts of the programs that write bounces.
_DAEMON = re.compile(
    r"""daemon | postmaster | \bmmdf | \broot\b | \bsmtp | \bbounces?\b | \bdelivery\ (?:sub)?system
      | mail[._ -]delivery | system\ administrator | postoffice | mail[._-]service | \bimss\b | _gateways?\b""",
    re.IGNORECASE | re.VERBOSE,
)
_MAILER_DAEMON = re.compile(r"mailer-?daemon\b", re.IGNORECASE)
_SUBJECT = re.compile(
    r"""undeliver | non-?deliver | returned?\ (?:mail|to\ sender) | \bdelay | not\ be\ delivered | not\ deliver
      | deliver(?:y|ed)?\b.{0,30}\b(?:fail|problem|error|status|warning)
      | fail(?:ed|ure)\b.{0,20}\b(?:notice|mail|deliver) | automatically\ rejected | user\ unknown | processing\ error
      | mail\ (?:delivery\ )?(?:system\ error|failed|failure) | mail\ failed | 配信できません""",
    re.IGNORECASE | re.VERBOSE,
)
_PASSED_ON = re.compile(r"\s*(?:re|fwd?|aw|wg)\s*:", re.IGNORECASE)
_PERSONAL = re.compile(
    r"out of (?:the )?office|vacation|auto(?:matic)?[ -]?(?:reply|response)|away from|abwesen|absence", re.IGNORECASE
)
#: the header fields that are asked for, besides ``from-name``, the display name of From.
READ_FIELDS = frozenset(
    (
        *("from", "subject", "return-path", "x-failed-recipients"),
        *("x-autoreply", "x-autorespond", "x-vacation", "x-autoreply-from"),
    )
)
_REPLY_FIELDS = ("x-autoreply", "x-autorespond", "x-vacation", "x-autoreply-from")


def from_a_mail_system(fields: Mapping[str, str]) -> bool:
    """Whether the header is that of a bounce, going by its sender and subject; ``fields`` holds ``READ_FIELDS``."""
    subject = fields.get("subject", "")
    if _PERSONAL.search(subject) or any(name in fields for name in _REPLY_FIELDS):
        return False
    if "x-failed-recipients" in fields:
        return True
    daemon = not fields["from"] or _DAEMON.search(f"{fields['from']} {fields['from-name']}") is not None
    null_sender = fields.get("return-path", "").replace(" ", "") == "<>"
    if _SUBJECT.search(subject) is None:
        return daemon and (null_sender or _MAILER_DAEMON.match(fields["from"]) is not None)
    if daemon or null_sender:
        return True
    # Some gateways write in the name of a person; a person who asks about a bounce answers or passes it on.
    return not _PASSED_ON.match(subject)
