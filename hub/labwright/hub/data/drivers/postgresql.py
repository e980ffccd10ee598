"""PostgreSQL through ADBC: COPY in binary straight into Arrow, parameters bound, a role that is no superuser."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode

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

BATCH_BYTES = 2 * 1024 * 1024  # the first rows leave early, and a slow reader holds little
IDLE_CONNECTIONS = 4
# Not immutable for PostgreSQL (they depend on the clock, the zone or the seed), but they read nothing.
HARMLESS = frozenset(
    [
        "now",
        "clock_timestamp",
        "statement_timestamp",
        "transaction_timestamp",
        "timeofday",
        "random",
        "gen_random_uuid",
        "to_char",
        "to_date",
        "to_timestamp",
        "to_number",
        "date_trunc",
        "date_part",
        "age",
        "date_bin",
        "make_timestamptz",
        "generate_series",
        "concat",
        "concat_ws",
        "format",
        "array_to_string",
        "array_to_json",
        "row_to_json",
        "to_json",
        "to_jsonb",
        "json_build_object",
        "json_build_array",
        "jsonb_build_object",
        "jsonb_build_array",
        "json_agg",
        "jsonb_agg",
        "json_object_agg",
        "jsonb_object_agg",
        "string_agg",
        "array_agg",
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "quote_literal",
        "quote_nullable",
        "isfinite",
        "timezone",
        "extract",
        "json_populate_record",
        "json_to_record",
        "json_to_recordset",
        "jsonb_to_record",
        "jsonb_to_recordset",
        "jsonb_path_exists_tz",
        "jsonb_path_query_tz",
        "to_tsvector",
        "to_tsquery",
        "plainto_tsquery",
        "phraseto_tsquery",
        "websearch_to_tsquery",
        "pg_typeof",
    ]
)
# Immutable by declaration, and yet they take a name or a statement apart.
HARMFUL = frozenset({"ts_rewrite"})
TABLES = """
SELECT n.nspname, c.relname, c.relkind::text, c.reltuples::bigint,
       array_agg(a.attname::text ORDER BY a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum),
       array_agg(NOT a.attnotnull ORDER BY a.attnum)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2
"""
FUNCTIONS = """
SELECT p.proname::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND p.prokind IN ('f', 'a', 'w')
GROUP BY 1 HAVING bool_and(p.provolatile = 'i' AND NOT p.prosecdef)
"""


class PostgreSQL(Driver):
    title = "PostgreSQL"
    dialect = "postgres"
    schema = "public"
    placeholder = "$"
    options: ClassVar[Mapping[str, str]] = {
        "host": "host name, or the folder of a Unix socket",
        "port": "5432 unless set",
        "database": "the database's name",
        "user": "a role that is no superuser and may only read",
        "sslmode": "disable, prefer, require, verify-ca or verify-full",
    }

    @classmethod
    def check(cls, options: Mapping[str, str]) -> None:
        check_options(cls, options, required=("host", "database", "user"))
        if not options.get("port", "5432").isdigit():
            raise InvalidRequest("The port is a number.", option="port")
        if options.get("sslmode", "prefer") not in ("disable", "prefer", "require", "verify-ca", "verify-full"):
            raise InvalidRequest(
                f"'{options['sslmode']}' is no sslmode.", remedy=cls.options["sslmode"], option="sslmode"
            )

    @classmethod
    def open(cls, options: Mapping[str, str], secret: str | None, *, timeout_seconds: float) -> PostgreSQLSource:
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(int(timeout_seconds * 1000)),
            "search_path": cls.schema,
            "application_name": "labwright",
        }
        parameters = {
            "host": options["host"],
            "port": options.get("port", "5432"),
            "connect_timeout": "10",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        }
        if "sslmode" in options:
            parameters["sslmode"] = options["sslmode"]
        account = quote(options["user"], safe="") + (f":{quote(secret, safe='')}" if secret else "")
        query = urlencode(parameters, quote_via=quote)
        return PostgreSQLSource(f"postgresql://{account}@/{quote(options['database'], safe='')}?{query}")


class PostgreSQLSource:
    """A few open connections to one database."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue(IDLE_CONNECTIONS)

    def connect(self) -> Any:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi

        try:
            connection = dbapi.connect(self._uri, autocommit=True)
        except Error as error:
            raise SourceUnreachable(_plain(str(error))) from None
        self._refuse_superuser(connection)
        return connection

    def _refuse_superuser(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT rolname::text, rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole"
                " OR pg_has_role(oid, 'pg_read_server_files', 'MEMBER')"
                " OR pg_has_role(oid, 'pg_execute_server_program', 'MEMBER')"
                " FROM pg_catalog.pg_roles WHERE rolname = current_user"
            )
            name, too_mighty = cursor.fetchone()
        if too_mighty:
            connection.close()
            raise SourceUnreachable(
                f"The role {name} is a superuser or may read the server's files; give a role that may only SELECT."
            )

    def release(self, connection: Any, *, clean: bool) -> None:
        try:
            if clean:
                self._idle.put_nowait(connection)
                return
        except queue.Full:
            pass
        with suppress(Exception):  # it is being thrown away, in whatever state
            connection.close()

    def rows(self, sql: str) -> list[Any]:
        running = self.prepare(sql, ())
        clean = False
        try:
            columns = [column.to_pylist() for column in running.begin().read_all().columns]
            found = list(zip(*columns, strict=True))
            clean = True
            return found
        finally:
            running.finish(clean=clean)

    def catalog(self) -> SourceCatalog:
        kinds = {"v": "view", "m": "view"}
        tables = [
            SourceTable(
                schema,
                name,
                kinds.get(kind, "table"),
                rows if rows >= 0 and kind != "v" else None,
                list(zip(columns, types, nullable, strict=True)),
            )
            for schema, name, kind, rows, columns, types, nullable in self.rows(TABLES)
        ]
        pure = frozenset(name for (name,) in self.rows(FUNCTIONS))
        return SourceCatalog(tables, (pure | HARMLESS) - HARMFUL)

    def prepare(self, sql: str, parameters: Sequence[Any]) -> PostgreSQLQuery:
        return PostgreSQLQuery(self, sql, parameters)


