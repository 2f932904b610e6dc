"""Bounces of systems that never learned RFC 3464, known by the words they use.

Each habit is a row of a table: the words the report opens with, the shape of a line that names a recipient, and the
words that end it (most quote the message they return, and an address in there is nobody's failure). The reason is what
stands behind the address, on the same line and on those below it, or above it where that is the habit. A message is
looked at only if a mail system sent it; a person's letter about a bounce is no bounce.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .quoted import replies_in, with_replies
from .status import MAX_RECIPIENTS, BounceRecipient, is_hard, one_line, status_of

#: lines below an address that may belong to its reason.
MAX_REASON_LINES = 12


class Habit(NamedTuple):
    """How one family of servers words its bounces."""

    name: str
    #: the report starts behind the first match.
    opening: re.Pattern[str]
    #: matched at the start of a line: the ``address``, and the ``reason`` as far as that line tells it.
    recipient: re.Pattern[str]
    #: the report ends before the first match behind the opening.
    closing: re.Pattern[str]
    #: the reason stands above the address.
    reason_above: bool = False


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


_MAILBOX = r"""[^\s<>"'(),;:@\[\]]{1,128}@(?:\[[\w.:]{1,60}\]|[\w-](?:[\w.-]{0,253}[\w-])?+)"""
_ADDRESS = rf"(?P<address>{_MAILBOX})"
_ANGLED = _words(rf"[ \t]* < {_ADDRESS} > [:,]? (?P<reason>[^\n]*)")
_BARE = _words(rf"[ \t]* <? {_ADDRESS} >? (?P<reason>[^\n]*)")
_DATED = _words(
    rf"""[ \t]* (?:recipient:[ \t]*)? [<\[]? (?:[^\n@]{{0,120}}SMTP[:=])? {_ADDRESS} [>\];]*
         (?:\ on\ [^\n]*)? (?P<reason>[^\n]*)"""
)
# An address in a list: alone on its line, behind a bullet, in quotes or brackets; what follows it is no sentence.
_LISTED = _words(
    rf"""[ \t]* (?:[*•-]{{1,2}}[ \t]+)? (?:"[^"\n]{{0,80}}"[ \t]+)? [<\["']? (?:SMTP:|mailto:)? {_ADDRESS} [>\]"']?
         (?=[ \t]*(?:$|[:;,(-]|\.\.\.|<br|\ on\ )) (?P<reason>[^\n]*)"""
)
# An address behind a word that says what it is.
_LABELLED = _words(
    rf"""(?=(?P<reason>[^\n]*)) [^\n@]{{0,80}}? \b(?:recipient | error-for | address(?:ed)?(?:\ to)? | generated\ from
         | (?:undeliverable|message|deliver|mail)\s+to | attempts | mailbox(?:\ is\ full)?
         | unknown\ user | user\ unknown
         | exceeds\ allowed\ size | final\ delivery\ user(?:id)? | returned\ permanent\ errors
         | (?:not|wasn['’]t)\ delivered\ to)\b
         [ \t]* [:,]? [ \t]* [<\["']? (?:SMTP:)? {_ADDRESS}"""
)
_COPY = _words(
    r"""^[ \t|]*-{2,60}[^\n]{0,20}
            (?:below\ th(?:is\ line|e)|copy\ of|original\ m|returned\ m|message\ (?:header|text)|unsent\ m|start\ of)
      | ^[ \t]*(?:received|return-path):[ \t] | ^the\ original\ message\ (?:headers\ )?follows"""
)

# The order matters where two habits share words: the one that says more comes first.
_HABITS = (
    Habit(
        "qmail",
        _words(
            r"""^hi\.\ this\ is\ the\  | ^this\ is\ the\ qmail\S*\ program
              | ^message\ from\ \s*\S+\n\s*unable\ to\ deliver\ message"""
        ),
        _ANGLED,
        _COPY,
    ),
    Habit("Postfix", _words(r"^this\ is\ the\ (?:\S+\ )?(?:mail\ system|program)\ at\ host"), _ANGLED, _COPY),
    Habit(
        "Courier",
        _words(r"your\ message\ to\ the\ following\ recipients?\ cannot\ be\ delivered"),
        _ANGLED,
        _words(r"^-{3,60} | ^the\ original\ message | ^if\ your\ message"),
    ),
    Habit(
        "Exim",
        _words(
            r"""could\ not\ be\ delivered\ to\ (?:one\ or\ more|all)\ of\ its
              | recipient\ addresses\ that\ were\s+incorrectly\ constructed
              | the\ following\ address(?:\(es\)|es)?\ failed
              | address(?:\(es\)|es)?\ to\ which\ the\ message\ has\ not\ yet\ been
              | has\ not\ yet\ been\ delivered\ to\ the\ following"""
        ),
        _words(rf"[ \t]+ <? {_ADDRESS} >? (?P<reason>[^\n]*)"),
        _COPY,
    ),
    Habit(
        "sendmail",
        _words(r"-{3,60}\ ?the\ following\ addresses\ had\ (?:permanent|transient|delivery)[^\n]*"),
        _words(rf"[ \t]* (?:>>>[ \t]+)? <? {_ADDRESS} >? (?P<reason>[^\n]*)"),
        _words(r"^[ \t]*-{3,60}\ ?(?:original\ message|message\ header|returned\ message|unsent)"),
    ),
    Habit(
        "sendmail transcript",
        _words(r"-{3,60}\ ?transcript\ of\ session\ follows"),
        _words(rf"(?=(?P<reason>[^\n]*))[45]\d\d[ \t]+(?:[45](?:\.\d{{1,3}}){{2}}[ \t]+)?<?{_ADDRESS}>?\.\.\."),
        _COPY,
    ),
    Habit(
        "Exchange",
        _words(
            r"""did\ not\ reach\ (?:the\ following|some\ or\ all\ of\ the)[^\n]{0,40}recipient[^\n]*
              | the\ following\ recipient\(?s?\)?\ c(?:ould\ not|annot)\ be\ reached[^\n]*
              | delivery\ (?:to\ the\ following|has\ failed\ to\ these)\ recipients?[^\n]*"""
        ),
        _DATED,
        _words(r"^[ \t]*-{3,60} | ^diagnostic\ information | ^original\ message\ headers"),
    ),
    Habit(
        "Domino",
        _words(r"-{3,60}[ \t]*failure\ reasons[ \t]*-{3,60}"),
        _BARE,
        _words(r"-{3,60}[ \t]*returned\ message"),
        reason_above=True,
    ),
    Habit(
        "GroupWise",
        _words(r"the\ message\ that\ you\ sent\ was\ undeliverable\ to\ the\ following"),
        _words(rf"[ \t]* {_ADDRESS} (?P<reason>[^\n]*)"),
        _COPY,
    ),
    Habit(
        "PMDF",
        _words(r"^your\ message\ (?:cannot\ be\ delivered|is\ being\ returned)[^\n]*"),
        _words(rf"[ \t]* (?:recipient\ address:|user:)? [ \t]* <? {_ADDRESS} >? (?P<reason>[^\n]*)"),
        _COPY,
    ),
    Habit(
        "OpenSMTPD",
        _words(r"the\ following\s+list\ of\ recipients:"),
        _words(rf"{_ADDRESS}: (?P<reason>[^\n]*)"),
        _words(r"^\s*(?:below\ is\ a\ copy|please\ note)"),
    ),
    Habit("Zoho", _words(r"\A"), _words(rf"{_ADDRESS}\ (?P<reason>[^\n]*ERROR_CODE[^\n]*)"), _COPY),
    Habit("m-FILTER", _words(r"送信に失敗しました"), _BARE, _COPY),
    Habit("InterScan", _words(r"\A"), _words(rf"sent\ <<<\ RCPT\ TO:<{_ADDRESS}> (?P<reason>)"), _COPY),
    Habit(
        "Yahoo",
        _words(r"able\ to\ deliver\ the\ following\ message"),
        _words(rf"to:[ \t]* <? {_ADDRESS} (?P<reason>)"),
        _words(r"^[ \t]*-{3}"),
    ),
    Habit("MDaemon", _words(r"did\ not\ receive\ a\ copy[^\n]*"), _words(rf">[ \t]* {_ADDRESS} (?P<reason>)"), _COPY),
    # What is left are words that many programs share: the shapes of a line, in the order of how sure they are.
    Habit("as qmail", _words(r"\A"), _words(rf"< {_ADDRESS} >: (?P<reason>[^\n]*)"), _COPY),
    Habit(
        "listed",
        _words(
            r"""(?: undeliver(?:able|ed) | not\ (?:be\ |yet\ been\ )?delivered | could\ ?n[o't]{1,2}\ be\ delivered
                  | del[ei]very\ (?:failed|failure|delayed|of\ e?-?mail|to\ the\ following|has\ failed)
                  | failed\ permanently | (?:unable|able|not)\ (?:to\ )?deliver | returned\ to\ sender
                  | not\ receive\ this | failed\ addresses | not\ accepting\ mail | your\ message\ to | addressed\ to
                ) [^\n]*"""
        ),
        _LISTED,
        _COPY,
    ),
    Habit("labelled", _words(r"\A"), _LABELLED, _COPY),
    Habit("named first", _words(r"\A"), _words(rf"{_ADDRESS} [ ]-[ ] (?P<reason>[^\n]*)"), _COPY),
    Habit("in brackets", _words(r"\A"), _words(rf"< {_ADDRESS} > [ \t]* $ (?P<reason>)"), _COPY),
)
# What ends a reason besides an empty line.
_NO_REASON = re.compile(r"\s*(?:\Z|the mts-id\b)", re.IGNORECASE)
# Behind the address at which it failed, the one we sent to (Exim, sendmail, Postfix).
_SENT_TO = _words(rf"\((?:generated|expanded)\ from:?\s*<?{_ADDRESS}>?\):?\s*")

_DELAY_SUBJECT = re.compile(r"\bdelay|^warning\b.{0,60}\byet\b|delivery warning", re.IGNORECASE)
_DELAY = re.compile(
    r"""will\ (?:be\ (?:re)?tried | continue\ to | keep\ trying | retry) | not\ (?:yet\ )?been\ delivered\ (?:yet|after)
      | delivery\ (?:is\ |has\ been\ )?delayed | warning\ message\ only | attempts\ (?:to\ deliver\ )?will\ continue""",
    re.IGNORECASE | re.VERBOSE,
)


def read_by_habit(fields: Mapping[str, str], text: str) -> tuple[BounceRecipient, ...] | None:
    """The failed recipients of a bounce without a machine-readable part; None when its text names none.

    ``fields`` is the header by lower-case name, ``text`` the plain body; both already bounded by the caller, who has
    asked ``from_a_mail_system``.
    """
    subject = fields.get("subject", "")
    found = reasons_in(text)
    if not found:  # Exim, Gmail
        found = dict.fromkeys(re.findall(_MAILBOX, fields.get("x-failed-recipients", "")), "")
    action = _action_of(subject, text)
    recipients = [_judged(address, reason, action, subject) for address, reason in found.items()]
    return tuple(recipients[:MAX_RECIPIENTS]) or None


def read_unnamed(fields: Mapping[str, str], text: str) -> BounceRecipient | None:
    """The failure of a bounce that names nobody, by the refusal it quotes above the message it returns; else None.

    Of use only to who knows whom it is about. Words alone do not count, nor does what may yet be delivered.
    """
    closing = _COPY.search(text)
    report = text[: closing.start() if closing else len(text)]
    refusal = next((reply for reply in replies_in(report) if reply.startswith("5")), None)
    if refusal is None:
        return None
    judged = _judged("", refusal, _action_of(fields.get("subject", ""), report), "")
    return judged if judged.action == "failed" else None


def reasons_in(text: str) -> dict[str, str]:
    """Address -> reason, from the text of a bounce by the first habit that finds any; the reason may be ""."""
    for habit in _HABITS:
        opening = habit.opening.search(text)
        if opening and (found := _follow(habit, text[opening.end() :])):
            closing = habit.closing.search(text, opening.end())
            found = with_replies(found, text[: closing.start() if closing else len(text)])
            return {_as_sent(address, reason): reason for address, reason in found.items()}
    return {}


def _action_of(subject: str, text: str) -> str:
    return "delayed" if _DELAY_SUBJECT.search(subject) or _DELAY.search(text) else "failed"


def _as_sent(address: str, reason: str) -> str:
    sent_to = _SENT_TO.search(reason)
    return sent_to["address"] if sent_to else address


def _judged(address: str, words: str, action: str, subject: str) -> BounceRecipient:
    reason = one_line(words)
    status = status_of(reason)
    if action == "delayed":
        status = "4" + status[1:]
    return BounceRecipient(address, status, action, is_hard(status, reason), reason or one_line(subject))


def _follow(habit: Habit, text: str) -> dict[str, str]:
    """Address -> reason, as far as the habit's report goes."""
    closing = habit.closing.search(text)
    found: dict[str, str] = {}
    above: list[str] = []
    address, lines_left = "", 0
    for line in text[: closing.start() if closing else len(text)].split("\n"):
        if len(found) == MAX_RECIPIENTS:
            break
        match = habit.recipient.match(line)
        # A reply repeats the address it is about, and one that was expanded is told on two lines.
        if match and not (lines_left and (match["address"] == address or found[address].endswith("expanded from"))):
            address, lines_left = match["address"].rstrip("."), MAX_REASON_LINES
            found.setdefault(address, " ".join(above) if habit.reason_above else match["reason"].strip(" \t:>-"))
            above.clear()
        elif _NO_REASON.match(line):
            # An empty line ends the reason, unless there is none yet.
            if address and found[address] and not found[address].endswith(":"):
                lines_left = 0
        elif habit.reason_above:
            above = [*above, line.strip()][-MAX_REASON_LINES:]
        elif lines_left and not line.lstrip().startswith(("---", "===")):
            found[address] = f"{found[address]} {line.strip()}".strip()
            lines_left -= 1
    return found
