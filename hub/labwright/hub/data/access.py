"""Who may read what: grants judged by groups and patterns; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase

from labwright.api.connections import Grant

EVERYONE = "everyone"


def in_force(grants: Iterable[Grant], connection: str, groups: frozenset[str], now: datetime) -> list[Grant]:
    """The grants on a connection that hold for a member of `groups` now."""
    return [
        grant
        for grant in grants
        if grant.connection == connection
        and (grant.group == EVERYONE or grant.group in groups)
        and (grant.until is None or grant.until > now)
    ]


def may_read(grants: Iterable[Grant], schema: str, table: str) -> bool:
    """Whether one of the grants (already chosen by `in_force`) gives this table. Patterns are * and ?, with case."""
    return any(_any(grant.schemas, schema) and _any(grant.tables, table) for grant in grants)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
