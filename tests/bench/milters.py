"""What Postfix needs at its side to do as we do: OpenDKIM to sign; policyd-spf, OpenDKIM and OpenDMARC to judge.

Those that judge read /etc/resolv.conf, which knows no ports: they get one of their own in a mount namespace
(unshare(1)), and a name server on port 53 of a loopback address that nobody else has. OpenDKIM has the keys in a file
and asks nobody: with its own resolver, libunbound, Debian's 2.11 crashes under load.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.bench import mail
from tests.bench.figures import program
from tests.bench.house import scratch
from tests.bench.servers import listens, running
from tests.support.dns_server import DnsServerThread
from tests.support.postfix import Postfix, run_postfix

NAMESERVER = "127.0.53.53"
NAME = f"mx.{mail.DOMAIN}"
#: programs, and what brings them.
PROGRAMS = (
    ("opendkim", "Debian: apt-get install opendkim"),
    ("opendmarc", "Debian: apt-get install opendmarc"),
    ("policyd-spf", "Debian: apt-get install postfix-policyd-spf-python"),
)

OWN_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
SIGNING = f"""
Socket local:{{home}}/opendkim
UMask 000
Mode s
Domain {mail.DOMAIN}
Selector s1
KeyFile {{home}}/key.pem
InternalHosts 127.0.0.0/8
Canonicalization relaxed/relaxed
RequireSafeKeys no
Background no
"""
#: what did not pass is refused, so that nothing is measured which was not judged.
OPENDKIM = f"""
Socket local:{{home}}/opendkim
UMask 000
Mode v
AuthservID {NAME}
TestPublicKeys {{home}}/keys
On-Default reject
On-NoSignature reject
Background no
"""
OPENDMARC = f"""
Socket local:{{home}}/opendmarc
UMask 000
AuthservID {NAME}
TrustedAuthservIDs {NAME}
IgnoreHosts {{home}}/ignored
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
RejectFailures true
Background no
"""
POLICYD_SPF = f"""
debugLevel = 0
TestOnly = 1
HELO_reject = False
Mail_From_reject = Softfail
skip_addresses = 192.0.2.1/32
Header_Type = AR
Authserv_Id = {NAME}
"""
SETTINGS = """
smtpd_recipient_restrictions = check_policy_service unix:private/policyd-spf
policyd-spf_time_limit = 3600
smtpd_milters = unix:{home}/opendkim, unix:{home}/opendmarc
milter_default_action = tempfail
"""
SERVICE = "policyd-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd-spf {home}/policyd-spf.conf\n"
IGNORED = "192.0.2.1\n"


@asynccontextmanager
async def signing_milter() -> AsyncIterator[tuple[str, int]]:
    """OpenDKIM with an RSA key of 2,048 bits: the setting that has Postfix use it, and its process id."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    async with scratch() as home:
        (home / "key.pem").write_bytes(key)
        (home / "opendkim.conf").write_text(SIGNING.format(home=home))
        command = (program("opendkim"), "-f", "-x", str(home / "opendkim.conf"))
        async with running(command, listens(home / "opendkim")) as pid:
            yield f"smtpd_milters = unix:{home}/opendkim\n", pid


@asynccontextmanager
async def judging_postfix(
    zone: mail.Zone, transports: dict[str, str], settings: str = ""
) -> AsyncIterator[tuple[Postfix, list[int]]]:
    """A Postfix that judges, and the process ids of its two milters, which are not among its children."""
    signers = [name for name in zone if "._domainkey." in name]
    with DnsServerThread(zone, host=NAMESERVER, port=53):
        async with scratch() as home, AsyncExitStack() as stack:
            (home / "resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
            (home / "keys").write_text("".join(f"{name} {''.join(zone[name]['TXT'])}\n" for name in signers))
            (home / "ignored").write_text(IGNORED)
            for name, text in (("opendkim", OPENDKIM), ("opendmarc", OPENDMARC), ("policyd-spf", POLICYD_SPF)):
                (home / f"{name}.conf").write_text(text.format(home=home))
            apart = ("unshare", "--mount", "sh", "-c", OWN_RESOLVER, str(home / "resolv.conf"))
            milters = []
            for name, options in (("opendkim", ("-f", "-x")), ("opendmarc", ("-f", "-c"))):
                command = (*apart, program(name), *options, str(home / f"{name}.conf"))
                milters.append(await stack.enter_async_context(running(command, listens(home / name))))
            server = await stack.enter_async_context(
                run_postfix(
                    transports,
                    settings + SETTINGS.format(home=home),
                    services=SERVICE.format(home=home),
                    launcher=apart,
                )
            )
            yield server, milters
