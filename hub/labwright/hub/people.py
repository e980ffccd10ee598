"""The people of an embedded workbench: names, groups and password hashes, in one file of the hub's.

Passwords are always generated here and never chosen or stored: the file holds scrypt hashes (RFC 7914).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from labwright.api.errors import Conflict, InvalidRequest, LabwrightError, NotFound
from labwright.hub.private_file import write_private

ADMINS = "admins"  # the group of the first administrator
FIRST_ADMIN = "admin"
_COST = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MB and about 40 ms for each try
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,62}")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# No look-alikes: it is typed by hand once.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class DamagedPeople(LabwrightError):
    """The file of people cannot be read."""

    code = "damaged-people"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The file of people {path} is damaged.",
            remedy=f"Put back a copy. Without one remove it: 'labwright up' makes a new '{FIRST_ADMIN}' and says the "
            "password; the others have to be added again.",
        )


@dataclass(frozen=True)
class Person:
    name: str
    groups: tuple[str, ...]
    salt: str
    hash: str


def generate_password() -> str:
    """Four groups of five: 100 bits, easy to type."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def hash_password(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **_COST).hex()


class People:
    """The file `people.json`. Written whole and atomically, under a lock; owned by whoever owns its folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, Person]:
        if not self._path.exists():
            return {}
        try:
            stored = json.loads(self._path.read_text())
            return {item["name"]: Person(**{**item, "groups": tuple(item["groups"])}) for item in stored}
        except (ValueError, TypeError, KeyError):
            raise DamagedPeople(self._path) from None

    def check(self, name: str, password: str) -> Person | None:
        """The person, when the password is right. An unknown name takes as long as a wrong password."""
        person = self.all().get(name)
        salt = person.salt if person else "00" * 16
        same = hmac.compare_digest(hash_password(password, salt), person.hash if person else "")
        return person if same else None

    def add(self, name: str, groups: tuple[str, ...]) -> str:
        """A new person; the answer is the generated password, which is not kept anywhere."""
        _check_names(name, groups)
        with self._changing() as people:
            if name in people:
                raise Conflict(f"There is already a '{name}'.", remedy="Use 'labwright people password' or 'groups'.")
            people[name], password = _with_password(name, groups)
        return password

    def renew_password(self, name: str) -> str:
        with self._changing() as people:
            people[name], password = _with_password(name, _existing(people, name).groups)
        return password

    def set_groups(self, name: str, groups: tuple[str, ...]) -> None:
        _check_names(name, groups)
        with self._changing() as people:
            old = _existing(people, name)
            people[name] = Person(name, groups, old.salt, old.hash)
            _check_admins(people, name, old)

    def remove(self, name: str) -> None:
        with self._changing() as people:
            old = _existing(people, name)
            del people[name]
            _check_admins(people, name, old)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Person]]:
        owner = self._path.parent.stat()
        with (self._path.parent / ".people.lock").open("w") as lock:
            os.fchmod(lock.fileno(), 0o600)
            if os.geteuid() == 0:
                os.fchown(lock.fileno(), owner.st_uid, owner.st_gid)
            fcntl.flock(lock, fcntl.LOCK_EX)
            people = self.all()
            yield people
            write_private(self._path, json.dumps([asdict(person) for person in people.values()], indent=1))


def _with_password(name: str, groups: tuple[str, ...]) -> tuple[Person, str]:
    password, salt = generate_password(), secrets.token_hex(16)
    return Person(name, groups, salt, hash_password(password, salt)), password


def _existing(people: dict[str, Person], name: str) -> Person:
    if name not in people:
        raise NotFound("person", name)
    return people[name]


def _check_admins(people: dict[str, Person], name: str, old: Person) -> None:
    """Refuse a change that takes the last administrator away; `people` are those after it."""
    if ADMINS in old.groups and not any(ADMINS in person.groups for person in people.values()):
        raise Conflict(f"'{name}' is the last administrator.", remedy="Make another one first.")


def _check_names(name: str, groups: tuple[str, ...]) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{name}' cannot be a name.", remedy="Use small letters, digits and . _ @ + -, at most 63 of them."
        )
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise InvalidRequest(f"'{group}' cannot be a group.", remedy="Use letters, digits and . _ -")
