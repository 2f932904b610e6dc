"""What a refusal is about: one of a dozen reasons, and how it weighs (RFC 3463 and the words of large providers).

Codes are used loosely in the field: 550 5.7.1 may mean an unknown user or a blocked address of ours. So an enhanced
code decides where it says something definite, then the words, then what is left of the code. ``hard`` means that this
address takes no mail and never will; ``block`` that the host does not want mail from us, which says nothing about the
address; everything else is ``soft``.
"""

from __future__ import annotations

import enum
import re
from typing import Literal, NamedTuple

from clawmail.model.attempt import OF_THE_HOST, Outcome, Stage, Try
from clawmail.protocol.replies import Reply

Weight = Literal["hard", "soft", "block"]

#: characters of a reply that are searched for words.
MAX_SEARCHED = 1000


class Reason(enum.StrEnum):
    """What a failure is about."""

    RECIPIENT = "invalid recipient"
    DOMAIN = "invalid domain"
    MAILBOX_FULL = "mailbox full"
    POLICY = "policy"
    SPAM = "spam-related"
    AUTHENTICATION = "authentication"
    BLOCKED = "blocked address"
    RATE = "rate"
    CONTENT = "content"
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"
    OTHER = "other"


class Verdict(NamedTuple):
    """A reason and its weight."""

    reason: Reason
    weight: Weight


#: enhanced codes (without the class) that mean one thing wherever they are seen.
_DEFINITE: dict[str, Reason] = {
    "1.1": Reason.RECIPIENT,
    "1.2": Reason.DOMAIN,
    "1.3": Reason.RECIPIENT,
    "1.6": Reason.RECIPIENT,
    "1.10": Reason.DOMAIN,
    "2.1": Reason.RECIPIENT,
    "2.2": Reason.MAILBOX_FULL,
    "2.3": Reason.CONTENT,
    "3.1": Reason.MAILBOX_FULL,
    "3.4": Reason.CONTENT,
    "5.3": Reason.RATE,
    "7.20": Reason.AUTHENTICATION,
    "7.21": Reason.AUTHENTICATION,
    "7.22": Reason.AUTHENTICATION,
    "7.23": Reason.AUTHENTICATION,
    "7.24": Reason.AUTHENTICATION,
    "7.25": Reason.AUTHENTICATION,
    "7.26": Reason.AUTHENTICATION,
    "7.28": Reason.RATE,
    "7.30": Reason.POLICY,
}

#: words, most telling first. Bounded quantifiers only: a stranger writes what they are matched against.
_WORDS: tuple[tuple[Reason, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        (
            Reason.BLOCKED,
            r"spamhaus|barracuda|spamcop|\b[drx]*bl\b|dnsbl|black ?list|block ?list|blocked using|\bip\b.{0,40}\bblock"
            r"|reputation|\[TSS0[4-9]\]|banned sending ip|listed (?:at|in|on|by)",
        ),
        (
            Reason.AUTHENTICATION,
            r"\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated|not authenticated|authentication (?:check|fail|required)"
            r"|reverse (?:dns|hostname|lookup)|\bptr\b|\brdns\b",
        ),
        (Reason.SPAM, r"\bspam\b|unsolicited|\bbulk\b|\bjunk\b|\bphish|\bUCE\b"),
        (
            Reason.MAILBOX_FULL,
            r"over ?quota|quota (?:exceeded|full)|exceed\w{0,4} (?:the )?(?:storage|quota)|mailbox (?:is )?full"
            r"|out of storage|insufficient (?:system )?storage|inbox is full",
        ),
        (
            Reason.RATE,
            r"rate.?limit|unusual rate|too (?:many|fast|quickly)|throttl|grey ?list|gray ?list|temporarily deferred"
            r"|connection limit|exceeded the (?:rate|limit)",
        ),
        (
            Reason.RECIPIENT,
            r"(?:unknown|no such|invalid|non-?existent|nonexistent|undeliverable) (?:\w+ ){0,2}"
            r"(?:user|recipient|mailbox|address|account|person)"
            r"|(?:user|recipient|mailbox|address|account)(?: \S+){0,4} "
            r"(?:unknown|not found|does ?n[o']t exist|disabled|inactive|suspended|invalid|unavailable|not exist)"
            r"|no mailbox|not our customer|user unknown|does not have an? .{0,20}account"
            r"|access denied.{0,20}AS\(201806281\)",
        ),
        (
            Reason.DOMAIN,
            r"(?:host|domain)(?: \S+){0,3} (?:not found|does ?n[o']t exist|unknown)|unrouteable|no such domain",
        ),
        (Reason.CONTENT, r"message (?:is )?too (?:large|big)|attachment|virus|malware|message content|too large"),
        (Reason.POLICY, r"policy|not allowed|prohibited|refused|rejected|relay"),
        (Reason.TIMEOUT, r"timed? ?out|no answer within|no reply within"),
    )
)

