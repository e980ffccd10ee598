"""What a caller sees of a source: its tables filtered by his grants, their columns, and a preview as JSON."""

from __future__ import annotations

import decimal
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from labwright.api.connections import Catalog, Column, Grant, Table, TableColumns
from labwright.api.errors import NotFound
from labwright.hub.data import access, workers

LARGEST_EXACT = 2**53  # a browser's numbers are doubles


def visible(found: workers.Catalog, grants: Sequence[Grant]) -> list[Mapping[str, Any]]:
    return [table for table in found.tables if access.may_read(grants, table["schema"], table["name"])]


def catalog_of(name: str, found: workers.Catalog, grants: Sequence[Grant], search: str | None) -> Catalog:
    """The tables that may be read; with `search`, those with the word in their name or in one of their columns."""
    tables = visible(found, grants)
    if search and (word := search.strip().lower()):
        tables = [table for table in tables if _mentions(table, word)]
    return Catalog(connection=name, tables=[_table(table) for table in tables])


def _mentions(table: Mapping[str, Any], word: str) -> bool:
    names = [f"{table['schema']}.{table['name']}", *(column[0] for column in table["columns"])]
    return any(word in name.lower() for name in names)


def columns_of(found: workers.Catalog, grants: Sequence[Grant], schema: str, name: str) -> TableColumns:
    """A table with its columns; `NotFound` for one that is not there or may not be read."""
    for table in visible(found, grants):
        if (table["schema"], table["name"]) == (schema, name):
            columns = [Column(name=column, type=kind, nullable=null) for column, kind, null in table["columns"]]
            return TableColumns(table=_table(table), columns=columns)
    raise NotFound("table", f"{schema}.{name}")


def _table(table: Mapping[str, Any]) -> Table:
    return Table(schema_name=table["schema"], name=table["name"], kind=table["kind"], rows=table["rows"])


def preview_sql(schema: str, name: str, limit: int, dialect: str) -> str:
    import sqlglot
    from sqlglot import exp

    table = exp.to_table(name, quoted=True)
    table.set("this", exp.to_identifier(name, quoted=True))
    table.set("db", exp.to_identifier(schema, quoted=True))
    return sqlglot.select("*").from_(table).limit(limit).sql(dialect=dialect)


def json_rows(stream: bytes) -> list[list[Any]]:
    """Rows of an Arrow stream as JSON can carry them: decimals, dates, durations and bytes as text, no NaN."""
    import pyarrow as pa

    table = pa.ipc.open_stream(stream).read_all()
    columns = [[json_value(value) for value in column.to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def json_value(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) <= LARGEST_EXACT else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [json_value(item) for item in value]
        case dict():
            return {str(key): json_value(item) for key, item in value.items()}
        case decimal.Decimal() | timedelta():
            return str(value)
    return str(value)
