"""Connections, their catalogue and queries on the wire. Nothing here ever carries a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from labwright.api.jobs import Wire
from labwright.api.names import MOST_WHOLE

ARROW_STREAM = "application/vnd.apache.arrow.stream"


class Connection(Wire):
    name: str
    driver: str = Field(examples=["postgresql", "duckdb"])
    title: str = Field(examples=["PostgreSQL", "Parquet"])
    description: str = ""
    state: Literal["ready", "unreachable", "starting"]
    reason: str | None = None
    granted: bool = Field(description="Whether the caller may read anything in it.")
    declared: bool = Field(default=False, description="Stands in workbench.yaml, so it is read-only here.")


class Column(Wire):
    name: str
    type: str
    nullable: bool = True
    masked: bool = False


class Table(Wire):
    schema_name: str
    name: str
    kind: Literal["table", "view", "file"] = "table"
    rows: int | None = Field(default=None, description="Estimated by the source.")


class Catalog(Wire):
    """The tables of one connection that the caller may read."""

    connection: str
    tables: list[Table]


class TableColumns(Wire):
    table: Table
    columns: list[Column]


class Preview(Wire):
    table: Table
    columns: list[Column]
    rows: list[list[Any]] = Field(description="At most the limit; values as JSON, decimals and dates as text.")
    seconds: float


class CommonValue(Wire):
    value: Any
    rows: int


class Bin(Wire):
    """From `start` to below `end`; the last one holds the greatest value too."""

    start: float
    end: float
    rows: int


class ColumnProfile(Wire):
    """What is in a column; what its type does not allow to compare is None or empty."""

    rows: int
    nulls: int
    distinct: int | None = Field(description="Values that differ.")
    least: Any = None
    greatest: Any = None
    mean: float | None = None
    common: list[CommonValue] = Field(description="The most common values, the most common first.")
    bins: list[Bin] = Field(description="Of numbers: how they lie between least and greatest.")


class Origin(Wire):
    """Where a query came from, for the audit trail."""

    notebook: str | None = None
    run_id: str | None = None


class QueryRequest(Wire):
    sql: str = Field(max_length=1_000_000)
    parameters: dict[str, Any] = Field(default_factory=dict, description="Bound to :name, never pasted.")
    limit: int | None = Field(default=None, ge=1, le=MOST_WHOLE, description="Stop after so many rows.")
    origin: Origin = Origin()


class ConnectionRequest(Wire):
    """Made by an admin. The secret goes in and never comes out."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    driver: str
    options: dict[str, str] = Field(default_factory=dict)
    secret: str | None = None
    description: str = ""


class Grant(Wire):
    group: str
    connection: str
    schemas: list[str] = Field(default_factory=lambda: ["*"])
    tables: list[str] = Field(default_factory=lambda: ["*"])
    until: datetime | None = None


class ConnectionPage(Wire):
    items: list[Connection]
