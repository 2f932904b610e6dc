"""New words, apart from the quoted message and the signature.

Nothing marks a quotation in mail but habit: a ``>`` before each line (RFC 3676 section 4.5), an attribution such as "On
Monday Ann wrote:" in the writer's language, a ruler, a block of header lines, or in HTML the class names of five mail
programs. A signature stands below ``-- `` (RFC 3676 section 4.3). This is a reading by habit, so it keeps all three
pieces: nothing is thrown away, and a reader who does not trust it shows the whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: lines an attribution may run over, and characters of them together.
MAX_ATTRIBUTION_LINES = 4
MAX_ATTRIBUTION_CHARS = 500
#: lines of a signature; below a longer one the dashes were something else.
MAX_SIGNATURE_LINES = 15
#: tags that may be open at the place where HTML is cut.
MAX_OPEN_TAGS = 500


class Pieces(NamedTuple):
    """A text in three pieces, each without blank lines around it."""

    new: str
    quoted: str
    signature: str


_ATTRIBUTION_START = re.compile(
    r"\s*(?:on|am|le|el|il|op|den|em|w dniu|dnia|på|vào|в|在|於|\d{1,4}[-./年]\d{1,2}[-./月]\d{1,4})\b", re.IGNORECASE
)
_ATTRIBUTION_END = re.compile(
    r"(?:\bwrote|\bschrieb\b.{0,80}|a écrit|escribió|ha scritto|\bschreef\b.{0,80}|\bskrev\b.{0,80}|escreveu"
    r"|napisał\(?a?\)?|\bpisze|пишет|написал\(?а?\)?|写道|寫道|のメッセージ)\s*[:：]\s*\Z",
    re.IGNORECASE,
)
_RULER = re.compile(
    r"\s*(?:-{2,40}\s?(?:original|ursprüngliche|message|mensaje|messaggio|forwarded|weitergeleitete|oorspronkelijk)"
    r"[\w ]{0,40}-{2,40}|_{20,80})\s*\Z",
    re.IGNORECASE,
)
_HEADER_LINE = re.compile(
    r"\s*\*?(?:from|sent|date|to|cc|subject|von|gesendet|datum|an|betreff|de|envoyé|à|objet|para|asunto|enviado"
    r"|da|inviato|oggetto|van|verzonden|aan|onderwerp)\s?:\*?\s\S",
    re.IGNORECASE,
)
_DASHES = re.compile(r"(?:--|—)[ \t]*\Z")
_SENT_FROM = re.compile(
    r"\s*(?:sent from|get outlook for|von meinem .{1,40} gesendet|envoyé de mon|enviado desde)\b", re.I
)


def split_reply(text: str) -> Pieces:
    """``text`` (lines ended by LF) as new words, quotation and signature. Linear in its length."""
    lines = text.replace("\r\n", "\n").split("\n")
    new: list[str] = []
    quoted: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.startswith((">", " >")):
            quoted.append(line)
            index += 1
        elif height := _attribution_height(lines, index):
            below = next((other for other in lines[index + height : index + height + 3] if other.strip()), "")
            if not below.lstrip().startswith(">"):  # the whole rest is the old message, without marks
                quoted.extend(lines[index:])
                break
            quoted.extend(lines[index : index + height])
            index += height
        elif _RULER.match(line) or _is_header_block(lines, index):
            quoted.extend(lines[index:])
            break
        else:
            new.append(line)
            index += 1
    words, signature = _cut_signature(new)
    return Pieces("\n".join(words).strip("\n "), "\n".join(quoted).strip("\n "), "\n".join(signature).strip("\n "))


def _attribution_height(lines: list[str], index: int) -> int:
    """How many lines an attribution that starts here takes; 0 when none does."""
    if not _ATTRIBUTION_START.match(lines[index]):
        return 0
    joined = ""
    for height, line in enumerate(lines[index : index + MAX_ATTRIBUTION_LINES], 1):
        joined += " " + line[:MAX_ATTRIBUTION_CHARS]
        if not line.strip() or len(joined) > MAX_ATTRIBUTION_CHARS:
            return 0
        if line.rstrip().endswith((":", "：")):
            return height if _ATTRIBUTION_END.search(joined) else 0
    return 0


def _is_header_block(lines: list[str], index: int) -> bool:
    # Two header lines may stand in a letter by chance, three in a row hardly.
    return all(_HEADER_LINE.match(line[:200]) for line in lines[index : index + 3]) and index + 3 <= len(lines)


def _cut_signature(lines: list[str]) -> tuple[list[str], list[str]]:
    last = max((index for index, line in enumerate(lines) if line.strip()), default=-1)
    for index in range(last, max(last - MAX_SIGNATURE_LINES, -1), -1):
        if _DASHES.match(lines[index]):
            return lines[:index], lines[index:]
    if last >= 0 and _SENT_FROM.match(lines[last]) and len(lines[last]) < 100:
        return lines[:last], lines[last:]
    return lines, []


# Elements that hold the quotation whole.
_QUOTE_ELEMENT = re.compile(
    r"""<(div|blockquote|table)\b[^<>]{0,400}(?:class=["']?[^"'<>]{0,100}\b(?:gmail_quote|yahoo_quoted|protonmail_quote|tutanota_quote)
      |\btype=["']?cite|name=["']?quote\b)""",
    re.IGNORECASE | re.VERBOSE,
)
# Marks behind which everything is quotation.
_QUOTE_BELOW = re.compile(
    r"""<(?:div|hr|p)\b[^<>]{0,400}(?:id=["']?(?:divRplyFwdMsg|appendonsend|stopSpelling|reply-intro)
      |class=["']?(?:OutlookMessageHeader|moz-cite-prefix)
      |style=["'][^"'<>]{0,200}border-top:\s?solid\ \#(?:E1E1E1|B5C4DF)\ 1\.0pt)""",
    re.IGNORECASE | re.VERBOSE,
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})\b[^<>]{0,2000}>")
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)


def split_html_reply(html: str) -> tuple[str, str]:
    """``html`` as new words and quotation. Open elements are closed where it is cut. Linear in its length."""
    element, below = _QUOTE_ELEMENT.search(html), _QUOTE_BELOW.search(html)
    if element is None and below is None:
        return html, ""
    if below is not None and (element is None or below.start() < element.start()):
        start, end = below.start(), len(html)
    else:
        assert element is not None  # one of the two was found, and not ``below`` first
        start, end = element.start(), _element_end(html, element.start(), element[1].lower())
    if end == len(html):
        return html[:start] + "".join(f"</{name}>" for name in reversed(_open_at(html, start))), html[start:]
    return html[:start] + html[end:], html[start:end]


def _element_end(html: str, start: int, name: str) -> int:
    depth = 0
    for tag in _TAG.finditer(html, start):
        if tag[2].lower() == name:
            depth += -1 if tag[1] else 1
            if depth == 0:
                return tag.end()
    return len(html)


def _open_at(html: str, end: int) -> list[str]:
    opened: list[str] = []
    for tag in _TAG.finditer(html, 0, end):
        name = tag[2].lower()
        if not tag[1] and name not in _VOID and not tag[0].endswith("/>"):
            if len(opened) < MAX_OPEN_TAGS:
                opened.append(name)
        elif tag[1] and name in opened[-20:]:
            while opened.pop() != name:
                pass
    return opened
