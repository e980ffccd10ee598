"""A person's operating-system account: its name, made from any workbench name, and its home."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from labwright.api.errors import Unavailable

PREFIX = "lw-"
# useradd takes at most 32 characters; the slug has what the prefix leaves.
_SAFE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_SAFE = 24


@dataclass(frozen=True)
class Account:
    """Who a person's processes run as. `user` is None when nothing is switched (started without root)."""

    slug: str
    home: Path
    user: str
    uid: int
    gid: int


def slug_for(name: str) -> str:
    """A folder and account name for a person, stable and never shared by two names.

    Plain lower-case names stay as they are; anything else (e-mail addresses, capitals, long names) becomes a readable
    part and a hash. A plain name never holds two hyphens in a row, so the two kinds cannot meet.
    """
    if len(name) <= MAX_SAFE and _SAFE.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:14]
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:10].strip("-")
    return f"{readable or 'x'}--{digest}"


def account_number(name: str) -> int | None:
    """The number of the account that a person's processes run as, when it has been made."""
    try:
        return pwd.getpwnam(PREFIX + slug_for(name)).pw_uid
    except KeyError:
        return None


def ensure_account(name: str, homes: Path, *, by_user: bool) -> Account:
    """The person's account and home (0700), made at first use. Safe to call again."""
    slug = slug_for(name)
    home = homes / slug
    entry = _ensure_user(f"{PREFIX}{slug}", home) if by_user else pwd.getpwuid(os.getuid())
    # `homes` can be written by this process's user alone, so nobody can put a link in the way.
    home.mkdir(mode=0o700, exist_ok=True)
    if by_user and home.stat().st_uid != entry.pw_uid:
        _hand_over(home, home.stat().st_uid, entry)
    home.chmod(0o700)
    return Account(slug, home, entry.pw_name, entry.pw_uid, entry.pw_gid)


def _hand_over(home: Path, former: int, entry: pwd.struct_passwd) -> None:
    """Give a home to an account that was made anew with another number: all that the former number owned there."""
    for _folder, names, files, descriptor in os.fwalk(home, follow_symlinks=False):
        for name in (*names, *files):
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid == former:
                os.chown(name, entry.pw_uid, entry.pw_gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(home, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _ensure_user(user: str, home: Path) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        create_system_user(user, home, login_shell="/bin/bash")
        return pwd.getpwnam(user)


def create_system_user(user: str, home: Path, *, login_shell: str) -> None:
    """Add an account with a group of its own and no password. Its home is made by the caller."""
    command = ["useradd", "--no-create-home", "--user-group", "--home-dir", str(home), "--shell", login_shell]
    command += ["--comment", "Labwright", user]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode not in (0, 9):  # 9: somebody else has just made it
        raise Unavailable(
            f"The account {user}",
            remedy=f"It could not be made: {done.stderr.strip()} Create it with 'useradd {user}' and try again.",
        )
