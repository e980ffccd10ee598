"""The data service over HTTP, against a real PostgreSQL and a real DuckDB."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from workbench import eventually

from labwright.api import names
from labwright.hub.data import flights, frames, gateway, schema, worker
from labwright.hub.data.warehouse_files import SUPERUSER, Warehouse
from labwright.hub.database import Database


def ask(client: httpx.Client, connection: str, sql: str, **more: object) -> httpx.Response:
    return client.post(f"/connections/{connection}/query", json={"sql": sql, **more})


def rows(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200, response.text
    return pa.ipc.open_stream(response.content).read_all().to_pylist()


def test_flights_are_counted_in_postgresql_and_in_parquet(service) -> None:
    alice = service.client("alice")
    assert rows(ask(alice, "warehouse", "SELECT count(*) AS n FROM flights")) == [{"n": 336776}]
    assert rows(ask(alice, "lake", "SELECT count(*) AS n FROM airlines")) == [{"n": 16}]


@pytest.mark.parametrize(("connection", "table"), [("warehouse", "flights"), ("lake", "airports")])
def test_parameters_are_bound_and_never_pasted(service, connection: str, table: str) -> None:
    evil = "x' OR '1'='1"
    answer = ask(
        service.client("alice"),
        connection,
        f"SELECT count(*) AS n, :evil AS same FROM {table} WHERE :evil = 'y'",
        parameters={"evil": evil},
    )
    assert rows(answer) == [{"n": 0, "same": evil}]


@pytest.mark.parametrize("connection", ["warehouse", "lake"])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (10**30, "more than 64 bits"),
        ([1, -(1 << 63) - 1], "more than 64 bits"),
        ("\ud800", "half a character"),
        ({"type": "date", "value": "soon"}, "is no date"),
        ({"type": "decimal", "value": "much"}, "is no decimal"),
        ({"type": "bytes", "value": "?"}, "is no bytes"),
        ({"type": "colour", "value": "red"}, "unknown type"),
    ],
)
def test_a_value_that_cannot_be_bound_is_refused_by_name(service, connection: str, value: object, what: str) -> None:
    answer = service.client("alice").post(
        f"/connections/{connection}/query",
        content=json.dumps({"sql": "SELECT count(*) FROM airlines WHERE carrier = :odd", "parameters": {"odd": value}}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith("The parameter :odd ")
    assert what in answer.json()["detail"]


def test_dates_and_lists_bind(service) -> None:
    answer = ask(
        service.client("alice"),
        "warehouse",
        "SELECT count(*) AS n FROM flights WHERE time_hour < :day AND carrier = ANY(:carriers)",
        parameters={"day": {"type": "timestamp", "value": "2013-02-01T00:00:00+00:00"}, "carriers": ["UA", "AA"]},
    )
    assert 0 < rows(answer)[0]["n"] < 30000


@pytest.mark.parametrize("connection", ["warehouse", "lake"])
def test_a_list_fits_an_in_and_stays_a_value(service, connection: str) -> None:
    evil = "x') OR ('1'='1"
    client, sql = service.client("alice"), "SELECT count(*) AS n FROM airlines WHERE carrier IN (:carriers)"
    for carriers, expected in ((["UA", "AA", evil], 2), ([evil], 0)):
        assert rows(ask(client, connection, sql, parameters={"carriers": carriers})) == [{"n": expected}]
    empty = ask(client, connection, sql, parameters={"carriers": []})
    assert empty.status_code == 422
    assert "is empty" in empty.json()["detail"]


def test_the_limit_stops_the_stream(service) -> None:
    answer = ask(service.client("alice"), "warehouse", "SELECT * FROM flights", limit=7)
    assert len(rows(answer)) == 7


def test_times_are_loaded_as_the_instants_that_they_are(service) -> None:
    sql = "SELECT min(time_hour) AS first, max(time_hour) AS last, count(DISTINCT time_hour) AS n FROM flights"
    times = flights.read("flights")["time_hour"]
    found = rows(ask(service.client("alice"), "warehouse", sql))
    assert found == [
        {"first": pc.min(times).as_py(), "last": pc.max(times).as_py(), "n": pc.count_distinct(times).as_py()}
    ]


def test_numeric_arrives_as_double(service) -> None:
    (row,) = rows(ask(service.client("alice"), "warehouse", "SELECT avg(arr_delay) AS a FROM flights"))
    assert row["a"] == pytest.approx(6.895, abs=0.01)


def test_without_a_grant_nothing_is_shown_and_nothing_runs(service) -> None:
    bob = service.client("bob")
    shown = {item["name"]: item["granted"] for item in bob.get("/connections").json()["items"]}
    assert shown == {"warehouse": False, "lake": True}
    assert bob.get("/connections/warehouse/catalog").status_code == 404
    assert bob.get("/connections/warehouse/tables/public/flights").status_code == 404
    assert bob.get("/connections/warehouse/tables/public/flights/preview").status_code == 404
    refused = ask(bob, "warehouse", "SELECT 1")
    assert (refused.status_code, refused.json()["code"]) == (403, "access-denied")


def test_tokens_are_asked_for(service) -> None:
    assert httpx.get(service.url + "/api/v1/connections", trust_env=False).status_code == 401
    assert service.client("nobody").get("/connections").status_code == 401
    assert service.client("none").get("/connections").status_code == 403
    assert service.client("alice").post("/connections", json={"name": "x", "driver": "duckdb"}).status_code == 403
    grant = {"group": "research", "connection": "lake"}
    assert service.client("alice").put("/grants", json=grant).status_code == 403


def test_the_catalogue_shows_granted_tables_with_rows_and_finds_columns(service) -> None:
    alice = service.client("alice")
    tables = {t["name"]: t["rows"] for t in alice.get("/connections/warehouse/catalog").json()["tables"]}
    assert set(tables) == {"flights", "airlines", "airports"}
    assert tables["flights"] == 336776
    found = alice.get("/connections/warehouse/catalog", params={"search": "arr_del"}).json()["tables"]
    assert [t["name"] for t in found] == ["flights"]
    columns = alice.get("/connections/warehouse/tables/public/flights").json()["columns"]
    assert {"name": "carrier", "type": "text", "nullable": True, "masked": False} in columns


@pytest.mark.parametrize(
    ("connection", "schema_name", "table"), [("warehouse", "public", "flights"), ("lake", "main", "airports")]
)
def test_a_preview_is_plain_json(service, connection: str, schema_name: str, table: str) -> None:
    answer = service.client("alice").get(f"/connections/{connection}/tables/{schema_name}/{table}/preview")
    body = answer.json()
    assert len(body["rows"]) == 100
    assert len(body["rows"][0]) == len(body["columns"])


def test_an_error_says_what_and_where(service) -> None:
    answer = ask(service.client("alice"), "warehouse", "SELECT carrier,\n  nonsense\nFROM flights")
    body = answer.json()
    assert (answer.status_code, body["code"], body["line"], body["column"]) == (422, "bad-query", 2, 3)
    assert "nonsense" in body["detail"]


def test_an_error_in_mid_query_has_no_traceback_and_no_statement(service) -> None:
    answer = ask(service.client("alice"), "warehouse", "SELECT 1 / (month - month) FROM flights")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "division by zero."


def running(warehouse: Warehouse, mark: str) -> int:
    with warehouse.connect(SUPERUSER) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND usename <> %s",
            (f"%{mark}%", SUPERUSER),
        ).fetchone()
    assert found is not None
    return found[0]


def test_a_client_that_leaves_cancels_the_query_in_the_database(service, warehouse) -> None:
    sql = "SELECT sum(a.distance + b.distance) AS cancel_me FROM flights a, flights b"
    client = service.client("alice")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/connections/warehouse/query", json={"sql": sql}, timeout=2)
    eventually(lambda: running(warehouse, "cancel_me") == 0)
    trail = client.get("/audit").json()
    eventually(lambda: "cancelled" in str(client.get("/audit").json()["items"][0]["details"]))
    assert trail["intact"]


@contextmanager
def readers_that_stall(service, who: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for a large answer and take only its first bytes."""
    sql = "SELECT a.* FROM airports a, range(20000)"
    body = json.dumps({"sql": sql}).encode()
    url = httpx.URL(service.url)
    head = (
        f"POST {url.path}{names.API}/connections/lake/query HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Authorization: Bearer token-{who}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    readers = [socket.socket() for _ in range(count)]
    try:
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((url.host, url.port))
            reader.sendall(head.encode() + body)
        yield readers
    finally:
        for reader in readers:
            reader.close()


def test_who_does_not_read_leaves_places_to_others(service) -> None:
    """More answers at a time than the connection's worker has places for, and nobody takes them."""
    with readers_that_stall(service, "alice", 2 * worker.PARALLEL) as readers:
        eventually(lambda: len(select.select(readers, [], [], 0)[0]) >= gateway.PER_PERSON, what="her first answers")
        answer = service.client("bob").post("/connections/lake/query", json={"sql": "SELECT 1 AS one"}, timeout=30)
        assert rows(answer) == [{"one": 1}]


def test_who_takes_nothing_for_long_loses_the_place(service, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(worker, "SEND_SECONDS", 1)
    with ours, theirs:
        request = worker.Request(theirs)
        with pytest.raises(BlockingIOError):
            request.send_stream(bytes(64 << 20))


def test_a_large_value_comes_in_pieces(service) -> None:
    value = os.urandom(1) * (3 * worker.PIECE_BYTES + 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=worker.Request(theirs).send_stream, args=[value])
        sender.start()
        stream, taken = ours.makefile("rb"), b""
        while len(taken) < len(value):
            kind, length = frames.FRAME.unpack(stream.read(frames.FRAME.size))
            assert kind == b"D"
            assert length <= worker.PIECE_BYTES
            taken += stream.read(length)
        sender.join()
        stream.close()
    assert taken == value


@pytest.mark.parametrize(
    ("connection", "sql"),
    [
        ("warehouse", "SELECT airlines FROM airlines"),
        ("lake", "SELECT union_value(a := 1)"),
        ("lake", "SELECT 'a'::ENUM('a', 'b')"),
    ],
)
def test_a_type_that_cannot_be_sent_is_said(service, connection: str, sql: str) -> None:
    answer = ask(service.client("alice"), connection, sql)
    assert (answer.status_code, answer.json()["remedy"]) == (422, "Cast it to text.")


def test_a_statement_cannot_fill_the_disk(service, warehouse) -> None:
    with warehouse.connect(SUPERUSER) as connection:
        assert connection.execute("SHOW temp_file_limit").fetchone() == ("4GB",)


def test_a_worker_that_was_killed_comes_back(service) -> None:
    alice = service.client("alice")
    rows(ask(alice, "lake", "SELECT 1 AS one"))
    pid = service.workers.pids()["lake"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.workers.pids().get("lake") != pid)
    assert rows(ask(alice, "lake", "SELECT 1 AS one")) == [{"one": 1}]


def test_queries_are_audited_for_the_one_who_asked(service) -> None:
    alice = service.client("alice")
    rows(ask(alice, "warehouse", "SELECT 1 AS audited FROM flights LIMIT 3", origin={"notebook": "a.ipynb"}))
    (first, *_rest) = alice.get("/audit").json()["items"]
    assert (first["who"], first["action"], first["what"]) == ("alice", "query", "warehouse")
    details = first["details"]
    assert (details["tables"], details["rows"], details["origin"]) == (["public.flights"], 3, {"notebook": "a.ipynb"})
    assert all(item["who"] == "bob" for item in service.client("bob").get("/audit").json()["items"])


def test_a_search_of_the_trail_finds_the_rows_with_its_words_and_no_others(service) -> None:
    for statement in ("SELECT 1 AS needle", "SELECT 1 AS straw"):
        for person in ("alice", "bob"):
            rows(ask(service.client(person), "lake", statement))
    for person, whose in (("admin", {"alice", "bob"}), ("bob", {"bob"})):
        found = service.client(person).get("/audit", params={"search": "AS needle"}).json()["items"]
        assert {item["who"] for item in found} == whose
        assert all("AS needle" in str(item["details"]) for item in found)


def test_an_admin_adds_grants_and_removes_a_connection_and_the_secret_stays_inside(service, warehouse) -> None:
    admin, bob = service.client("admin"), service.client("bob")
    canary = "canary-Pa55/word+%40"
    with warehouse.connect(SUPERUSER) as connection:
        connection.execute(f"CREATE ROLE visitor LOGIN PASSWORD '{canary}'")
        connection.execute("GRANT CONNECT ON DATABASE warehouse TO visitor")
        connection.execute("GRANT USAGE ON SCHEMA public TO visitor; GRANT SELECT ON airlines TO visitor")
    options = {"host": str(warehouse.socket_folder), "database": "warehouse", "user": "visitor"}
    body = {"name": "second", "driver": "postgresql", "options": options, "secret": canary}
    made = admin.post("/connections", json=body)
    assert made.status_code == 201, made.text
    assert ask(bob, "second", "SELECT * FROM airlines").status_code == 403
    grant = {"group": "everyone", "connection": "second", "tables": ["airlines"]}
    assert admin.put("/grants", json=grant).status_code == 200
    assert len(rows(ask(bob, "second", "SELECT * FROM airlines"))) == 16
    texts = [made.text, ask(bob, "second", "SELECT nonsense FROM airlines").text]
    texts += [admin.get(path).text for path in ("/connections", "/audit", "/grants", "/openapi.json")]
    assert not [text for text in texts if canary in text]
    for file in service.settings.data_folder.iterdir():
        assert canary.encode() not in file.read_bytes(), file
    pid = service.workers.pids()["second"]
    for name in ("environ", "cmdline"):
        assert canary.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    gone = admin.delete("/grants", params={"group": "everyone", "connection": "second"})
    assert gone.status_code == 204
    assert ask(bob, "second", "SELECT * FROM airlines").status_code == 403
    assert admin.delete("/connections/second").status_code == 204
    assert ask(bob, "second", "SELECT 1").status_code == 404


def test_a_superuser_is_refused_and_wrong_passwords_are_not_shown(service, warehouse) -> None:
    admin = service.client("admin")
    secret = warehouse.loader_password.read_text().strip()
    options = {"host": str(warehouse.socket_folder), "database": "warehouse", "user": SUPERUSER}
    body = {"name": "mighty", "driver": "postgresql", "options": options, "secret": secret}
    answer = admin.post("/connections", json=body)
    assert answer.status_code == 422
    assert "superuser" in answer.text
    wrong = admin.post("/connections", json=body | {"secret": "wrong-canary"})
    assert wrong.status_code == 422
    assert "wrong-canary" not in wrong.text
    hostile = admin.post("/connections", json=body | {"options": options | {"service": "/etc/passwd"}})
    assert hostile.status_code == 422
    assert "may not be set" in hostile.text


def test_what_the_file_declares_is_read_only(service) -> None:
    admin = service.client("admin")
    assert admin.delete("/connections/warehouse").status_code == 409
    assert admin.put("/grants", json={"group": "research", "connection": "warehouse"}).status_code == 409


def test_the_reader_can_do_no_more_than_select(warehouse) -> None:
    with warehouse.connect("labwright_reader") as connection:
        for statement in (
            "CREATE TABLE x (a int)",
            "DELETE FROM flights",
            "COPY flights TO '/tmp/x'",
            "COPY flights TO PROGRAM 'id'",
            "SET ROLE labwright_loader",
            "SELECT pg_read_file('/etc/passwd')",
            "CREATE TEMP TABLE x (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_migrated_schema_is_the_declared_one(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path}/data.sqlite")
    database.migrate(schema.MIGRATIONS)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    database.close()
