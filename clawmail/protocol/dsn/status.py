"""What a failure means: enhanced status codes (RFC 3463, RFC 5248) and the words servers put beside them.

A failure is *hard* when another try to the same address can never work: there is no such user or host, the user has
moved, or the domain takes no mail (RFC 7505). Everything else is soft, also where the server said "5": a full mailbox,
a blocked sender, a policy. Codes are believed before words, unless the code is one that says nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: octets of a reason that are searched and shown.
MAX_REASON_CHARS = 1_000
#: recipients of one report that are read.
MAX_RECIPIENTS = 200


class BounceRecipient(NamedTuple):
    """One recipient a bounce speaks of."""

    #: the address as we sent to it where the report tells, else the one it failed at.
    recipient: str
    #: enhanced status code; made from the words where the report gives none.
    status: str
    #: "failed" or "delayed".
    action: str
    #: no such user or host, moved, or a domain that takes no mail.
    hard: bool
    #: what the server said, on one line.
    reason: str


# status-code = class "." subject "." detail      (RFC 3463 section 2); not a piece of an address or a version.
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d]|\.\d)")
_BASIC = re.compile(r"(?<![\d.#])([245]\d\d)(?=[ \-:#)]|$)")

_HARD = {
    "5.1.1",  # bad destination mailbox
    "5.1.2",  # bad destination system
    "5.1.3",  # bad destination mailbox syntax
    "5.1.6",  # mailbox has moved
    "5.1.10",  # null MX (RFC 7505)
    "5.1.351",  # Exchange Online: remote server says the recipient does not exist
    "5.4.4",  # unable to route: no such host
    "5.4.310",  # Exchange Online: the domain does not exist
}
#: beside these or none, the basic codes 521 and 556 mean a host that takes no mail (RFC 7504), 551 a user who moved.
_NO_MAIL_CODES = ("", "5.1.10", "5.3.2")
#: details that say nothing of their own, or are used for anything by large servers: the words decide. Many write 5.2.1
#: for unknown users, and sendmail 5.7.27 for a domain that takes no mail.
_VAGUE = re.compile(r"5\.(?:\d{1,3}\.0|5\.\d{1,3}|2\.1|4\.1|7\.1|7\.27)")

_NO_SUCH = re.compile(
    r"""(?:user|recipient|mailbox|account|address|addressee|host|domain|name)s?\b [^.;:\n]{0,40}? \b
            (?:unknown | not\ (?:be\ )?(?:found|known|recognized|valid) | invalid | nonexistent
             | do(?:es)?(?:\ not|n['’]t)\ exist | not\ exist | wasn['’]t\ found
             | (?:could\ not|couldn['’]t)\ be\ found)
      | (?:unknown|no\ such|invalid|bad\ destination|non-?existent|nonexisting) \s+ (?:local\s+|e-?mail\s+)?
            (?:user|recipient|mailbox|account|address|addressee|host|domain|person|name|local-part|rcpt)
      | no\ (?:mailbox|user|account)\b [^.;\n]{0,20} \bby\ that\ name
      | not\ listed\ in\b [^\n]{0,40} \b(?:address\ book|directory)
      | not\ a\ (?:valid|known)\ (?:user|mailbox|recipient|address) | not\ our\ customer | user\ not\ local
      | (?:user|account|mailbox|address|recipient)\b [^.;\n]{0,40} \b
            (?:no\ longer\ (?:exists|valid|available|active|on\ server) | has\ been\ (?:deleted|closed|terminated))
      | (?:address|user|mailbox|recipient)\s+(?:has\s+)?moved | unroute?able\ (?:address|mail\ domain)
      | (?:couldn['’]t|could\ not|can['’]t|cannot)\ find\ any\ host | name\ (?:or\ )?service\ (?:error|not\ known)
      | (?:domain|host|server)\b [^.;\n]{0,30} \b(?:does\ not|doesn['’]t|do\ not)\ accept\ (?:any\ )?(?:e-?)?mail
      | null\ ?mx | no\ smtp\ service | no\ mx\ (?:record|host)s?\b | domain\ is\ not\ reachable
      | invalid\ final\ delivery\ user | address\ rejected\.?\s*$
      | requested\ action\ not\ taken:\ mailbox\ unavailable | ディレクトリ[^。\n]{0,20}(?:ありません|見つかりません)
      | (?:does\ not|doesn['’]t)\ have\ an?\ [^\n]{0,60}\ account
      | recipient\ address\ rejected:\ access\ denied
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OTHERWISE = re.compile(
    r"""quota | mailbox\ (?:is\ )?full | full\ mailbox | over\ ?(?:size|limit) | exceed
      | too\ (?:large|big|many) | disk\ full
      | insufficient\ (?:disk|storage) | spam | virus | blacklist | block(?:ed|\ ?list) | banned | reputation
      | relay(?:ing)?\ (?:access\ )?denied | policy | greylist | temporar | try\ (?:again|later) | timed?\ ?out
      | time-?out | \brdns\b | reverse\ dns | sender\ (?:address|domain) | from:?\ (?:address|domain)
      | connection\ (?:refused|reset) | disabled | suspended | inactive | loop
    """,
    re.IGNORECASE | re.VERBOSE,
)
_FULL = re.compile(r"quota|mailbox (?:is )?full|full mailbox|exceeds allowed size", re.IGNORECASE)
_NEVER_HARD = re.compile(rf"{_FULL.pattern}|not found, try again", re.IGNORECASE)
_HOST = re.compile(r"\b(?:host|domain|name\ service)\b", re.IGNORECASE)

#: subject and detail of RFC 3463, in words for a person.
_MEANINGS = {
    "1.0": "there is a problem with the address",
    "1.1": "there is no such mailbox",
    "1.2": "there is no such mail domain",
    "1.3": "the address is not written correctly",
    "1.4": "the address is ambiguous",
    "1.6": "the mailbox has moved",
    "1.8": "the sender's domain was not accepted",
    "1.10": "the domain takes no mail",
    "2.0": "there is a problem with the mailbox",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "the message is too large for the mailbox",
    "3.0": "the receiving system has a problem",
    "3.1": "the receiving system is full",
    "3.4": "the message is too large for the receiving system",
    "4.0": "there is a problem with the network or the route",
    "4.1": "the receiving system did not answer",
    "4.2": "the connection broke",
    "4.4": "no route to the receiving system was found",
    "4.6": "the mail went in a loop",
    "4.7": "the time to deliver it ran out",
    "5.0": "the mail systems did not understand each other",
    "6.0": "the content could not be handled",
    "7.0": "the receiving system refused it for security reasons",
    "7.1": "the receiving system refused it as a matter of policy",
}


def find_status(text: str) -> str:
    """The first enhanced status code in ``text``, or ""."""
    found = _STATUS.search(text)
    return found[0] if found else ""


def status_of(text: str) -> str:
    """An enhanced status for a reason in words: the code it holds, or the code its words mean. Never ""."""
    if code := find_status(text):
        return code
    basic = _BASIC.search(text)
    kind = "4" if basic and basic[1].startswith("4") else "5"
    if basic and basic[1] in ("521", "556"):  # RFC 7504
        return "5.1.10"
    if _FULL.search(text):
        return f"{kind}.2.2"
    words, otherwise = _NO_SUCH.search(text), _OTHERWISE.search(text)
    if words is None or (otherwise and otherwise.start() < words.start()):
        return f"{kind}.0.0"
    return f"{kind}.1.2" if _HOST.search(words[0]) else f"{kind}.1.1"


def is_hard(status: str, reason: str = "") -> bool:
    """No such user or host, moved, or a domain that takes no mail; ``status`` may be ""."""
    if status.startswith(("2", "4")) or _NEVER_HARD.search(reason):
        return False
    # The refusing server's own code is in the reason; the status is what the reporter made of it, often too much.
    own = find_status(reason)
    basic = match[1] if (match := _BASIC.search(reason)) else ""
    if not own and basic.startswith("4"):
        return False
    no_such, otherwise = _NO_SUCH.search(reason), _OTHERWISE.search(reason)
    if own in _NO_MAIL_CODES and basic in ("521", "551", "556") and not otherwise:
        return True
    code = own if own.startswith("5") else status
    if code and not _VAGUE.fullmatch(code):
        return code in _HARD
    if no_such or otherwise:
        # A reason that says both says first what it is about.
        return no_such is not None and (otherwise is None or no_such.start() < otherwise.start())
    return status in _HARD


def meaning(status: str) -> str:
    """``status`` in words for a person; "" when RFC 3463 has none."""
    _, _, rest = status.partition(".")
    return _MEANINGS.get(rest) or _MEANINGS.get(rest.partition(".")[0] + ".0", "")


def one_line(text: str) -> str:
    """``text`` on one line and of a length to show."""
    return " ".join(text[: 4 * MAX_REASON_CHARS].split())[:MAX_REASON_CHARS]
