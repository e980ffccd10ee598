"""Two people on one running workbench, each with a server, a kernel and something of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from websockets.sync.client import connect
from workbench import Browser, RunningWorkbench, eventually

from labwright.api import names

PATIENCE_SECONDS = 180


@dataclass
class Person:
    """Somebody with a running server, and the token that code in it has."""

    workbench: RunningWorkbench
    browser: Browser
    server: psutil.Process
    own_token: str  # made by the person: everything that he may do
    http: httpx.Client
    owns: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.browser.name

    @property
    def home(self) -> Path:
        return self.workbench.settings.homes / self.name

    @cached_property
    def server_token(self) -> str:
        return self.server.environ()[names.HUB_TOKEN]

    def ask(self, method: str, url: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        """With the server's token unless another is given."""
        headers = {"Authorization": f"token {token or self.server_token}"} | more.pop("headers", {})
        answer = self.http.request(method, url, headers=headers, **more)
        self.http.cookies.clear()  # the token alone says who asks
        return answer

    def core(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.ask(method, f"{self.workbench.settings.core_url}{names.API}{path}", **more)

    def data(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.ask(method, f"{self.workbench.settings.data_url}{names.API}{path}", **more)

    def mlflow(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.ask(method, f"{self.workbench.settings.mlflow_url}/api/2.0/mlflow/{path}", **more)

    def port(self) -> int:
        """Where the server itself listens, past the proxy: it may have sockets for its kernels as well."""
        port = httpx.URL(self.server.environ()["JUPYTERHUB_SERVICE_URL"]).port
        assert port is not None
        return port

    def run_code(self, code: str) -> str:
        """What the code prints in a kernel of the person, started through Jupyter's API."""
        base = f"{self.workbench.settings.public_url}/user/{self.name}/api/kernels"
        made = self.ask("POST", base, json={"name": "python3"}, token=self.own_token)
        assert made.status_code == 201, made.text
        kernel = f"{base}/{made.json()['id']}"
        try:
            return printed_by(f"{kernel}/channels".replace("http", "ws", 1), self.own_token, code)
        finally:
            self.ask("DELETE", kernel, token=self.own_token)


def printed_by(url: str, token: str, code: str) -> str:
    message = uuid.uuid4().hex
    header = {"msg_id": message, "msg_type": "execute_request", "username": "", "session": message, "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "user_expressions": {}}
    ask = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    text = ""
    with connect(url, additional_headers={"Authorization": f"token {token}"}, proxy=None, max_size=None) as socket:
        socket.send(json.dumps(ask))
        while True:
            answer = json.loads(socket.recv(PATIENCE_SECONDS))
            if answer["parent_header"].get("msg_id") != message:
                continue
            kind, found = answer["msg_type"], answer["content"]
            if kind == "stream":
                text += found["text"]
            elif kind == "error":
                raise AssertionError("\n".join(found["traceback"]))
            elif kind == "status" and found["execution_state"] == "idle":
                return text


def somebody(workbench: RunningWorkbench, name: str) -> Person:
    workbench.add_person(name)
    browser = workbench.log_in(name)
    answer = browser.start_server()
    assert answer.status_code < 400, answer.text
    browser.wait_for_server(PATIENCE_SECONDS)
    http = httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS)
    workbench.browsers.append(http)  # closed with it
    person = Person(workbench, browser, workbench.server_process(name), browser.new_token(), http)
    secret = person.home / "secret.txt"
    person.run_code(f"open('secret.txt', 'w').write('only for {name}')")
    assert secret.read_text() == f"only for {name}"
    return person


@pytest.fixture(scope="session")
def erin(workbench: RunningWorkbench) -> Iterator[Person]:
    person = somebody(workbench, "erin")
    yield person
    person.browser.stop_server()


@pytest.fixture(scope="session")
def frank(workbench: RunningWorkbench) -> Iterator[Person]:
    """Has a job with a run, a cluster, an experiment with a run and a model, and queries in the audit trail."""
    person = somebody(workbench, "frank")
    content = new_notebook(cells=[new_code_cell("print('made by frank')")])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    job = good(
        person.core("POST", "/jobs", json={"name": "franks", "notebook": {"path": "f.ipynb", "content": content}})
    )
    run = good(person.core("POST", f"/jobs/{job['id']}/runs", json={}))
    cluster = good(person.core("POST", "/clusters", json={"engine": "dask", "workers": 0, "name": "franks"}))
    query = {"sql": "SELECT count(*) AS franks_query FROM airlines", "origin": {"notebook": "franks.ipynb"}}
    eventually(
        lambda: person.data("POST", "/connections/warehouse/query", json=query).status_code == 200,
        seconds=PATIENCE_SECONDS,
        what="frank's query",
    )
    made = eventually(
        lambda: (a := person.mlflow("POST", "experiments/create", json={"name": "franks"})).status_code == 200 and a,
        seconds=PATIENCE_SECONDS,
        what="MLflow",
    )
    experiment = made.json()["experiment_id"]
    tracked = good(person.mlflow("POST", "runs/create", json={"experiment_id": experiment}))["run"]["info"]["run_id"]
    good(person.mlflow("POST", "registered-models/create", json={"name": "franks"}))

    def ended() -> bool:
        state = person.core("GET", f"/runs/{run['id']}").json()["state"]
        assert state not in ("failed", "lost", "timed-out", "cancelled"), state
        return bool(state == "succeeded")

    eventually(ended, seconds=PATIENCE_SECONDS, what="frank's run")
    person.owns = {
        "job_id": job["id"],
        "run_id": run["id"],
        "id": cluster["id"],
        "experiment": experiment,
        "tracked": tracked,
        "model": "franks",
    }
    yield person
    person.core("DELETE", f"/clusters/{cluster['id']}")
    eventually(
        lambda: person.core("GET", f"/clusters/{cluster['id']}").json()["state"] in ("stopped", "failed"),
        seconds=PATIENCE_SECONDS,
        what="the end of the cluster",
    )
    person.browser.stop_server()


def good(answer: httpx.Response) -> Any:
    assert answer.status_code < 300, f"{answer.status_code} {answer.text}"
    return answer.json()