#: what is left of an enhanced code when its words say nothing: its subject (RFC 3463 section 3).
_SUBJECTS = {
    1: Reason.RECIPIENT,
    4: Reason.TIMEOUT,
    5: Reason.PROTOCOL,
    6: Reason.CONTENT,
    7: Reason.POLICY,
}

_BLOCKS = frozenset({Reason.BLOCKED, Reason.SPAM, Reason.AUTHENTICATION, Reason.POLICY, Reason.RATE})


def classify(tried: Try) -> Verdict:
    """What the reply that ended a try means."""
    return classify_reply(tried.reply, stage=tried.stage, permanent=is_permanent(tried))


def classify_reply(reply: Reply, *, stage: Stage, permanent: bool) -> Verdict:
    """What a reply means that was given at ``stage`` (RCPT for a bounce that came by mail)."""
    reason = _reason(reply, stage)
    if permanent and reason in (Reason.RECIPIENT, Reason.DOMAIN):
        return Verdict(reason, "hard")
    return Verdict(reason, "block" if reason in _BLOCKS else "soft")


def _reason(reply: Reply, stage: Stage) -> Reason:
    detail = reply.enhanced.partition(".")[2]
    if stage is Stage.DNS:
        return Reason.PROTOCOL if detail == "4.6" else Reason.DOMAIN  # a loop says nothing about the address
    if reply.ours and stage in (Stage.CONNECT, Stage.TLS):
        return Reason.TIMEOUT if stage is Stage.CONNECT else Reason.POLICY
    if (definite := _DEFINITE.get(detail)) is not None and not (detail == "2.1" and reply.code < 500):
        return definite
    text = reply.text[:MAX_SEARCHED]
    for reason, words in _WORDS:
        if words.search(text):
            return reason
    if reply.ours:
        return Reason.TIMEOUT
    if reply.enhanced:
        return _SUBJECTS.get(reply.subject, Reason.OTHER)
    if reply.code in (550, 551, 553) and stage is Stage.RCPT:
        return Reason.RECIPIENT  # RFC 5321 section 4.2.3: mailbox unavailable, user not local, name not allowed
    if reply.code in (452, 552):
        return Reason.MAILBOX_FULL
    return Reason.PROTOCOL if reply.code // 10 in (50, 45) and reply.code < 505 else Reason.OTHER


#: said with a 5xx and without an enhanced code, these words mean "later" all the same.
_LATER = re.compile(r"gr[ea]y ?list|try (?:again|later|your message again)|temporar", re.IGNORECASE)


def is_permanent(tried: Try) -> bool:
    """Whether the reply settles the matter: enhanced code first, then the basic code, then known words."""
    reply = tried.reply
    if reply.code == 552 and tried.stage is Stage.RCPT and reply.enhanced not in ("5.2.3", "5.3.4"):
        return False  # RFC 5321 section 4.5.3.1.10: "552" to RCPT is "452"
    if tried.stage in (Stage.GREETING, Stage.EHLO) and reply.code not in (521, 556):
        return False  # it is about us and this host, not about the message; RFC 7504 has codes that are for good
    if not reply.permanent:
        return False
    return bool(reply.enhanced) or not _LATER.search(reply.text[:MAX_SEARCHED])


def nobody_answered(outcome: Outcome) -> bool:
    """No host of the site could be spoken to at all."""
    return not outcome.delivered and all(
        tried.reply.ours and tried.stage in OF_THE_HOST - {Stage.TLS} for tried in outcome.tries
    )


def wants_less(outcome: Outcome) -> bool:
    """The reply is about how much or how fast we send, not about the recipient (421, and 4xx before one was named)."""
    last = outcome.last
    if last.reply.code == 421 or last.stage in OF_THE_HOST or (last.stage is Stage.MAIL and last.reply.temporary):
        return True
    decided = last.reply.temporary and not last.reply.ours
    return decided and classify(last).reason in (Reason.RATE, Reason.BLOCKED)
