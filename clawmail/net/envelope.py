"""An envelope in a client's words: MAIL and RCPT with the parameters that the host knows (RFC 5321, 1870, 6152, 3461).

What a host does not offer is left out where nothing is lost (SIZE, DSN) and said to be impossible where it would be
(8-bit content, an address beyond ASCII, REQUIRETLS).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clawmail.net.content import Content
from clawmail.protocol.replies import Reply, our_reply

_CRLF_OR_NUL = re.compile(r"[\r\n\0]")
# xtext, RFC 3461 section 4
_NOT_XCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")


@dataclass(frozen=True, slots=True)
class RecipientLine:
    """One RCPT."""

    address: str
    #: NOTIFY of RFC 3461: () is the default, ("NEVER",) or of SUCCESS, FAILURE, DELAY.
    notify: tuple[str, ...] = ()
    #: ORCPT as it came, "rfc822;…", already in xtext; "" leaves it out.
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who gets a message from whom, and what the sender asked of its transport."""

    #: "" is the null sender.
    mail_from: str
    recipients: tuple[RecipientLine, ...]
    #: RET of RFC 3461: "FULL", "HDRS" or "".
    ret: str = ""
    #: ENVID in plain characters; written as xtext.
    envid: str = ""
    #: the message was made with SMTPUTF8 (RFC 6531).
    smtputf8: bool = False
    #: RFC 8689.
    require_tls: bool = False

    @property
    def international(self) -> bool:
        """It takes a host with SMTPUTF8."""
        return (
            self.smtputf8 or not self.mail_from.isascii() or any(not line.address.isascii() for line in self.recipients)
        )


class Capabilities:
    """What a host offered in its EHLO reply."""

    def __init__(self, ehlo: Reply | None) -> None:
        """``ehlo``: the reply; None after HELO, which offers nothing."""
        words = [line.upper().split() for line in ehlo.lines[1:]] if ehlo else []
        self.offered: dict[str, list[str]] = {line[0]: line[1:] for line in words if line}
        self.pipelining = "PIPELINING" in self.offered
        self.chunking = "CHUNKING" in self.offered
        self.eight_bit = "8BITMIME" in self.offered
        self.smtputf8 = "SMTPUTF8" in self.offered
        self.dsn = "DSN" in self.offered
        self.require_tls = "REQUIRETLS" in self.offered
        self.starttls = "STARTTLS" in self.offered
        size = self.offered.get("SIZE", [])
        self.size = "SIZE" in self.offered
        #: most octets of a message; 0: no limit is known (RFC 1870 section 4).
        self.max_octets = int(size[0]) if size and size[0].isascii() and size[0].isdigit() else 0


def impossible(envelope: Envelope, content: Content, host: Capabilities) -> Reply | None:
    """Why this host cannot take this message at all; None if it may."""
    if host.max_octets and content.size > host.max_octets:
        return our_reply(552, "5.3.4", f"{content.size} octets are more than the host's limit of {host.max_octets}")
    if envelope.require_tls and not host.require_tls:
        # RFC 8689 section 4.2.1
        return our_reply(550, "5.7.30", "the sender requires TLS all the way (REQUIRETLS), which the host lacks")
    if envelope.international and not host.smtputf8:
        # RFC 6531 section 3.5
        return our_reply(550, "5.6.7", "the address or header needs SMTPUTF8, which the host lacks")
    if content.eight_bit and not (host.eight_bit or host.smtputf8):
        # RFC 6152 section 3: convert or return; converting would break every signature.
        return our_reply(554, "5.6.3", "the message is 8-bit, and the host takes 7-bit only (no 8BITMIME)")
    unfit = [line.address for line in envelope.recipients if _CRLF_OR_NUL.search(line.address)]
    if unfit or _CRLF_OR_NUL.search(envelope.mail_from):
        return our_reply(553, "5.1.3", "the address holds a line end")
    return None


def mail_command(envelope: Envelope, content: Content, host: Capabilities) -> bytes:
    """MAIL FROM with its parameters."""
    words = [f"MAIL FROM:<{envelope.mail_from}>"]
    if host.size:
        words.append(f"SIZE={content.size}")
    if content.eight_bit and host.eight_bit:
        words.append("BODY=8BITMIME")
    if envelope.international:
        words.append("SMTPUTF8")
    if envelope.require_tls:
        words.append("REQUIRETLS")
    if host.dsn and envelope.ret:
        words.append(f"RET={envelope.ret}")
    if host.dsn and envelope.envid:
        words.append(f"ENVID={xtext(envelope.envid)}")
    return " ".join(words).encode() + b"\r\n"


def rcpt_command(line: RecipientLine, host: Capabilities) -> bytes:
    """RCPT TO with its parameters."""
    words = [f"RCPT TO:<{line.address}>"]
    if host.dsn and line.notify:
        words.append("NOTIFY=" + ",".join(line.notify))
    if host.dsn and line.orcpt:
        words.append(f"ORCPT={line.orcpt}")
    return " ".join(words).encode() + b"\r\n"


def xtext(text: str) -> str:
    """Characters outside xchar as "+" and two hex digits (RFC 3461 section 4)."""
    return _NOT_XCHAR.sub(lambda found: "".join(f"+{octet:02X}" for octet in found[0].encode()), text)
