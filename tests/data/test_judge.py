"""What the gateway lets through: a table of statements, allowed, refused and evasive."""

from __future__ import annotations

import re

import pytest

from labwright.api.errors import AccessDenied, BadQuery
from labwright.hub.data.gateway import bind
from labwright.hub.data.judge import Rules, judge, position_in


def rules(dialect: str) -> Rules:
    schema = "public" if dialect == "postgres" else "main"
    return Rules(
        connection="source",
        dialect=dialect,
        schema=schema,
        functions=frozenset(
            ["md5", "strpos", "left", "now", "to_char", "count", "max", "upper", "round", "avg", "lag", "sum", "lower"]
        ),
        may_read=lambda where, table: where == schema and table in ("flights", "airlines"),
    )


ALLOWED = [
    "SELECT 1",
    "SELECT * FROM flights",
    "select carrier, count(*) from FLIGHTS group by 1 order by 2 desc limit 3",
    "SELECT f.carrier FROM flights f JOIN airlines USING (carrier)",
    "SELECT flights.carrier FROM flights",
    "WITH late AS (SELECT * FROM flights) SELECT * FROM late",
    "WITH flights AS (SELECT * FROM flights) SELECT * FROM flights",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a) SELECT * FROM b",
    "SELECT * FROM (SELECT carrier FROM flights) AS t",
    "SELECT (SELECT max(distance) FROM flights) AS m",
    "SELECT * FROM airlines WHERE carrier IN (SELECT carrier FROM flights)",
    "SELECT 1 UNION SELECT 2",
    "SELECT 'DROP TABLE flights; --'",
    "SELECT * FROM flights -- DROP TABLE flights",
    "SELECT * FROM flights;",
    "(SELECT 1)",
    "VALUES (1, 2), (3, 4)",
    "SELECT * FROM generate_series(1, 3) AS g(i)",
    "SELECT md5(carrier) FROM flights",
    "SELECT upper(carrier), round(avg(distance)) FROM flights GROUP BY 1",
    "SELECT lag(distance) OVER (PARTITION BY carrier ORDER BY day) FROM flights",
    "SELECT CASE WHEN month = 1 THEN 'a' ELSE 'b' END FROM flights",
    "SELECT month::text, CAST(day AS double precision) FROM flights",
    "SELECT count(*) FROM flights WHERE month = :month AND carrier = :carrier",
]
DENIED = [
    "SELECT * FROM salaries",
    "SELECT * FROM finance.flights",
    "SELECT * FROM flights, salaries",
    "SELECT * FROM flights JOIN salaries USING (id)",
    "SELECT (SELECT max(pay) FROM salaries)",
    "SELECT * FROM flights WHERE EXISTS (SELECT 1 FROM salaries)",
    "WITH s AS (SELECT * FROM salaries) SELECT * FROM s",
    "WITH salaries AS (SELECT * FROM salaries) SELECT * FROM salaries",
    "SELECT * FROM (WITH salaries AS (SELECT 1) SELECT 1) t, salaries",
    "SELECT 1 UNION ALL SELECT pay FROM salaries",
    "SELECT * FROM flights ORDER BY (SELECT pay FROM salaries LIMIT 1)",
    "SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM salaries)) FROM flights",
    "SELECT * FROM flights f, LATERAL (SELECT * FROM salaries) s",
    'SELECT * FROM "salaries"',
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM pg_class",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM sal/**/aries",
    "SELECT * FROM SALARIES",
    "TABLE salaries",
]
REFUSED = [
    "",
    "   -- nothing",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE flights",
    "DROP TABLE flights",
    "DELETE FROM flights",
    "UPDATE flights SET day = 1",
    "INSERT INTO flights VALUES (1)",
    "TRUNCATE flights",
    "CREATE TABLE x AS SELECT * FROM flights",
    "SELECT * INTO x FROM flights",
    "SELECT * FROM flights FOR UPDATE",
    "WITH d AS (DELETE FROM flights RETURNING *) SELECT * FROM d",
    "WITH d AS (INSERT INTO flights VALUES (1) RETURNING *) SELECT * FROM d",
    "COPY flights TO '/tmp/x'",
    "COPY flights FROM PROGRAM 'id'",
    "COPY (SELECT * FROM flights) TO '/tmp/x'",
    "SET ROLE postgres",
    "SET search_path = finance",
    "RESET ROLE",
    "SHOW ALL",
    "BEGIN",
    "COMMIT",
    "DO $$ BEGIN END $$",
    "CALL something()",
    "EXECUTE x",
    "PREPARE x AS SELECT 1",
    "LISTEN x",
    "VACUUM",
    "GRANT SELECT ON flights TO PUBLIC",
    "LOCK TABLE flights",
    "EXPLAIN ANALYZE DELETE FROM flights",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "SELECT PG_READ_FILE('/etc/passwd')",
    "SELECT \"pg_read_file\"('/etc/passwd')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT dblink('host=evil', 'select 1')",
    "SELECT query_to_xml('select * from salaries', true, true, '')",
    "SELECT * FROM ts_stat('select * from salaries')",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT current_setting('data_directory')",
    "SELECT pg_sleep(100)",
    "SELECT pg_terminate_backend(1)",
    "SELECT public.own_function(1)",
    "SELECT 'salaries'::regclass",
    "SELECT $1",
    "SELECT * FROM db.finance.flights",
    "SELECT 'open",
    "SELECT FROM WHERE",
]
DUCKDB_REFUSED = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/x')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_blob('/x')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'flights.parquet'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM query('select * from salaries')",
    "SELECT * FROM query_table('salaries')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    "ATTACH 'x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "COPY flights TO 'x.csv'",
    "EXPORT DATABASE '/tmp/x'",
    "SET enable_external_access = true",
    "SUMMARIZE flights",
]


