"""Drivers: one small adapter per kind of source, found by the entry point group `labwright.drivers`.

The class is imported in the data service (its attributes and `check` only) and opened in the connection's own worker
process, the one place where the credential and the vendor's library meet. So a driver's module imports that library
in `open`, not at its top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from labwright.api.errors import InvalidRequest

if TYPE_CHECKING:
    import pyarrow as pa


class SourceError(Exception):
    """The source refused a statement: its message without the statement, and where (1-based) if it says so."""

    def __init__(self, message: str, *, position: int | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.position = position
        self.hint = hint


class SourceUnreachable(Exception):
    """The source cannot be reached, or may not be used as it is set up; the text is for people."""


@dataclass(frozen=True)
class SourceTable:
    schema: str
    name: str
    kind: str
    rows: int | None
    columns: Sequence[tuple[str, str, bool]]  # name, type, nullable


@dataclass(frozen=True)
class SourceCatalog:
    """What the source's role can see. `functions`: names that cannot reach beyond their arguments."""

    tables: Sequence[SourceTable]
    functions: frozenset[str] = field(default_factory=frozenset)


class Running(Protocol):
    """A statement that was begun."""

    def begin(self) -> pa.RecordBatchReader:
        """Execute; batches arrive while the source still works."""
        ...

    def cancel(self) -> None:
        """End it in the source, from any thread, at any time."""
        ...

    def finish(self, *, clean: bool) -> None:
        """Give back what it used. `clean`: it was read to its end and never cancelled."""
        ...


class Source(Protocol):
    def catalog(self) -> SourceCatalog: ...

    def prepare(self, sql: str, parameters: Sequence[Any]) -> Running:
        """A statement in the driver's dialect with its parameters in order."""
        ...


class Driver(Protocol):
    title: ClassVar[str]
    dialect: ClassVar[str]  # sqlglot's
    schema: ClassVar[str]  # where unqualified names are looked up
    options: ClassVar[Mapping[str, str]]  # the only ones that may be set, with a word on each
    placeholder: ClassVar[str]  # "$" numbered

    @classmethod
    def check(cls, options: Mapping[str, str]) -> None:
        """Raise `InvalidRequest` for options that cannot work or may not be set."""
        ...

    @classmethod
    def open(cls, options: Mapping[str, str], secret: str | None, *, timeout_seconds: float) -> Source: ...


def names() -> list[str]:
    return sorted(entry.name for entry in entry_points(group="labwright.drivers"))


def find(name: str) -> type[Driver]:
    for entry in entry_points(group="labwright.drivers"):
        if entry.name == name:
            driver: type[Driver] = entry.load()
            return driver
    raise InvalidRequest(f"There is no driver '{name}'.", remedy=f"There are: {', '.join(names())}.", driver=name)


def check_options(driver: type[Driver], options: Mapping[str, str], required: Sequence[str] = ()) -> None:
    """Only declared options, and all that are needed."""
    if unknown := sorted(set(options) - set(driver.options)):
        raise InvalidRequest(
            f"The option '{unknown[0]}' may not be set for {driver.title}.",
            remedy=f"It takes: {', '.join(sorted(driver.options))}.",
            option=unknown[0],
        )
    for name in required:
        if not options.get(name):
            raise InvalidRequest(f"{driver.title} needs the option '{name}'.", option=name)
    for name, value in options.items():
        if any(ord(letter) < 32 for letter in value):
            raise InvalidRequest(f"The option '{name}' has a control character in it.", option=name)
