"""`%%sql [connection]`: SQL in a cell, a DataFrame back; and `query()`, the same from plain Python.

The kernel holds no credential: the data service judges the SQL, runs it and streams Arrow back. `:name` is bound to
the notebook's variable of that name and never pasted.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
import numbers
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from labwright.api import names
from labwright.api.client import Client, endpoints_from
from labwright.api.errors import BadQuery, InvalidRequest, LabwrightError, Unavailable
from labwright.magics.line_parser import LineParser

if TYPE_CHECKING:
    import pyarrow as pa
    from IPython.core.interactiveshell import InteractiveShell

Form = Literal["pandas", "polars", "arrow", "duckdb"]
FORMS: tuple[Form, ...] = ("pandas", "polars", "arrow", "duckdb")
QUERY_SECONDS = 3600.0  # the service's own limit is shorter
# A :name outside of quotes and comments, and no ::cast.
PARAMETER = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$|::|(?<![\w:]):([A-Za-z_]\w*)""", re.DOTALL
)
_default = "warehouse"


@dataclass(frozen=True)
class Result:
    """Rows as Arrow, and what the service said of them."""

    table: pa.Table
    seconds: float
    truncated: bool


def default_connection() -> str:
    return _default


def set_default_connection(name: str) -> None:
    global _default
    _default = name


def query(
    sql: str,
    connection: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    as_: Form = "pandas",
    limit: int | None = None,
) -> Any:
    """Run SQL on a connection and return the rows as pandas, polars, Arrow or a DuckDB relation.

    `parameters` are bound to `:name`. Errors are those of `labwright.api.errors`.
    """
    return convert(fetch(sql, connection or _default, parameters or {}, limit).table, as_)


def fetch(sql: str, connection: str, parameters: Mapping[str, Any], limit: int | None = None) -> Result:
    """The rows as Arrow. An interrupt while waiting cancels the query in the source."""
    import pyarrow as pa

    wanted = set(parameter_names(sql))
    given = {name: encode(name, value) for name, value in parameters.items() if name in wanted}
    ask: dict[str, Any] = {"sql": sql, "parameters": given, "origin": origin(os.environ)}
    if limit is not None:
        ask["limit"] = limit
    started = time.monotonic()
    client = Client(endpoints_from(os.environ), timeout=QUERY_SECONDS)
    try:
        with client.stream_data("POST", f"/connections/{connection}/query", json=ask) as response:
            reader = pa.ipc.open_stream(Body(response.iter_raw()))
            batches, note = _read(reader)
            table = pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowInvalid, OSError):
        raise Unavailable("The data service", remedy="The result broke off; run it again.") from None
    finally:
        client.close()
    return Result(table, float(note.get("seconds", time.monotonic() - started)), bool(note.get("truncated")))


def _read(reader: Any) -> tuple[list[Any], dict[str, Any]]:
    batches: list[Any] = []
    note: dict[str, Any] = {}
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        if metadata is not None and "labwright" in metadata:
            note = json.loads(metadata["labwright"])
            if failure := note.get("error"):
                raise BadQuery(f"{failure['message']}", remedy=failure.get("hint") or "")
        elif batch.num_rows:
            batches.append(batch)
    if not note:
        raise Unavailable("The data service", remedy="The result broke off; run it again.")
    return batches, note


