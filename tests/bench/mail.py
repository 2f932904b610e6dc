"""The message every benchmark carries: 5 KB, two texts, DKIM with RSA-2048; and the zone that vouches for it."""

from __future__ import annotations

import base64
import random
import time

from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign

#: names, types and records.
Zone = dict[str, dict[str, list[str]]]

SENDER_DOMAIN = "sender.bench"
SENDER = f"news@{SENDER_DOMAIN}"
DOMAIN = "bench.test"
RECIPIENT = f"agent@{DOMAIN}"
SIZE = 5 * 1024
#: bytes of the two texts, at most: large mail is large by its files.
MOST_TEXT = 64 * 1024
WORDS = ("mail", "server", "queue", "lease", "thread", "inbox", "agent", "answer", "domain", "record", "sign", "commit")


def texts(size: int = SIZE, seed: int = 1) -> tuple[str, str]:
    """A plain text and the same as HTML, about ``size`` bytes together; lines end in CRLF."""
    pick = random.Random(seed)
    lines = [" ".join(pick.choice(WORDS) for _ in range(10)) for _ in range(max(1, size // 150))]
    return "\r\n".join(lines), "".join(f"<p>{line}</p>\r\n" for line in lines)


def unsigned(size: int = SIZE, *, sender: str = SENDER, recipient: str = RECIPIENT, seed: int = 1) -> bytes:
    """A message of about ``size`` bytes: two texts, and what they do not fill is a file in base64."""
    text, html = texts(min(size, MOST_TEXT), seed)
    head = (
        f"From: News <{sender}>\r\nTo: <{recipient}>\r\nSubject: Bench {seed}\r\n"
        f"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <bench-{seed}@{SENDER_DOMAIN}>\r\nMIME-Version: 1.0\r\n"
    )
    both = (
        'Content-Type: multipart/alternative; boundary="b1"\r\n\r\n'
        "--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text + "\r\n"
        "--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>\r\n" + html + "</body></html>\r\n--b1--\r\n"
    )
    if size <= MOST_TEXT:
        return (head + both).encode()
    content = random.Random(seed).randbytes((size - MOST_TEXT) // 78 * 57)  # a line of 76 characters carries 57 octets
    file = base64.encodebytes(content).replace(b"\n", b"\r\n")
    mixed = head + 'Content-Type: multipart/mixed; boundary="b2"\r\n\r\n--b2\r\n' + both + "--b2\r\n"
    mixed += 'Content-Type: application/octet-stream; name="bench.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return mixed.encode() + file + b"--b2--\r\n"


def signed_with_zone(size: int = SIZE, *, networks: tuple[str, ...] = ("127.0.0.0/8",)) -> tuple[bytes, Zone]:
    """The message with its signature, and the DNS zone under which SPF, DKIM and DMARC pass."""
    private, record = generate_rsa_key()
    key = load_signing_key(SENDER_DOMAIN, "s1", private)
    raw = unsigned(size)
    spf = " ".join(f"ip4:{network}" for network in networks)
    zone = {
        SENDER_DOMAIN: {"TXT": [f"v=spf1 {spf} -all"], "A": ["127.0.0.1"], "MX": [f"10 mx.{SENDER_DOMAIN}"]},
        f"s1._domainkey.{SENDER_DOMAIN}": {"TXT": [record]},
        f"_dmarc.{SENDER_DOMAIN}": {"TXT": ["v=DMARC1; p=reject; rua=mailto:dmarc@sender.bench"]},
        f"mx.{SENDER_DOMAIN}": {"A": ["127.0.0.1"]},
    }
    return sign(raw, [key], now=time.time()) + raw, zone