class PostgreSQLQuery:
    def __init__(self, source: PostgreSQLSource, sql: str, parameters: Sequence[Any]) -> None:
        self._source = source
        self._sql = sql
        self._parameters = parameters
        self._connection = source.connect()
        self._cursor = self._connection.cursor()

    def begin(self) -> pa.RecordBatchReader:
        import pyarrow as pa
        from adbc_driver_manager import Error

        try:
            self._cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            self._cursor.execute(self._sql, tuple(self._parameters) or None)
            reader = self._cursor.fetch_record_batch()
        except Error as error:
            raise _source_error(error) from None
        schema = pa.schema([pa.field(field.name, _plain_type(field.type)) for field in reader.schema])
        return pa.RecordBatchReader.from_batches(schema, _plain_batches(reader, schema))

    def cancel(self) -> None:
        with suppress(Exception):  # nothing runs yet, or no longer
            self._cursor.adbc_cancel()

    def finish(self, *, clean: bool) -> None:
        with suppress(Exception):  # a connection that was cut off fails here
            self._cursor.close()
        self._source.release(self._connection, clean=clean)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """numeric as double, as pandas reads it (exact: cast to text in SQL); other extension types as their storage."""
    import pyarrow as pa

    if isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric":
        return pa.float64()
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _plain_batches(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from adbc_driver_manager import Error

    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except Error as error:
            raise _source_error(error) from None
        except (OSError, pa.ArrowException) as error:
            raise SourceError(_plain(str(error))) from None
        columns = [_plain_column(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa
    from pyarrow import compute as pc

    stored = column.storage if isinstance(column, pa.ExtensionArray) else column
    return stored if stored.type == kind else pc.cast(stored, kind)


def _source_error(error: Exception) -> SourceError:
    details = {
        (key.decode() if isinstance(key, bytes) else key): value.decode(errors="replace")
        for key, value in getattr(error, "details", None) or ()
    }
    position = details.get("PG_DIAG_STATEMENT_POSITION", "")
    message = details.get("PG_DIAG_MESSAGE_PRIMARY") or _plain(str(error))
    return SourceError(
        message, position=int(position) if position.isdigit() else None, hint=details.get("PG_DIAG_MESSAGE_HINT", "")
    )


def _plain(text: str) -> str:
    """The sentence in a message of libpq or ADBC."""
    text = text.partition("Query was:")[0].partition("SQLSTATE")[0]
    for mark in ("FATAL: ", "ERROR: "):
        _, found, rest = text.partition(mark)
        text = rest if found else text
    return text.strip().partition("\n")[0].rstrip(". ") + "."