@pytest.mark.parametrize("dialect", ["postgres", "duckdb"])
@pytest.mark.parametrize("sql", ALLOWED)
def test_reading_what_is_granted_is_allowed(sql: str, dialect: str) -> None:
    verdict = judge(sql, rules(dialect))
    assert {table for _schema, table in verdict.tables} <= {"flights", "airlines"}
    if not verdict.parameters:
        again = judge(verdict.sql, rules(dialect))
        assert (again.sql, again.tables) == (verdict.sql, verdict.tables)


@pytest.mark.parametrize("dialect", ["postgres", "duckdb"])
@pytest.mark.parametrize("sql", DENIED)
def test_tables_beyond_the_grant_are_denied(sql: str, dialect: str) -> None:
    with pytest.raises((AccessDenied, BadQuery)):
        judge(sql, rules(dialect))


@pytest.mark.parametrize("sql", REFUSED)
def test_what_does_more_than_read_is_refused(sql: str) -> None:
    with pytest.raises((BadQuery, AccessDenied)):
        judge(sql, rules("postgres"))


@pytest.mark.parametrize("sql", DUCKDB_REFUSED)
def test_files_and_settings_of_duckdb_are_out_of_reach(sql: str) -> None:
    with pytest.raises((BadQuery, AccessDenied)):
        judge(sql, rules("duckdb"))


def test_names_are_written_out_and_parameters_numbered() -> None:
    verdict = judge("SELECT * FROM flights WHERE a = :x AND b = :y AND c = :x", rules("postgres"))
    assert verdict.sql.count("$") == 3
    assert set(verdict.parameters) == {"x", "y"}
    assert 'FROM "public".flights AS flights' in verdict.sql


@pytest.mark.parametrize("dialect", ["postgres", "duckdb"])
@pytest.mark.parametrize("written", ["IN (:x)", "IN :x", "NOT IN (:x)"])
def test_a_list_in_an_in_is_bound_value_by_value(dialect: str, written: str) -> None:
    verdict = judge(f"SELECT * FROM flights WHERE a {written} AND b = :y", rules(dialect), {"x": 3})
    assert verdict.parameters in (("x[0]", "x[1]", "x[2]", "y"), ("y", "x[0]", "x[1]", "x[2]"))
    assert bind(verdict, {"x": ["a", "b", "c"], "y": 1}) in (["a", "b", "c", 1], [1, "a", "b", "c"])
    assert verdict.sql.count("$") == 4
    beside = judge("SELECT * FROM flights WHERE a IN ('z', :x, :y)", rules(dialect), {"x": 2})
    assert beside.sql.count("$") == 3
    assert "'z'" in beside.sql


def test_an_empty_list_and_one_too_long_say_what_to_do() -> None:
    for length, remedy in ((0, "only when it has one"), (10_001, r"ANY\(:x\)")):
        with pytest.raises(BadQuery) as raised:
            judge("SELECT * FROM flights WHERE a IN (:x)", rules("postgres"), {"x": length})
        assert re.search(remedy, raised.value.remedy)


def test_a_refusal_names_the_table_and_whom_to_ask() -> None:
    with pytest.raises(AccessDenied, match=r"public\.salaries.*source") as raised:
        judge("SELECT * FROM salaries", rules("postgres"))
    assert "admin" in raised.value.remedy


def test_a_position_is_found_again_in_what_the_user_wrote() -> None:
    assert position_in("SELECT a,\n  bad\nFROM t", "SELECT a, bad FROM t", 11) == (2, 3)


@pytest.mark.parametrize("sql", ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT 1" + "::int" * 3000])
def test_what_is_nested_too_deeply_is_refused(sql: str) -> None:
    with pytest.raises(BadQuery, match="too deeply"):
        judge(sql, rules("postgres"))
