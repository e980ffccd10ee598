"""DuckDB over a folder of Parquet and CSV files: each file (or folder of Parquet files) is a view.

The engine is shut in before the first statement: it may read that one folder, load no extension, and nobody can
change that any more. Order matters: allowed_directories, then enable_external_access, then lock_configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from labwright.api.errors import InvalidRequest
from labwright.hub.data.drivers import (
    Driver,
    SourceCatalog,
    SourceError,
    SourceTable,
    SourceUnreachable,
    check_options,
)

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".csv.gz": "read_csv", ".tsv": "read_csv"}
HARMLESS = frozenset({"now", "today", "current_date", "current_timestamp", "random", "uuid", "generate_series"})
HARMLESS |= {"range", "unnest", "get_current_timestamp", "setseed"}
FUNCTIONS = """
SELECT function_name FROM duckdb_functions() GROUP BY 1
HAVING bool_and(function_type IN ('scalar', 'aggregate') AND coalesce(stability, 'CONSISTENT') = 'CONSISTENT')
"""
HARMFUL = re.compile(
    r"^(getenv|getvariable|current_setting|nextval|currval|write_log|read_|parse_duckdb_log|pg_|col_des"
    r"|obj_des|shobj_|has_|in_search_path|current_|txid|json_execute|add_parquet_key|get_block_size).*"
)


class DuckDB(Driver):
    title = "Parquet"
    dialect = "duckdb"
    schema = "main"
    placeholder = "$"
    options: ClassVar[Mapping[str, str]] = {"path": "a folder on the data service's machine, with the files in it"}

    @classmethod
    def check(cls, options: Mapping[str, str]) -> None:
        check_options(cls, options, required=("path",))
        if not Path(options["path"]).is_absolute():
            raise InvalidRequest("The path starts with a slash.", option="path")

    @classmethod
    def open(cls, options: Mapping[str, str], secret: str | None, *, timeout_seconds: float) -> DuckDBSource:
        return DuckDBSource(Path(options["path"]))


class DuckDBSource:
    def __init__(self, folder: Path) -> None:
        import duckdb

        if not folder.is_dir():
            raise SourceUnreachable("The folder does not exist, or cannot be read.")
        self._folder = folder.resolve()
        self._views: set[str] = set()
        self._engine = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
        for setting in (
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET python_enable_replacements = false",
            "SET temp_directory = ''",
            f"SET allowed_directories = [{_text(str(self._folder) + '/')}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._engine.execute(setting)
        self.refresh()

    def refresh(self) -> None:
        """Views for files that came, and none for files that went."""
        found = dict(self._files())
        with self._engine.cursor() as cursor:
            for name in self._views - set(found):
                cursor.execute(f"DROP VIEW IF EXISTS main.{_name(name)}")
            for name, source in found.items():
                if name not in self._views:
                    cursor.execute(f"CREATE OR REPLACE VIEW main.{_name(name)} AS SELECT * FROM {source}")  # noqa: S608
        self._views = set(found)

    def _files(self) -> list[tuple[str, str]]:
        tables = []
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith((".", "_")) or path.is_symlink():
                continue
            stem, dot, suffix = path.name.partition(".")
            if path.is_dir() and any(path.rglob("*.parquet")):
                tables.append((path.name, f"read_parquet({_text(str(path / '**' / '*.parquet'))})"))
            elif path.is_file() and (reader := READERS.get(dot + suffix)):
                tables.append((stem, f"{reader}({_text(str(path))})"))
        return tables

    def catalog(self) -> SourceCatalog:
        self.refresh()
        with self._engine.cursor() as cursor:
            columns: dict[str, list[tuple[str, str, bool]]] = {}
            for table, column, kind, nullable in cursor.execute(
                "SELECT table_name, column_name, lower(data_type), is_nullable FROM duckdb_columns()"
                " WHERE schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"
            ).fetchall():
                columns.setdefault(table, []).append((column, kind, nullable))
            functions = frozenset(name for (name,) in cursor.execute(FUNCTIONS).fetchall())
            tables = [
                SourceTable("main", name, "file", self._rows(cursor, source), columns.get(name, []))
                for name, source in self._files()
            ]
        return SourceCatalog(tables, frozenset(n for n in functions if not HARMFUL.match(n)) | HARMLESS)

    def _rows(self, cursor: Any, source: str) -> int | None:
        if not source.startswith("read_parquet"):
            return None
        where = source.removeprefix("read_parquet")
        found = cursor.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata{where}").fetchone()  # noqa: S608
        return int(found[0]) if found and found[0] is not None else None

    def prepare(self, sql: str, parameters: Sequence[Any]) -> DuckDBQuery:
        return DuckDBQuery(self._engine.cursor(), sql, parameters)


class DuckDBQuery:
    def __init__(self, cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        self._cursor = cursor
        self._sql = sql
        self._parameters = parameters

    def begin(self) -> pa.RecordBatchReader:
        import duckdb

        try:
            self._cursor.execute(self._sql, list(self._parameters))
            reader: pa.RecordBatchReader = self._cursor.to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            raise _source_error(error) from None
        return reader

    def cancel(self) -> None:
        with suppress(Exception):  # nothing runs yet, or no longer
            self._cursor.interrupt()

    def finish(self, *, clean: bool) -> None:
        with suppress(Exception):  # an interrupted cursor may complain
            self._cursor.close()


def _source_error(error: Exception) -> SourceError:
    text, _, _ = str(error).partition("\nLINE ")
    message, _, hint = text.strip().partition("\n")
    return SourceError(message.strip(), hint=" ".join(hint.split()))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
