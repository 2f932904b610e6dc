"""Judging and signing alone: messages a second on one core, beside what OpenSSL needs for the bare RSA operation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from clawmail.core.authenticate import authenticate
from clawmail.net.resolver import DnsResolver
from clawmail.protocol.authres import results_field
from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign
from clawmail.protocol.dkim.verify import verify_dkim
from clawmail.protocol.headers import split_message
from clawmail.protocol.mime.parse import parse_message
from tests.bench import mail
from tests.bench.figures import Figure, Goal, Run, at_least, at_most
from tests.bench.machine import MIB, Spread
from tests.support.dns_server import DnsServerThread

GROUP = "judging"
VERIFY_GOAL, SIGN_GOAL, LARGE_GOAL = at_least(4000), at_least(2500), at_most(0.25)
WARM_UP = 3


def per_second(rounds: int, count: int, work: Callable[[], object]) -> Spread:
    """How often a second ``work()`` runs."""
    values = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            work()
        values.append(count / (time.perf_counter() - began))
    return Spread.of(values)


async def verified_per_second(rounds: int, count: int) -> Spread:
    """SPF, DKIM (RSA-2048), DMARC and ARC of a 5 KB message and the field that tells of them; warm DNS cache."""
    raw, zone = mail.signed_with_zone()
    values = []
    with DnsServerThread(zone) as dns:
        resolver = DnsResolver([dns.nameserver])
        for number in range(rounds + 1):
            began = time.perf_counter()
            for _ in range(count if number else WARM_UP):
                await _judge(resolver, raw)
            if number:
                values.append(count / (time.perf_counter() - began))
        await resolver.close()
    return Spread.of(values)


async def _judge(resolver: DnsResolver, raw: bytes) -> None:
    verdict = await authenticate(
        resolver,
        split_message(raw),
        ip=ip_address("127.0.0.1"),
        mail_from=mail.SENDER,
        helo=mail.SENDER_DOMAIN,
        hostname="mx.bench.test",
        now=time.time(),
    )
    assert (verdict.dmarc.result, verdict.dkim_result) == ("pass", "pass")
    results_field(verdict.authentication_results("mx.bench.test"))


async def large_verified_seconds(rounds: int) -> Spread:
    """DKIM of a 25 MiB message, off the loop."""
    raw, zone = mail.signed_with_zone(25 * MIB)
    values = []
    with DnsServerThread(zone) as dns:
        resolver = DnsResolver([dns.nameserver])
        for number in range(rounds + 1):
            began = time.perf_counter()
            (result,) = await verify_dkim(await asyncio.to_thread(split_message, raw), resolver, now=time.time())
            assert result.result == "pass"
            if number:
                values.append(time.perf_counter() - began)
        await resolver.close()
    return Spread.of(values)


async def run(run: Run) -> None:
    """Every figure of this file."""
    rounds, count = run.rounds, run.pick(200, 2000)

    def record(name: str, unit: str, spread: Spread, who: str = "clawmail", goal: Goal | None = None) -> None:
        run.record(Figure(GROUP, name, unit, spread, who, goal))

    verified = await verified_per_second(rounds, count)
    bare = rsa.generate_private_key(65537, 2048)
    signature = bare.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    public = bare.public_key()
    once = per_second(rounds, count, lambda: public.verify(signature, b"x", padding.PKCS1v15(), hashes.SHA256()))
    record("SPF, DKIM, DMARC and ARC judged", "messages/s", verified, goal=VERIFY_GOAL)
    record("RSA-2048 verification alone", "operations/s", once, "OpenSSL")

    private, _ = generate_rsa_key()
    key, raw, now = load_signing_key(mail.SENDER_DOMAIN, "s1", private), mail.unsigned(), time.time()
    signed = per_second(rounds, count, lambda: sign(raw, [key], now=now))
    once = per_second(rounds, count, lambda: bare.sign(b"x", padding.PKCS1v15(), hashes.SHA256()))
    record("signed with RSA-2048", "messages/s", signed, goal=SIGN_GOAL)
    record("RSA-2048 signature alone", "operations/s", once, "OpenSSL")

    record("MIME read", "messages/s", per_second(rounds, count, lambda: parse_message(raw)))
    record("25 MiB verified", "s", await large_verified_seconds(rounds), goal=LARGE_GOAL)
