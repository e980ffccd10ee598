"""Fill the warehouse and the lake at the first start: the one part of them that needs Arrow."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv, parquet

from labwright.hub.data import flights
from labwright.hub.data.warehouse_files import DATABASE, READER, SUPERUSER, TABLES, Warehouse

TYPES = {
    pa.int32(): "integer",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}


def load(warehouse: Warehouse) -> None:
    """The roles, the tables and their rows. The reader's rights: connect, and SELECT in the schema public."""
    with warehouse.connect(SUPERUSER, database="postgres") as connection:
        password = warehouse.reader_password.read_text().strip()
        role = sql.SQL(
            "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT PASSWORD {}"
        )
        connection.execute(role.format(sql.Identifier(READER), sql.Literal(password)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        for database in (DATABASE, "postgres", "template1"):
            revoke = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC")
            connection.execute(revoke.format(sql.Identifier(database)))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE warehouse TO {}").format(sql.Identifier(READER)))
    with warehouse.connect(SUPERUSER) as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(sql.Identifier(READER)))
        with connection.transaction():
            for name in TABLES:
                copy_in(connection, name, flights.read(name))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(READER)))
        connection.execute("CREATE INDEX ON flights (time_hour)")
        connection.execute("VACUUM ANALYZE")


def copy_in(connection: psycopg.Connection, name: str, table: pa.Table) -> None:
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(TYPES[field.type])) for field in table.schema
    ]
    if key := flights.KEYS.get(name):
        columns.append(sql.SQL("PRIMARY KEY ({})").format(sql.Identifier(key)))
    target = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(target, sql.SQL(", ").join(columns)))
    connection.execute("SET TIME ZONE 'UTC'")
    table = table.cast(pa.schema([pa.field(field.name, _without_zone(field.type)) for field in table.schema]))
    cursor = connection.cursor()
    with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(target)) as copy:
        for batch in table.to_batches(max_chunksize=50_000):
            sink = pa.BufferOutputStream()
            csv.write_csv(batch, sink, csv.WriteOptions(include_header=False))
            copy.write(sink.getvalue().to_pybytes())


def _without_zone(kind: pa.DataType) -> pa.DataType:
    """Written without its zone a column of times takes a fortieth of the time."""
    return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind


def write_lake(folder: Path) -> None:
    """The same tables as Parquet files, each one put in place whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        target = folder / f"{name}.parquet"
        if not target.exists():
            beside = folder / f".{name}.new"
            parquet.write_table(flights.read(name), beside, compression="zstd")
            beside.rename(target)
