"""What is in a column, asked of the real sources."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest

from labwright.api.connections import ColumnProfile
from labwright.hub.data import flights, profile


def profiled(service, connection: str, table: str, column: str, who: str = "alice") -> ColumnProfile:
    answer = service.client(who).get(f"/connections/{connection}/tables/{table}/columns/{column}/profile")
    assert answer.status_code == 200, answer.text
    return ColumnProfile.model_validate(answer.json())


def test_a_number_has_its_extremes_and_a_histogram_of_all_its_values(service) -> None:
    delays = flights.read("flights")["arr_delay"]
    found = profiled(service, "warehouse", "public/flights", "arr_delay")
    assert (found.rows, found.nulls) == (len(delays), delays.null_count)
    assert found.distinct == pc.count_distinct(delays).as_py()
    assert (found.least, found.greatest) == (pc.min(delays).as_py(), pc.max(delays).as_py())
    assert found.mean == pytest.approx(pc.mean(delays).as_py())
    assert len(found.bins) == profile.BINS
    assert sum(part.rows for part in found.bins) == len(delays) - delays.null_count
    below = found.bins[0]
    assert below.rows == pc.sum(pc.less(delays, below.end)).as_py()


def test_few_whole_numbers_have_a_bin_each(service) -> None:
    found = profiled(service, "warehouse", "public/flights", "month")
    assert [part.start for part in found.bins] == list(range(1, 13))
    assert sum(part.rows for part in found.bins) == found.rows


@pytest.mark.parametrize(
    ("connection", "table", "column"),
    [("warehouse", "public/flights", "carrier"), ("lake", "main/airlines", "carrier")],
)
def test_words_have_their_most_common_values(service, connection: str, table: str, column: str) -> None:
    values = flights.read(table.split("/")[1])[column]
    counted = {each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()}
    found = profiled(service, connection, table, column)
    assert found.distinct == len(counted)
    assert [each.rows for each in found.common] == sorted(counted.values(), reverse=True)[:8]
    assert all(counted[each.value] == each.rows for each in found.common)
    assert found.bins == []


def test_times_have_extremes_and_a_number_of_the_lake_a_histogram(service) -> None:
    times = profiled(service, "warehouse", "public/flights", "time_hour")
    assert str(times.least).startswith("2013-01-01")
    assert times.common == []
    found = profiled(service, "lake", "main/airports", "lat")
    assert sum(part.rows for part in found.bins) == found.rows - found.nulls


def test_without_a_grant_there_is_no_profile(service) -> None:
    path = "/connections/warehouse/tables/public/flights/columns/carrier/profile"
    assert service.client("bob").get(path).status_code == 404
    assert service.client("alice").get(path.replace("carrier", "nothing")).json()["code"] == "not-found"


def test_names_are_names_whatever_they_say() -> None:
    ask = profile.Statements("s", 't"; DROP TABLE x', 'c" FROM y', "postgres")
    assert '"c"" FROM y"' in ask.common()
    assert '"s"."t""; DROP TABLE x"' in ask.bins(-1.5, 0.5)


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("double precision", "number"),
        ("DECIMAL(18,3)", "number"),
        ("UBIGINT", "number"),
        ("timestamp with time zone", "time"),
        ("character varying(8)", "text"),
        ("integer[]", "other"),
        ("STRUCT(a INTEGER)", "other"),
        ("jsonb", "other"),
        ("interval", "other"),
        ("money", "other"),
        ("boolean", "truth"),
        ("point", "other"),
    ],
)
def test_what_not_every_source_compares_is_only_counted(type_name: str, kind: str) -> None:
    assert profile.kind_of(type_name) == kind


def test_equal_or_endless_numbers_have_no_histogram() -> None:
    assert profile.span([3, 3, 1, 5, 5, 5.0], "number", "integer") is None
    assert profile.span([3, 3, 2, 1.0, "nan", "nan"], "number", "double") is None
    assert profile.span([3, 0, 0, None, None, None], "number", "double") is None
    assert profile.span([3, 3, 3, "0.5", "2.5", 1.0], "number", "numeric(4,1)") == (0.5, 0.1)
