"""One person tries, from a kernel and with every token in reach, to get at what is another's or a service's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from workbench import RunningWorkbench, files_below

from labwright.api import names

from .conftest import Person, good

pytestmark = pytest.mark.uid

# Runs in erin's kernel, as erin. Each attempt leaves the name of the error that refused it, or what it got.
ATTEMPTS = """
import json, os, socket
targets = json.loads({targets!r})
found = {{}}

def attempt(name, act):
    try:
        found[name] = "got " + repr(act())[:200]
    except Exception as error:
        found[name] = type(error).__name__

def read(path):
    with open(path, "rb") as file:
        return file.read(16)

def write(path):
    with open(path, "ab") as file:
        return file.name

def ask(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(20)
        one.connect(path)
        one.sendall(b'{{"op": "list"}}\\n')
        return one.recv(100)

for path in targets["files"]:
    attempt("read " + path, lambda: read(path))
    attempt("write " + path, lambda: write(path))
for path in targets["folders"]:
    attempt("list " + path, lambda: os.listdir(path))
    attempt("make in " + path, lambda: os.mkdir(path + "/erins"))
for path in targets["sockets"]:
    attempt("ask " + path, lambda: ask(path))
for pid in targets["pids"]:
    for part in ("environ", "mem", "maps", "auxv"):
        attempt(f"read /proc/{{pid}}/{{part}}", lambda: read(f"/proc/{{pid}}/{{part}}"))
    for part in ("cwd", "root", "exe"):
        attempt(f"follow /proc/{{pid}}/{{part}}", lambda: os.readlink(f"/proc/{{pid}}/{{part}}"))
    attempt(f"list /proc/{{pid}}/fd", lambda: os.listdir(f"/proc/{{pid}}/fd"))
    attempt(f"signal {{pid}}", lambda: os.kill(pid, 0))
attempt("become root", lambda: os.setuid(0))
attempt("become frank", lambda: os.setuid(targets["frank"]))
print("FOUND " + json.dumps(found))
"""


def service_files(workbench: RunningWorkbench) -> list[Path]:
    """Every file of the workbench but what is in people's homes and the public key."""
    settings = workbench.settings
    return [
        path
        for path in files_below(settings.home)
        if not path.is_relative_to(settings.homes) and path != settings.public_key_file
    ]


def processes_of_others(workbench: RunningWorkbench, frank: Person, uid: int) -> list[int]:
    """Pids of frank's processes and of the services, none of which is erin's."""
    home = str(workbench.settings.home)
    found = []
    for process in psutil.process_iter():
        try:
            theirs = process.uids().real
            services = home in " ".join(process.cmdline()) or process.environ().get("LABWRIGHT_HOME") == home
        except psutil.Error:
            continue
        if theirs != uid and (services or theirs == frank.home.stat().st_uid):
            found.append(process.pid)
    assert frank.server.pid in found
    assert len(found) > 8, "the services are not among them"
    return found


def test_a_kernel_gets_at_nothing_of_another_person_nor_of_a_service(
    workbench: RunningWorkbench, erin: Person, frank: Person
) -> None:
    settings = workbench.settings
    uid = erin.home.stat().st_uid
    assert len({uid, frank.home.stat().st_uid, 0}) == 3
    folders = [frank.home, settings.home, settings.homes, settings.logs, settings.hub_folder, settings.core_folder]
    folders += [settings.data_folder, settings.warehouse_folder, settings.lake_folder, settings.mlflow_folder]
    folders += [settings.run, settings.run / "launcher", settings.public_key_file.parent / ".."]
    entries = [Path(where) / name for where, _, found in os.walk(settings.home) for name in found]
    sockets = [path for path in entries if path.is_socket() and not path.is_relative_to(erin.home)]
    assert settings.launcher_socket in sockets
    theirs = list(files_below(frank.home))
    assert frank.home / "secret.txt" in theirs
    targets = {
        "files": [
            str(path) for path in [*service_files(workbench), *theirs[:200]] if "/cluster/base/" not in str(path)
        ],
        "folders": [str(path) for path in folders],
        "sockets": [str(path) for path in sockets],
        "pids": processes_of_others(workbench, frank, uid),
        "frank": frank.home.stat().st_uid,
    }
    text = erin.run_code(ATTEMPTS.format(targets=json.dumps(targets)))
    found: dict[str, str] = json.loads(text.partition("FOUND ")[2])
    assert len(found) > 100
    # A process or file that ended meanwhile is not there any more; nothing else but a refusal is right.
    gone = {"FileNotFoundError", "ProcessLookupError"}
    let_in = {name: outcome for name, outcome in found.items() if outcome not in {"PermissionError"} | gone}
    assert let_in == {}
    refused = [name for name, outcome in found.items() if outcome == "PermissionError"]
    for name in (f"read {frank.home / 'secret.txt'}", f"ask {settings.launcher_socket}", "become root", "become frank"):
        assert name in refused
    assert f"read /proc/{frank.server.pid}/environ" in refused
    assert not (frank.home / "erins").exists()


def test_anothers_server_takes_nobody_elses_token(workbench: RunningWorkbench, erin: Person, frank: Person) -> None:
    direct = f"http://127.0.0.1:{frank.port()}"
    for token in (erin.server_token, erin.own_token, "nonsense"):
        for base in (workbench.settings.public_url, direct):
            for path in ("api/contents/secret.txt", "api/kernels", "labwright/core/jobs", "labwright/status", "lab"):
                answer = erin.ask("GET", f"{base}/user/frank/{path}", token=token)
                assert "only for frank" not in answer.text
                assert answer.status_code in (302, 401, 403), (base, path, answer.status_code)
                if answer.status_code == 302:
                    assert "/oauth2/authorize" in answer.headers["location"] or "login" in answer.headers["location"]
            assert erin.ask("POST", f"{base}/user/frank/api/kernels", token=token).status_code in (401, 403)
    assert frank.ask("GET", f"{direct}/user/frank/api/contents/secret.txt").status_code == 200


def test_the_hub_tells_and_does_nothing_about_another_person(workbench: RunningWorkbench, erin: Person) -> None:
    hub = workbench.settings.hub_api_url
    for token in (erin.server_token, erin.own_token):
        for method, path in (
            ("GET", "/users"),
            ("GET", "/users/frank"),
            ("GET", "/users/frank/tokens"),
            ("POST", "/users/frank/tokens"),
            ("DELETE", "/users/frank/server"),
            ("POST", "/users/frank/server"),
            ("DELETE", "/users/frank"),
            ("PATCH", "/users/erin"),
            ("POST", "/groups/admins/users"),
            ("GET", "/services"),
            ("GET", "/proxy"),
            ("POST", "/shutdown"),
        ):
            body = {"groups": ["admins"], "users": ["erin"], "admin": True} if method in ("POST", "PATCH") else None
            answer = erin.ask(method, f"{hub}{path}", token=token, json=body)
            refused = answer.status_code in (403, 404) or (path == "/services" and answer.json() == {})
            assert refused, (method, path, answer.status_code, answer.text)


OWNED: list[tuple[str, str, Any]] = [
    ("GET", "/jobs/{job_id}", None),
    ("PATCH", "/jobs/{job_id}", {"paused": True}),
    ("POST", "/jobs/{job_id}/restore", None),
    ("POST", "/jobs/{job_id}/runs", {}),
    ("GET", "/runs/{run_id}", None),
    ("POST", "/runs/{run_id}/cancel", None),
    ("GET", "/runs/{run_id}/notebook", None),
    ("GET", "/runs/{run_id}/source", None),
    ("GET", "/runs/{run_id}/log", None),
    ("POST", "/runs/{run_id}/tracking", {"experiment_id": "1", "run_id": "x"}),
    ("GET", "/clusters/{id}", None),
    ("GET", "/clusters/{id}/address", None),
    ("POST", "/clusters/{id}/scale", {"workers": 1}),
    ("DELETE", "/clusters/{id}", None),
    ("DELETE", "/jobs/{job_id}", None),
]


def test_what_is_anothers_answers_like_what_does_not_exist(erin: Person, frank: Person) -> None:
    nothing = {"job_id": "job-" + "0" * 20, "run_id": "run-" + "0" * 20, "id": "0" * 20}
    for token in (erin.server_token, erin.own_token):
        for method, path, body in OWNED:
            theirs = erin.core(method, path.format(**frank.owns), json=body, token=token)
            guessed = erin.core(method, path.format(**nothing), json=body, token=token)
            assert (theirs.status_code, guessed.status_code) == (404, 404), (method, path, theirs.text)
            shown = {key: value for key, value in theirs.json().items() if key != "detail"}
            assert shown == {key: value for key, value in guessed.json().items() if key != "detail"}
        for path in ("/jobs", "/runs", "/clusters"):
            assert erin.core("GET", path, token=token).json()["items"] == []
    prefix = erin.workbench.settings.core_url
    dashboard = f"{prefix}/clusters/{frank.owns['id']}/dashboard/status"
    assert erin.ask("GET", dashboard).status_code == 404
    assert frank.core("GET", f"/jobs/{frank.owns['job_id']}").json()["paused"] is False


def test_experiments_and_models_are_their_owners_alone(erin: Person, frank: Person) -> None:
    own = frank.owns
    for method, path, query in (
        ("GET", "experiments/get", {"experiment_id": own["experiment"]}),
        ("GET", "experiments/get-by-name", {"experiment_name": "franks"}),
        ("GET", "runs/get", {"run_id": own["tracked"]}),
        ("GET", "artifacts/list", {"run_id": own["tracked"]}),
        ("GET", "registered-models/get", {"name": "franks"}),
    ):
        assert erin.mlflow(method, path, params=query).status_code == 404, path
        assert frank.mlflow(method, path, params=query).status_code == 200, path
    for path, body in (
        ("runs/log-metric", {"run_id": own["tracked"], "key": "k", "value": 1, "timestamp": 1}),
        ("runs/delete", {"run_id": own["tracked"]}),
        ("experiments/delete", {"experiment_id": own["experiment"]}),
    ):
        assert erin.mlflow("POST", path, json=body).status_code == 404, path
    for workspace in ("franks", "user-frank", "frank", "../frank"):
        headers = {"X-MLFLOW-WORKSPACE": workspace}
        answer = erin.mlflow("POST", "experiments/search", json={"max_results": 100}, headers=headers)
        assert '"franks"' not in answer.text


def test_trails_usage_and_events_tell_of_oneself_alone(
    workbench: RunningWorkbench, erin: Person, frank: Person
) -> None:
    assert "franks_query" in frank.data("GET", "/audit").text
    for ask in (erin.data, erin.core):
        for params in ({"limit": 1000}, {"limit": 1000, "who": "frank"}, {"limit": 1000, "everybody": True}):
            page = ask("GET", "/audit", params=params)
            whose = {item["who"] for item in page.json().get("items", ())}
            assert page.status_code == 403 or whose <= {"erin"}, page.text
    for path in ("/usage", "/usage.csv", "/me"):
        for params in ({}, {"everybody": True}):
            answer = erin.core("GET", path, params=params)
            assert answer.status_code == 403 or "frank" not in answer.text, answer.text
    mine = erin.core("POST", "/clusters", json={"engine": "spark", "workers": 0, "name": "x" * 65})
    assert mine.status_code == 422
    for ask in (erin.core, erin.data):
        assert ask("GET", "/ledger/people/frank").status_code in (403, 404)


def test_a_stream_of_events_carries_ones_own_alone(workbench: RunningWorkbench, erin: Person, frank: Person) -> None:
    """From the first event on, through the proxy, while both change something."""
    url = f"{workbench.settings.public_url}{names.CORE_PREFIX}{names.API}/events"
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    theirs = set(frank.owns.values())
    for kind, token in (("server", erin.server_token), ("own", erin.own_token)):
        headers = {"Authorization": f"token {token}"}
        seen: list[str] = []
        with erin.http.stream("GET", url, params={"after": 0, "owner": "frank"}, headers=headers) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": ready"
            jobs = []
            for person, name in ((frank, "franks"), (erin, "erins")):
                ask = {"name": f"{name} {kind}", "notebook": {"path": "x.ipynb", "content": content}}
                jobs.append(good(person.core("POST", "/jobs", json=ask))["id"])
            while jobs[1] not in seen:  # the stream is in order, and frank's came before
                line = next(lines)
                if line.startswith("data: {") and line != "data: {}":
                    seen.append(json.loads(line.removeprefix("data: "))["key"])
        assert jobs[0] not in seen
        assert not theirs & set(seen)
        assert not any("frank" in key for key in seen)
        theirs.add(jobs[0])
        erin.http.cookies.clear()


def test_what_listens_inside_refuses_people(workbench: RunningWorkbench, erin: Person) -> None:
    settings = workbench.settings
    for token in (erin.server_token, erin.own_token):
        routes = f"http://127.0.0.1:{settings.proxy_api_port}/api/routes"
        assert erin.ask("GET", routes, token=token).status_code in (401, 403)
        for path in ("/labwright/v1/clusters", "/api/v1/routes", "/api/v1/clusters/x"):
            for port in (settings.gateway_port, settings.gateway_api_port):
                answer = erin.ask("GET", f"http://127.0.0.1:{port}{path}", token=token)
                assert answer.status_code in (401, 403, 404), (port, path, answer.text)
        lease = {"runner_id": "erins", "profile": "small", "wait_seconds": 0}
        assert erin.ask("POST", f"{settings.core_url}/runner/v1/lease", token=token, json=lease).status_code == 403
        for path, body in (
            ("/ledger/release", {"key": "server:frank/"}),
            ("/ledger/reservations", {"user": "frank", "kind": "server", "key": "server:frank/", "ask": {}}),
        ):
            assert erin.core("POST", path, token=token, json=body).status_code == 403


def test_forged_identities_change_nothing(erin: Person) -> None:
    forged = {"X-Forwarded-User": "frank", "X-JupyterHub-User": "frank", "Remote-User": "frank", "X-User": "frank"}
    me = erin.core("GET", "/me", headers=forged)
    assert me.json()["name"] == "erin"
    cookies = httpx.Cookies({"jupyterhub-user-frank": "x", "labwright-admin": "x"})
    answer = httpx.get(
        f"{erin.workbench.settings.core_url}{names.API}/jobs", cookies=cookies, headers=forged, trust_env=False
    )
    assert answer.status_code == 401
