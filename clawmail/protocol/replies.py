"""SMTP replies: a code of three digits, an enhanced status code, and text (RFC 5321 section 4.2, RFC 3463, RFC 2034).

The first digit is the verdict: 2 done, 3 go on, 4 not now, 5 never. The enhanced code says what it is about: its second
number is the subject (1 address, 2 mailbox, 3 mail system, 4 network, 5 protocol, 6 content, 7 security or policy).
``ReplyReader`` cuts replies out of a stream that a stranger writes: it is bounded, and what is no reply is said to be
none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: octets of one line, far beyond the 512 of RFC 5321 section 4.5.3.1.5.
MAX_LINE_OCTETS = 4096
#: lines of one reply; EHLO's is the longest seen.
MAX_LINES = 128
#: characters of a reply that are kept in events and shown to people.
MAX_SHOWN = 1000

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF        (RFC 5321 section 4.2)
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?")
# status-code = class "." subject "." detail                                                    (RFC 3463 section 2)
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply."""

    code: int
    #: "5.1.1", or "" if the host gave none that fits the code.
    enhanced: str
    #: text of each line, without codes.
    lines: tuple[str, ...]
    #: no host said it: our own words for what happened (a timeout, a policy of ours).
    ours: bool = False

    @property
    def text(self) -> str:
        """The lines as one."""
        return " ".join(self.lines)

    @property
    def positive(self) -> bool:
        """2xx."""
        return self.code < 300

    @property
    def temporary(self) -> bool:
        """Not now: the enhanced code's class, else the code's first digit."""
        return self.severity == 4

    @property
    def permanent(self) -> bool:
        """Never: the enhanced code's class, else the code's first digit."""
        return self.severity == 5

    @property
    def severity(self) -> int:
        """2, 3, 4 or 5. The enhanced code comes first, but it cannot turn a refusal into a success or back."""
        basic = self.code // 100
        if self.enhanced and basic >= 4 and self.enhanced[0] in "45":
            return int(self.enhanced[0])
        return basic

    @property
    def subject(self) -> int:
        """Second number of the enhanced code; 0 if there is none."""
        return int(self.enhanced.split(".")[1]) if self.enhanced else 0

    def __str__(self) -> str:
        words = f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"
        return words[:MAX_SHOWN].rstrip()


def our_reply(code: int, enhanced: str, text: str) -> Reply:
    """What we say in the place of a host that said nothing, or to mail that we will not send."""
    return Reply(code, enhanced, (text,), ours=True)


def read_reply(code: int, texts: list[bytes]) -> Reply:
    """A reply from its code and the text of its lines; bytes that are not UTF-8 are shown as U+FFFD."""
    lines = [_CONTROL.sub(" ", text.decode("utf-8", "replace")).strip() for text in texts]
    enhanced = ""
    for number, line in enumerate(lines):
        found = _ENHANCED.match(line)
        if found is None:
            continue
        # RFC 2034 section 4: every line starts with it, and only its text matters. The class of a 2xx is 2.
        if (found[1] == "2") == (code < 300) and code // 100 != 3:
            enhanced = enhanced or f"{found[1]}.{int(found[2])}.{int(found[3])}"
            lines[number] = line[found.end() :]
    return Reply(code, enhanced, tuple(lines))


def status_in(shown: str, verdict: str) -> str:
    """The enhanced code of a reply as ``str`` shows it, in the class ``verdict`` ("4" or "5"); "5.0.0" without one."""
    found = re.match(r"\d{3} [245]\.(\d{1,3}\.\d{1,3})(?:\s|$)", shown)
    return f"{verdict}.{found[1]}" if found else f"{verdict}.0.0"


class ReplyReader:
    """Bytes in, replies out. Once ``broken`` says why, the peer does not speak SMTP and nothing more is read."""

    def __init__(self) -> None:
        self.broken = ""
        self._rest = b""
        self._code = 0
        self._texts: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Part of a reply has been read."""
        return bool(self._rest or self._texts)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that ``data`` completes."""
        replies: list[Reply] = []
        if self.broken:
            return replies
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_OCTETS:
            self.broken = "a reply line is too long"
        for line in lines:
            if (reply := self._take(line.removesuffix(b"\r"))) is not None:
                replies.append(reply)
            if self.broken:
                break
        return replies

    def _take(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None or len(line) > MAX_LINE_OCTETS:
            self.broken = f"not an SMTP reply: {line[:80]!r}"
            return None
        code = int(found[1])
        if self._texts and code != self._code:
            # RFC 5321 section 4.2.1: the code is the same on each line. Some hosts differ; the last one decides.
            code = max(code, self._code)
        self._code = code
        self._texts.append(found[3] or b"")
        if found[2] == b"-":
            if len(self._texts) > MAX_LINES:
                self.broken = "a reply has too many lines"
            return None
        reply = read_reply(code, self._texts)
        self._texts = []
        return reply
