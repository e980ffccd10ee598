"""The rows of the Data panel: connections, their tables, columns and what is in them."""

from __future__ import annotations

from fastapi import FastAPI

from labwright.api import connections

from .world import DATA, World

TABLES = [("flights", 336776), ("airlines", 16), ("airports", 1458), ("planes", 3322), ("weather", 26115)]
COLUMNS = [
    connections.Column(name="carrier", type="text"),
    connections.Column(name="flight", type="integer"),
    connections.Column(name="arr_delay", type="double precision"),
    connections.Column(name="time_hour", type="timestamp with time zone"),
    connections.Column(name="tailnum", type="text", masked=True),
]


CARRIERS = [("UA", 58665), ("B6", 54635), ("EV", 54173), ("DL", 48110), ("AA", 32729), ("OO", 32)]
PROFILES = {
    "carrier": connections.ColumnProfile(
        rows=336776,
        nulls=0,
        distinct=16,
        least="9E",
        greatest="YV",
        common=[connections.CommonValue(value=name, rows=rows) for name, rows in CARRIERS],
        bins=[],
    ),
    "arr_delay": connections.ColumnProfile(
        rows=336776,
        nulls=9430,
        distinct=577,
        least=-86,
        greatest=1272,
        mean=6.895,
        common=[],
        bins=[connections.Bin(start=-86 + 68 * at, end=-18 + 68 * at, rows=int(250_000 / 4**at)) for at in range(20)],
    ),
}


def tables() -> list[connections.Table]:
    return [connections.Table(schema_name="public", name=name, rows=rows) for name, rows in TABLES]


def add_data(app: FastAPI, world: World) -> None:
    @app.get(f"{DATA}/connections")
    def get_connections() -> connections.ConnectionPage:
        if world.fault == "empty":
            return connections.ConnectionPage(items=[])
        rows = [
            ("warehouse", "postgresql", "PostgreSQL", True),
            ("lake", "duckdb", "Parquet", True),
            ("finance", "postgresql", "PostgreSQL", False),
        ]
        return connections.ConnectionPage(
            items=[
                connections.Connection(name=name, driver=driver, title=title, state="ready", granted=granted)
                for name, driver, title, granted in rows
            ]
        )

    @app.get(DATA + "/connections/{name}/catalog")
    def catalog(name: str) -> connections.Catalog:
        return connections.Catalog(connection=name, tables=tables())

    @app.get(DATA + "/connections/{name}/tables/{schema}/{table}")
    def columns(name: str, schema: str, table: str) -> connections.TableColumns:
        return connections.TableColumns(table=tables()[0], columns=COLUMNS)

    @app.get(DATA + "/connections/{name}/tables/{schema}/{table}/columns/{column}/profile")
    def profile(name: str, schema: str, table: str, column: str) -> connections.ColumnProfile:
        return PROFILES.get(column, PROFILES["arr_delay"])

    @app.get(DATA + "/connections/{name}/tables/{schema}/{table}/preview")
    def preview(name: str, schema: str, table: str) -> connections.Preview:
        rows = [
            ["UA", 1545 + row, None if row % 7 == 0 else row - 8.0, "2013-01-01T05:00:00-05:00", "***"]
            for row in range(100)
        ]
        return connections.Preview(table=tables()[0], columns=COLUMNS, rows=rows, seconds=0.04)