class Body(io.RawIOBase):
    """A response's body as a file that pyarrow reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target):
            if not self._rest:
                part = next(self._chunks, None)
                if part is None:
                    break
                self._rest = memoryview(part)
            count = min(len(self._rest), len(target) - filled)
            target[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return filled


def convert(table: pa.Table, form: Form) -> Any:
    if form == "pandas":
        return table.to_pandas()
    if form == "polars":
        import polars

        return polars.from_arrow(table)
    if form == "duckdb":
        import duckdb

        return duckdb.from_arrow(table)
    return table


def parameter_names(sql: str) -> list[str]:
    """The names that stand as :name outside of quotes and comments, in order, each once."""
    return list(dict.fromkeys(match.group(2) for match in PARAMETER.finditer(sql) if match.group(2)))


def encode(name: str, value: Any) -> Any:
    """A value as JSON with its type; numpy and pandas scalars too."""
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    elif hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime.datetime):
        return {"type": "timestamp", "value": value.isoformat()}
    if isinstance(value, (datetime.date, datetime.time)):
        return {"type": "date" if isinstance(value, datetime.date) else "time", "value": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"type": "decimal", "value": str(value)}
    if isinstance(value, bytes):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple, set)):
        return [encode(name, item) for item in value]
    if isinstance(value, numbers.Number):
        return float(value)  # type: ignore[arg-type]
    raise InvalidRequest(
        f"The variable '{name}' is a {type(value).__name__}, which cannot be bound.",
        remedy="Bind numbers, texts, dates, or a list of them.",
    )


def origin(environ: Mapping[str, str]) -> dict[str, str]:
    found = {
        "notebook": environ.get(names.NOTEBOOK) or environ.get("JPY_SESSION_NAME"),
        "run_id": environ.get(names.RUN_ID),
    }
    return {key: value for key, value in found.items() if value}


def parser(prog: str) -> LineParser:
    options = LineParser(prog=prog, description="Run SQL on a connection; the result is a DataFrame.")
    options.add_argument("-o", "--output", metavar="NAME", help="store the result in this variable, and show one line")
    options.add_argument("--as", dest="form", choices=FORMS, default="pandas", help="what the result is (pandas)")
    options.add_argument("--limit", type=int, metavar="N", help="stop after so many rows")
    return options


def run(line: str, cell: str | None, shell: InteractiveShell) -> Any:
    """The magic: `%%sql [connection] [options]` over a cell, or `%sql [connection] [options] SELECT …`."""
    options = parser("%%sql" if cell is not None else "%sql")
    options.add_argument("connection", nargs="?", help=f"one of %%connect (now {_default})")
    if cell is None:
        head, sql = split_line(line)
    else:
        head, sql = line, cell
    given = options.parse_line(head)
    if given is None:
        return None
    if not sql.strip():
        options.print_help()
        return None
    if given.output and not given.output.isidentifier():
        raise InvalidRequest(f"'{given.output}' is no variable's name.", remedy="Use letters, digits and _.")
    values = {name: shell.user_ns[name] for name in parameter_names(sql) if name in shell.user_ns}
    started = time.monotonic()
    found = fetch(sql, given.connection or _default, values, given.limit)
    result = convert(found.table, given.form)
    print(summary(found, time.monotonic() - started, given.output))
    if given.output:
        shell.user_ns[given.output] = result
        return None
    return result


def split_line(line: str) -> tuple[str, str]:
    """The options and the SQL of a %sql line: the SQL begins with its first keyword."""
    start = re.search(r"(?<!\S)(select|with|values|table|from|\()", line, re.IGNORECASE)
    return (line, "") if start is None else (line[: start.start()], line[start.start() :])


def summary(found: Result, seconds: float, output: str | None) -> str:
    rows = f"{found.table.num_rows:,}".replace(",", " ")
    columns = found.table.num_columns
    text = f"{rows} row{'' if found.table.num_rows == 1 else 's'} × {columns} column{'' if columns == 1 else 's'}"
    text += f" in {seconds:.2f} s" + (", stopped at the limit" if found.truncated else "")
    return f"{output}: {text}" if output else text


def complete(text: str, line: str, shell: InteractiveShell) -> list[str]:
    """Options, connections, tables and columns."""
    try:
        if text.startswith("-"):
            words: Iterable[str] = ["--as", "--limit", "--output", "--help"]
        elif line.rstrip().endswith("--as") or re.search(r"--as\s+\S*$", line):
            words = FORMS
        else:
            words = [*_connections(), *_names(_named_in(line.split()))]
    except LabwrightError:
        return []
    return sorted({word for word in words if word.startswith(text)})


def _named_in(words: Sequence[str]) -> str:
    return next((word for word in words[1:] if word in _connections()), _default)


_remembered: dict[str, tuple[float, list[str]]] = {}


def _ask(path: str, pick: Any) -> list[str]:
    known = _remembered.get(path)
    if known and time.monotonic() - known[0] < 30:
        return known[1]
    client = Client(endpoints_from(os.environ), timeout=3)
    try:
        found: list[str] = pick(client.data("GET", path))
    finally:
        client.close()
    _remembered[path] = (time.monotonic(), found)
    return found


def _connections() -> list[str]:
    return _ask("/connections", lambda page: [item["name"] for item in page["items"] if item["granted"]])


def _names(connection: str) -> list[str]:
    def pick(tables: list[dict[str, Any]]) -> list[str]:
        columns = [column["name"] for item in tables for column in item["columns"]]
        return [*(item["table"]["name"] for item in tables), *columns]

    return _ask(f"/connections/{connection}/columns", pick)
