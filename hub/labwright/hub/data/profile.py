"""What is in one column: the statements that ask, and what their rows say; pure.

Three statements at most: a count with the extremes, the most common values, and for numbers a histogram between the
extremes. Each is made as a tree, so that no name can become SQL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from labwright.api.connections import Bin, ColumnProfile, CommonValue

BINS = 20
MOST_COMMON = 8

Kind = Literal["number", "time", "text", "truth", "other"]
COMPARED = frozenset({"number", "time", "text"})
GROUPED = frozenset({"number", "text", "truth"})  # which moment is the most common says little


def kind_of(type_name: str) -> Kind:
    """How a column of this type can be looked at; 'truth' has no extremes, 'other' is only counted."""
    name = type_name.lower().strip()
    if name.endswith("]") or name.startswith(("struct", "map", "json", "union", "interval")):
        return "other"
    if name.startswith("bool"):
        return "truth"
    if re.match(r"(u?(tiny|small|big|huge)?int|integer|double|float|real|numeric|decimal)", name):
        return "number"
    if re.match(r"(date|time)", name):
        return "time"
    return "text" if re.match(r"(char|bpchar|varchar|text|string|name)", name) else "other"


class Statements:
    """The statements for one column, in the source's dialect."""

    def __init__(self, schema: str, table: str, column: str, dialect: str) -> None:
        from sqlglot import exp

        self._exp = exp
        self._dialect = dialect
        self._table = exp.Table(this=exp.to_identifier(table, quoted=True), db=exp.to_identifier(schema, quoted=True))
        self._column = exp.column(exp.to_identifier(column, quoted=True))

    def totals(self, kind: Kind) -> str:
        """One row: rows, rows with a value; and where values compare, distinct ones, least, greatest, mean."""
        exp, column = self._exp, self._column
        parts: list[Any] = [exp.Count(this=exp.Star()), exp.Count(this=column)]
        if kind in COMPARED:
            parts += [exp.Count(this=exp.Distinct(expressions=[column])), exp.Min(this=column), exp.Max(this=column)]
        if kind == "number":
            parts.append(exp.Avg(this=column))
        return self._sql(exp.select(*(exp.alias_(part, f"p{at}") for at, part in enumerate(parts))))

    def common(self) -> str:
        """The most common values with their rows."""
        exp, column = self._exp, self._column
        count = exp.Count(this=exp.Star())
        query = exp.select(exp.alias_(column, "v"), exp.alias_(count, "n")).group_by(column)
        return self._sql(query.order_by(exp.Ordered(this=count.copy(), desc=True), column).limit(MOST_COMMON), True)

    def bins(self, low: float, width: float) -> str:
        """Rows by bin, those that have any; the greatest value is in the one behind the last."""
        exp = self._exp
        number = exp.cast(self._column, "double")
        at = exp.cast(exp.Floor(this=exp.Paren(this=exp.Paren(this=number - low) / width)), "int")
        return self._sql(
            exp.select(exp.alias_(at, "b"), exp.alias_(exp.Count(this=exp.Star()), "n")).group_by(at), True
        )

    def _sql(self, query: Any, only_values: bool = False) -> str:
        query = query.from_(self._table)
        if only_values:
            query = query.where(self._column.is_(self._exp.null()).not_())
        return str(query.sql(dialect=self._dialect))


def span(totals: Sequence[Any], kind: Kind, type_name: str) -> tuple[float, float] | None:
    """Where the histogram begins and how wide a bin is; None when there is nothing to draw."""
    if kind != "number" or totals[3] is None:
        return None
    low, high = float(totals[3]), float(totals[4])
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return None
    whole = "int" in type_name.lower()
    return low, max(1.0, math.ceil((high - low + 1) / BINS)) if whole else (high - low) / BINS


def assemble(
    totals: Sequence[Any],
    common: Sequence[Sequence[Any]],
    at: tuple[float, float] | None,
    bins: Sequence[Sequence[Any]],
) -> ColumnProfile:
    """One picture from the rows of the statements."""
    rows, known = totals[0], totals[1]
    distinct, least, greatest, mean = [*totals[2:], None, None, None, None][:4]
    return ColumnProfile(
        rows=rows,
        nulls=rows - known,
        distinct=distinct,
        least=least,
        greatest=greatest,
        mean=None if mean is None else float(mean),
        common=[CommonValue(value=value, rows=count) for value, count in common],
        bins=[] if at is None else _histogram(at, float(totals[4]), bins),
    )


def _histogram(at: tuple[float, float], high: float, bins: Sequence[Sequence[Any]]) -> list[Bin]:
    low, width = at
    count = min(BINS, math.floor((high - low) / width) + 1)
    rows = [0] * count
    for number, amount in bins:
        rows[min(max(int(number), 0), count - 1)] += amount
    return [Bin(start=low + width * n, end=low + width * (n + 1), rows=amount) for n, amount in enumerate(rows)]
