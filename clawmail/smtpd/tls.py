"""Certificates of the door: the operator's, one for each MX name by SNI, or a self-signed one that is always there.

STARTTLS between mail servers is opportunistic (RFC 7435): most senders take any certificate, so a self-signed one is
far better than none, while DANE and MTA-STS need the real one for the name they looked up. Files are looked at every
few seconds and loaded anew when they changed, so that renewals need no restart; a file that does not load leaves the
certificates in use.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from clawmail.base.log import logger
from clawmail.base.settings import Smtp
from clawmail.smtpd.selfsigned import self_signed

#: seconds between two looks at the files.
WATCH_SECONDS = 2.0
#: pairs of one directory that are loaded.
MAX_PAIRS = 2_000
#: names that are written into the log.
LOGGED_NAMES = 20

log = logger("smtp")


class Pair(NamedTuple):
    """A certificate chain and its key; the same file when both are in one."""

    chain: Path
    key: Path


class Certificates:
    """What TLS handshakes are answered with."""

    def __init__(self, settings: Smtp, *, hostname: str, data_dir: Path) -> None:
        self._settings = settings
        self._hostname = hostname.lower()
        self._data_dir = data_dir
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._seen: tuple[object, ...] = ()
        self._context: ssl.SSLContext | None = None
        self._complaint = ""

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake; SNI may choose another certificate in its course."""
        if self._context is None:
            raise RuntimeError("certificates are loaded before the door opens")
        return self._context

    def load(self) -> None:
        """Reads everything and tells of it.

        Raises OSError, which names the files, if the main certificate cannot be used.
        """
        seen = self._look()
        by_name = self._load_directory()
        chain: Path | None = None
        if self._settings.tls_cert:
            chain = Path(self._settings.tls_cert)
            main = self._make(Pair(chain, Path(self._settings.tls_key)))
        elif (found := _named(by_name, self._hostname)) is not None:
            main = found
        else:
            chain = self_signed(self._data_dir, self._hostname)
            main = self._make(Pair(chain, chain))
        main.sni_callback = self._choose
        self._by_name, self._context, self._seen = by_name, main, seen
        self._tell(chain)

    def _tell(self, main: Path | None) -> None:
        """Says which names there are certificates for; ``main`` is the main one, unless it is in ``tls_dir``."""
        try:
            own = [] if main is None else _names(main)
        except ValueError:  # OpenSSL has taken it, so it is used; what is told of it must not stand in the way
            own = []
        names = sorted({*self._by_name, *own})
        made_here = main is not None and not self._settings.tls_cert
        log.info("certificates loaded", names=names[:LOGGED_NAMES], count=len(names), self_signed=made_here)

    def reload(self) -> None:
        """Reads everything again; what does not load is said in the log and changes nothing."""
        try:
            self.load()
        except (OSError, ValueError) as error:
            log.error("certificates not reloaded", problem=str(error))

    async def watch(self) -> None:
        """Reloads when a file has changed, for as long as the door is open."""
        failed: tuple[object, ...] | None = None
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            seen = await asyncio.to_thread(self._look)
            if seen not in (self._seen, failed):
                await asyncio.to_thread(self.reload)
                failed = None if self._seen == seen else seen

    # --- contexts ----------------------------------------------------------------------------------------------

    def _make(self, pair: Pair) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if not self._settings.tls_session_tickets:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        try:
            context.load_cert_chain(pair.chain, pair.key)
        except OSError as error:  # which does not say of which file it speaks
            raise OSError(f"certificate {pair.chain} with key {pair.key}: {error.strerror or error}") from error
        return context

    def _choose(self, socket: ssl.SSLSocket | ssl.SSLObject, name: str | None, _main: ssl.SSLContext) -> None:
        """SNI (RFC 6066 section 3): a name that is not known gets the main certificate, as RFC 7672 8.1 advises."""
        found = _named(self._by_name, name.lower()) if name else None
        if found is not None:
            socket.context = found

    def _load_directory(self) -> dict[str, ssl.SSLContext]:
        by_name: dict[str, ssl.SSLContext] = {}
        for pair in self._pairs():
            try:
                context = self._make(pair)
                names = _names(pair.chain)
            except (OSError, ValueError) as error:
                log.warning("certificate not usable", file=str(pair.chain), problem=str(error))
                continue
            for name in names:
                by_name.setdefault(name, context)
        return by_name

    # --- files -------------------------------------------------------------------------------------------------

    def _pairs(self) -> list[Pair]:
        """The pairs of ``tls_dir``, in the forms that certbot, Caddy and lego leave them."""
        if not self._settings.tls_dir:
            return []
        found = []
        try:
            for entry in sorted(Path(self._settings.tls_dir).iterdir()):
                pair = _pair_in(entry) if entry.is_dir() else _pair_of(entry)
                if pair is not None:
                    found.append(pair)
        except OSError as error:
            self._complain(str(error))
        return found[:MAX_PAIRS]

    def _complain(self, problem: str) -> None:
        """Says what is wrong with the directory, once, not every few seconds."""
        if problem != self._complaint:
            self._complaint = problem
            log.warning("certificate directory not readable", directory=self._settings.tls_dir, problem=problem)

    def _look(self) -> tuple[object, ...]:
        """What the files look like: equal as long as none of them changed."""
        files = [Path(name) for name in (self._settings.tls_cert, self._settings.tls_key) if name]
        for pair in self._pairs():
            files += pair
        return tuple(_signature(files))


def _signature(files: list[Path]) -> Iterator[object]:
    for file in files:
        try:
            status = file.stat()
        except OSError:
            yield file, None
        else:
            yield file, status.st_mtime_ns, status.st_size, status.st_ino


def _pair_of(file: Path) -> Pair | None:
    """NAME.pem (or .crt) with NAME.key or NAME-key.pem beside it, or with the key inside."""
    if file.suffix not in (".pem", ".crt") or file.stem.endswith(("-key", ".key")):
        return None
    for key in (
        file.with_suffix(".key"),
        file.with_name(f"{file.stem}-key.pem"),
        file.with_name(f"{file.stem}.key.pem"),
    ):
        if key.exists():
            return Pair(file, key)
    return Pair(file, file) if b"PRIVATE KEY" in file.read_bytes() else None


def _pair_in(folder: Path) -> Pair | None:
    """NAME/fullchain.pem and privkey.pem (certbot), or NAME/NAME.crt and NAME.key (Caddy)."""
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    if chain.exists() and key.exists():
        return Pair(chain, key)
    for suffix in (".crt", ".pem"):
        file = folder / f"{folder.name}{suffix}"
        if file.exists():
            return _pair_of(file)
    return None


def _names(chain: Path) -> list[str]:
    """The DNS names a certificate is for, lower case, wildcards included. Raises ValueError if it cannot be read."""
    certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _named(by_name: dict[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """By the name itself, or by a wildcard for its first label (RFC 6125 section 6.4.3)."""
    return by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
