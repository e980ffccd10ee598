"""How MLflow's app is served: what each connection to its SQLite file has set, and requests of every shape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
from werkzeug import Request, Response

from labwright.api import names
from labwright.hub.tracking import serve

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import serve, sqlalchemy
sqlalchemy.event.listen(sqlalchemy.Engine, "connect", serve.set_up_sqlite)
serve.once_per_connection()
from mlflow.entities import Metric, Param
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
store = SqlAlchemyStore(f"sqlite:///{sys.argv[2]}/mlflow.sqlite", sys.argv[2])
statements = []
record = lambda connection, cursor, statement, *rest: statements.append(statement)
sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", record)
experiment = store.create_experiment("E")
run = store.create_run(experiment, "alice", 0, [], "r")
store.log_param(run.info.run_id, Param("kind", "Ridge"))
found = [len(store.search_runs([experiment], f"params.kind LIKE '{like}'", 1, 9)) for like in ("R%", "r%")]
with store.engine.connect() as connection:
    values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("foreign_keys", "busy_timeout")]
print(json.dumps([[s for s in statements if "PRAGMA" in s and s.endswith(";")], values, found]))
"""


def test_what_mlflow_sets_for_sqlite_is_set_once_for_a_connection(bench: Any, tmp_path: Path) -> None:
    python = bench.settings.environments / "mlflow" / "bin" / "python"
    folder = Path(serve.__file__).parent
    done = subprocess.run([python, "-c", PROGRAM, folder, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again, values, found = json.loads(done.stdout.splitlines()[-1])
    assert again == []
    assert values == [1, 20000]
    assert found == [1, 0], "LIKE tells capital letters from small ones"


OLDER = """
import sqlite3, sys
sys.path.insert(0, sys.argv[1])
import serve, sqlalchemy
from alembic import command
from mlflow.store.db import utils
url = f"sqlite:///{sys.argv[2]}/older.sqlite"
engine = sqlalchemy.create_engine(url)
utils.InitialBase.metadata.create_all(engine)
command.upgrade(utils._get_alembic_config(url), "7d34483879f0")  # of April 2026: later ones make trace_info anew
store = sqlite3.connect(f"{sys.argv[2]}/older.sqlite")
store.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (1, 'E', 'active')")
store.execute("INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('t', 1, 1, 'OK')")
store.execute("INSERT INTO trace_tags (request_id, key, value) VALUES ('t', 'kept', 'yes')")
store.commit()
sqlalchemy.event.listen(sqlalchemy.Engine, "connect", serve.set_up_sqlite)
serve.once_per_connection()
serve.upgrade_safely()
engine = sqlalchemy.create_engine(url)
utils._upgrade_db(engine)
utils._verify_schema(engine)
print(store.execute("SELECT count(*) FROM trace_tags").fetchone()[0])
with engine.connect() as connection:
    print(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())
"""


def test_an_upgrade_of_mlflows_schema_keeps_what_refers_to_the_tables_that_it_makes_anew(
    bench: Any, tmp_path: Path
) -> None:
    python = bench.settings.environments / "mlflow" / "bin" / "python"
    folder = Path(serve.__file__).parent
    done = subprocess.run([python, "-c", OLDER, folder, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]


# As MLflow's store does when it is opened; ended as by `kill -9` before its statement number `last`.
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import serve, sqlalchemy
sqlalchemy.event.listen(sqlalchemy.Engine, "connect", serve.set_up_sqlite)
serve.once_per_connection()
serve.upgrade_safely()
from mlflow.store.db import utils
count, last = 0, None
@sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
def note(*_):
    global count
    count += 1
    if count == last:
        os._exit(9)
def open_store(name):
    engine = sqlalchemy.create_engine(f"sqlite:///{sys.argv[2]}/{name}.sqlite")
    if not utils._all_tables_exist(engine):
        utils._initialize_tables(engine)
    utils._verify_schema(engine)
    engine.dispose()
open_store("whole")
whole, ends = count, []
for killed in range(20, whole, whole // 15):
    for last in (killed, None):
        if os.fork() == 0:
            count = 0
            open_store(killed)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(ends)
"""


def test_mlflow_starts_after_it_was_killed_while_it_made_its_tables(bench: Any, tmp_path: Path) -> None:
    python = bench.settings.environments / "mlflow" / "bin" / "python"
    folder = Path(serve.__file__).parent
    done = subprocess.run([python, "-c", KILLED, folder, tmp_path], capture_output=True, text=True, check=False)
    ends = json.loads(done.stdout.splitlines()[-1])
    assert len(ends) >= 30
    assert set(ends[::2]) == {9}
    assert set(ends[1::2]) == {0}, done.stderr


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("api/2.0/mlflow/runs/create", "Flask"),
        ("ajax-api/2.0/mlflow/runs/search", "Flask"),
        ("api/2.0/mlflow-artifacts/artifacts/a", "the whole app"),
        ("graphql", "the whole app"),
    ],
)
async def test_the_classic_api_is_asked_of_flask_directly_under_its_prefix_too(
    monkeypatch: pytest.MonkeyPatch, path: str, asked: str
) -> None:
    @Request.application
    def flask(request: Request) -> Response:
        return Response(f"Flask {request.method} {request.get_data().decode()}", 201)

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the whole app"})

    monkeypatch.setenv("_MLFLOW_STATIC_PREFIX", names.MLFLOW_PREFIX)
    transport = httpx.ASGITransport(serve.Shortcut(whole, flask))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(f"{names.MLFLOW_PREFIX}/{path}", content=b"body")
    assert answer.text.startswith(asked)
    assert (answer.status_code, answer.text) in ((200, "the whole app"), (201, "Flask POST body"))


async def test_what_a_request_sets_for_itself_is_not_seen_by_the_next_one() -> None:
    workspace: ContextVar[str] = ContextVar("workspace", default="none")

    @Request.application
    def flask(request: Request) -> Response:
        before = workspace.get()
        workspace.set(request.args["workspace"])
        return Response(before)

    classic = serve.Classic(flask)
    classic.threads = ThreadPoolExecutor(1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(classic), base_url="http://test") as client:
        seen = [(await client.get("/", params={"workspace": name})).text for name in ("ada", "bob")]
    assert seen == ["none", "none"]


TWICE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import serve

def run():
    os.write(1, f"{os.getpid()}\\n".encode())
    while True:
        signal.pause()

serve.run_twice(run)
"""


@pytest.fixture
def twice() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs twice, and the process id of its fork."""
    argv = [sys.executable, "-c", TWICE, str(Path(serve.__file__).parent)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            pids = {int(process.stdout.readline()) for _ in range(2)}
            yield process, next(iter(pids - {process.pid}))
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_either_process_ends_both_do_so_that_they_are_started_anew(twice: Any, number: int) -> None:
    process, fork = twice
    os.kill(fork, number)
    assert process.wait(20) == -signal.SIGTERM
    assert process.stdout.read() == "", "nobody holds its output open any more"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_fork_ends_with_the_process_that_was_started(twice: Any, number: int) -> None:
    process, _ = twice
    process.send_signal(number)
    assert process.wait(20) == -number
    assert process.stdout.read() == "", "nobody holds its output open any more"


@pytest.mark.parametrize("which", ["the first", "its fork"])
def test_while_one_process_is_busy_the_other_answers(bench: Any, mlflow: Any, which: str) -> None:
    children = Path(f"/proc/{mlflow.pid}/task/{mlflow.pid}/children").read_text().split()
    busy = mlflow.pid if which == "the first" else int(children[0])
    os.kill(busy, signal.SIGSTOP)
    try:
        for _ in range(5):
            with straight_to_mlflow(bench) as client:
                answer = client.get("api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "Default"})
            assert answer.status_code == 200
    finally:
        os.kill(busy, signal.SIGCONT)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_the_classic_api_does_not_know_is_answered_in_its_words(bench: Any, mlflow: Any, method: str) -> None:
    with straight_to_mlflow(bench) as client:
        answer = client.request(method, "api/2.0/mlflow/no-such-thing")
    assert answer.status_code in (404, 405)


def test_a_body_in_many_pieces_arrives_whole(bench: Any, mlflow: Any) -> None:
    keys = [f"p{n:02}" for n in range(99)]
    with straight_to_mlflow(bench) as client:
        found = client.get("api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "Default"}).json()
        made = client.post("api/2.0/mlflow/runs/create", json={"experiment_id": found["experiment"]["experiment_id"]})
        run = made.json()["run"]["info"]["run_id"]
        body = json.dumps({"run_id": run, "params": [{"key": key, "value": "x" * 500} for key in keys]}).encode()
        pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
        headers = {"content-type": "application/json"}
        logged = client.post("api/2.0/mlflow/runs/log-batch", content=pieces, headers=headers)
        assert logged.status_code == 200, logged.text
        params = client.get("api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["data"]["params"]
    assert sorted(each["key"] for each in params) == keys


def straight_to_mlflow(bench: Any) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(bench.settings.mlflow_socket))
    base = f"http://localhost{names.MLFLOW_PREFIX}"
    return httpx.Client(transport=transport, base_url=base, headers={"X-MLFLOW-WORKSPACE": "default"}, timeout=60)
