"""Every function that a real source knows, called: only those that cannot reach beyond their arguments get through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
from postgresql import PostgreSQL

from labwright.api.errors import AccessDenied, BadQuery
from labwright.hub.data.drivers.duckdb import DuckDBSource
from labwright.hub.data.drivers.postgresql import FUNCTIONS, HARMFUL, HARMLESS
from labwright.hub.data.judge import TABLE_FUNCTIONS, Rules, judge

ARGUMENTS = ("", "'a'", "'a', 'b'", "'a', 1, 2", "1, 2", "'a', 'b', 'c', 'd'")
# A type's name that is called casts its argument, no more. (Those of the system's tables, like regclass, look it up.)
CASTS = {"date", "json", "money", "numeric", "time", "timestamp", "timestamptz", "timetz", "xml"}
OUT_OF_REACH = re.compile(r"\b(pg_read_file|pg_ls_dir|lo_import|query_to_xml|nextval|set_config|current_setting)\b")


def calls(name: str) -> Iterator[str]:
    for arguments in ARGUMENTS:
        for called in (name, name.upper(), f'"{name}"'):
            yield f"SELECT {called}({arguments})"
            yield f"SELECT * FROM {called}({arguments}) AS t"
            yield f"SELECT * FROM flights, LATERAL {called}({arguments}) AS {called}(x)"
        yield f"WITH {name}(x) AS (SELECT 1) SELECT {name}({arguments}) FROM {name}"


def let_through(names: set[str], allowed: frozenset[str], dialect: str) -> list[tuple[str, str]]:
    """Statements in which one of `names` is still called after it was judged."""
    rules = Rules("source", dialect, "main", allowed, lambda _, table: table == "flights")
    found = []
    for name in sorted(names - allowed - TABLE_FUNCTIONS[dialect] - CASTS - {"nullif"}):
        for statement in calls(name):
            try:
                verdict = judge(statement, rules)
            except (AccessDenied, BadQuery):
                continue
            if re.search(rf'\b{re.escape(name)}"?\s*\((?!x\))', verdict.sql, re.IGNORECASE):
                found.append((statement, verdict.sql))
    return found


def test_no_function_of_postgresql_that_reaches_further_is_let_through(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database().replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        known = {name for (name,) in connection.execute("SELECT DISTINCT proname::text FROM pg_proc")}
        pure = {name for (name,) in connection.execute(FUNCTIONS)}
    allowed = frozenset((pure | HARMLESS) - HARMFUL)
    assert len([name for name in known - allowed if OUT_OF_REACH.match(name)]) > 5
    assert let_through(known, allowed, "postgres") == []


def test_no_function_of_duckdb_that_reaches_further_is_let_through(tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as engine:
        known = {name for (name,) in engine.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    allowed = DuckDBSource(tmp_path).catalog().functions
    assert {"read_csv", "read_text", "current_setting"} <= known - allowed
    assert let_through({name for name in known if name.isidentifier()}, allowed, "duckdb") == []
