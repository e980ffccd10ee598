"""The folder of a fork server: who may enter it, who starts a server in it, and that it goes with the server.

Whoever starts a server or takes its folder away holds the folder's `lock`. A folder may have been taken away
and made anew while somebody waited for its lock: `locked` sees to it that the lock is the folder's present one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from labwright.kernels.environment import launch_mark
from labwright.kernels.errors import ForkServerError

# What a server and its kernels for Lab put there. Somebody who chose the folder may keep other things in it.
OURS = ("socket", "pid", "sessions", "practice", "log", "k-*", "lock")
OF_LAUNCHES = "kernels-"


def default_directory() -> Path:
    """One folder per user and environment, that only the user can enter.

    And per launch: what a launch may use and when it ends holds for its fork server too.
    """
    which = "\0".join([sys.prefix, sys.executable, *launch_mark().values()])
    environment = hashlib.sha256(which.encode()).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "labwright" if runtime else Path(f"/tmp/labwright-{os.geteuid()}")  # noqa: S108
    return base / f"{OF_LAUNCHES}{environment}"


def make_private(directory: Path) -> None:
    """Make `directory`, or make sure that it is ours alone: another user may have been first in /tmp."""
    for folder in (directory.parent, directory):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
        except OSError as error:
            raise ForkServerError(f"{folder} cannot be made: {error.strerror}; set XDG_RUNTIME_DIR.") from error
        if status.st_uid != os.geteuid():
            raise ForkServerError(f"{folder} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours.")
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else starts a server in `directory` meanwhile, which is made if it is not there."""
    while (lock := take_lock(directory)) is None:
        pass
    with lock:
        yield


def take_lock(directory: Path) -> IO[str] | None:
    """The folder's lock, taken; None if the folder was taken away meanwhile."""
    make_private(directory)
    try:
        lock = (directory / "lock").open("w")
    except FileNotFoundError:
        return None
    fcntl.flock(lock, fcntl.LOCK_EX)
    if is_present(lock, directory):
        return lock
    lock.close()
    return None


def is_present(lock: IO[str], directory: Path) -> bool:
    """Whether it is still this lock that stands in the folder."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (directory / "lock").stat())
    except FileNotFoundError:
        return False


def connect(directory: Path) -> socket.socket | None:
    """A connection to the server of this folder, if one listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(directory / "socket"))
    except OSError:
        sock.close()
        return None
    return sock


def take_away(directory: Path) -> None:
    """Remove what a server left there, and the folder if it then is empty. For whoever holds the lock."""
    for pattern in OURS:
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


def abandoned(directory: Path) -> Iterator[Path]:
    """Folders next to this one whose server was killed; each is locked until the next is asked for."""
    if not directory.name.startswith(OF_LAUNCHES):
        return
    for folder in directory.parent.glob(f"{OF_LAUNCHES}*"):
        if folder == directory:
            continue
        # An empty one was made for a kernel that then got no server. Whoever is just making it makes it again.
        with contextlib.suppress(OSError):
            folder.rmdir()
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            # One that is locked has somebody who starts or ends a server there.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not is_present(lock, folder):
                continue
            if sock := connect(folder):
                sock.close()
            else:
                yield folder
