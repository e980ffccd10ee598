"""A whole workbench in real processes: login, profiles, tokens, restarts, isolation."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from workbench import Browser, RunningWorkbench, content_of, eventually, files_below

from labwright.api import names
from labwright.hub.installation import folders
from labwright.hub.people import generate_password


@pytest.fixture(scope="module")
def admin(workbench: RunningWorkbench) -> Browser:
    return workbench.log_in("admin")


def ask_hub(workbench: RunningWorkbench, token: str, path: str) -> httpx.Response:
    return httpx.get(
        workbench.settings.hub_api_url + path,
        headers={"Authorization": f"token {token}"},
        trust_env=False,
        verify=False,
    )


def server_environment(workbench: RunningWorkbench, name: str) -> dict[str, str]:
    """The environment of somebody's running server."""
    environ: dict[str, str] = workbench.server_process(name).environ()
    return environ


def test_a_wrong_password_does_not_log_in(workbench: RunningWorkbench) -> None:
    stranger = RunningWorkbench(workbench.settings, {"admin": generate_password(), "nobody": "x"})
    for name in ("admin", "nobody"):
        with pytest.raises(AssertionError, match="Invalid username or password"):
            stranger.log_in(name)
    stranger.close()


def test_no_password_is_stored(workbench: RunningWorkbench) -> None:
    password = workbench.passwords["admin"]
    for path in files_below(workbench.settings.home):
        assert password.encode() not in content_of(path), path


def test_up_says_that_it_is_up(workbench: RunningWorkbench) -> None:
    assert f"already up at {workbench.settings.public_url}" in workbench.labwright("up").stdout


def test_doctor_finds_nothing_to_mend(workbench: RunningWorkbench) -> None:
    done = workbench.labwright("doctor", check=False)
    assert "BAD" not in done.stdout, done.stdout
    assert done.returncode == 0


def test_the_spawn_page_shows_the_cards_of_the_file_that_are_for_ones_groups(
    workbench: RunningWorkbench, admin: Browser
) -> None:
    workbench.add_person("outsider")
    outsider = workbench.log_in("outsider")
    pages = {browser.name: browser.http.get("/hub/spawn").text for browser in (outsider, admin)}
    for text in ("Small", "1 CPU · 2 GB", "0.05 €/h", 'value="large"'):
        assert all(text in page for page in pages.values())
    # for the group research, in which the first admin is
    assert "One GPU" not in pages["outsider"]
    assert "One GPU" in pages["admin"]


@pytest.mark.parametrize(
    "user_options",
    [
        {"profile": "gpus"},
        {"profile": "small", "cpu": 64},
        {"profile": "small", "options": {"image": "x"}},
        {"profile": ["small"]},
        {"cmd": ["sh"]},
    ],
)
def test_tampered_options_are_refused_by_the_api(admin: Browser, user_options: dict[str, Any]) -> None:
    answer = admin.api("POST", "/users/admin/server", json={"user_options": user_options})
    assert answer.status_code == 422, answer.text
    assert not admin.server()


def test_a_tampered_form_shows_the_page_again_with_the_reason(admin: Browser) -> None:
    answer = admin.start_server("gpus")
    assert answer.status_code == 422
    assert "There is no profile &#39;gpus&#39;. Choose one of: small, large, gpu." in answer.text
    assert not admin.server()


def test_a_profile_of_somebody_elses_group_does_not_exist(workbench: RunningWorkbench) -> None:
    workbench.add_person("stranger")
    stranger = workbench.log_in("stranger")
    answer = stranger.start_server("gpu")
    assert answer.status_code == 422
    assert "There is no profile &#39;gpu&#39;. Choose one of: small, large." in answer.text
    assert not stranger.server()


def test_the_progress_of_a_start_comes_while_the_server_starts(admin: Browser) -> None:
    """Event by event, through the proxy: the page that waits shows them, and opens Lab with the last one."""
    arrived, ready = [], []
    with ThreadPoolExecutor(1) as starting:  # the hub answers when the server runs
        started = starting.submit(admin.api, "POST", "/users/admin/server", json={"user_options": {"profile": "small"}})
        eventually(lambda: admin.server().get("pending"), what="the start")
        with admin.http.stream("GET", "/hub/api/users/admin/server/progress") as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    arrived.append(json.loads(line.removeprefix("data:")))
                    ready.append(bool(admin.server().get("ready")))
        assert started.result().status_code < 300
    assert arrived[-1]["ready"] is True, arrived
    assert len(arrived) > 1
    assert ready[0] is False, "the first event came only when the server was ready"
    admin.stop_server()


def test_a_server_starts_and_survives_hub_proxy_and_launcher(workbench: RunningWorkbench, admin: Browser) -> None:
    admin.start_server("small")
    admin.wait_for_server()
    environ = server_environment(workbench, "admin")
    assert environ[names.PROFILE] == "small"
    assert environ["OMP_NUM_THREADS"] == "1"
    assert environ["DO_NOT_TRACK"] == environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environ[names.DATA_URL] == workbench.settings.data_url
    assert environ["DASK_GATEWAY__ADDRESS"] == workbench.settings.gateway_url
    started = admin.server()["started"]
    lab = "/user/admin/lab"
    assert "jupyter-config-data" in admin.http.get(lab).text
    for program in ("hub", "proxy", "launcher"):
        workbench.restart(program)
        eventually(lambda: admin.http.get(lab).status_code == 200, what=f"Lab after the death of {program}")
    assert admin.server()["started"] == started
    assert server_environment(workbench, "admin") == environ


def test_what_a_server_looks_up_is_its_owners(workbench: RunningWorkbench, admin: Browser) -> None:
    """A server is a fork of a process that is nobody's: Lab's layouts lie in the person's home."""
    layouts = f"{workbench.settings.public_url}/user/admin/lab/api/workspaces"
    headers = {"Authorization": f"token {admin.new_token()}"}
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as client:
        layout = {"data": {"canary": 1}, "metadata": {"id": "tried"}}
        client.put(f"{layouts}/tried", json=layout).raise_for_status()
        assert "tried" in client.get(layouts).raise_for_status().json()["workspaces"]["ids"]
    saved = workbench.settings.homes / "admin" / ".jupyter" / "lab" / "workspaces"
    assert [json.loads(path.read_text())["data"] for path in saved.glob("tried*")] == [{"canary": 1}]


def test_a_servers_token_is_no_admin_whoever_owns_it(workbench: RunningWorkbench, admin: Browser) -> None:
    token = server_environment(workbench, "admin")[names.HUB_TOKEN]
    scopes = set(ask_hub(workbench, token, "/user").json()["scopes"])
    assert set(names.USER_SCOPES) <= scopes
    assert {"access:services!service=core", "access:services!service=data"} <= scopes
    assert names.SCOPE_ADMIN not in scopes
    assert not any(scope.startswith("admin:") for scope in scopes)
    assert ask_hub(workbench, token, "/users").status_code == 403
    own = set(ask_hub(workbench, admin.new_token(), "/user").json()["scopes"])
    assert names.SCOPE_ADMIN in own


def test_the_server_stops_and_nothing_of_it_is_left(workbench: RunningWorkbench, admin: Browser) -> None:
    admin.stop_server()
    with pytest.raises(AssertionError, match="has no server"):
        server_environment(workbench, "admin")


def test_each_services_token_may_do_its_own_work_only(workbench: RunningWorkbench) -> None:
    settings = workbench.settings
    scopes = {}
    for service in ("core", "data", "gateway", "hub", "people"):
        token = settings.service_token_file(service).read_text()
        model = ask_hub(workbench, token, "/user").json()
        assert (model["kind"], model["name"]) == ("service", service)
        scopes[service] = set(model["scopes"])
    assert names.SCOPE_LEDGER in scopes["hub"]
    assert all(names.SCOPE_LEDGER not in scopes[name] for name in ("core", "data", "gateway", "people"))
    assert all(names.SCOPE_ADMIN not in held for held in scopes.values())
    data = settings.service_token_file("data").read_text()
    assert set(ask_hub(workbench, data, "/users/admin").json()["groups"]) == {"admins", "research"}
    assert ask_hub(workbench, data, "/users/admin/tokens").status_code in (403, 404)


def test_folders_and_secrets_are_closed(workbench: RunningWorkbench) -> None:
    for folder in folders(workbench.settings):
        assert stat.S_IMODE(folder.path.stat().st_mode) == folder.mode, folder.path
    for service in ("core", "data", "gateway", "hub", "people"):
        assert stat.S_IMODE(workbench.settings.service_token_file(service).stat().st_mode) == 0o600
    assert stat.S_IMODE(workbench.settings.signing_key_file.stat().st_mode) == 0o600


def test_it_listens_on_loopback_only(workbench: RunningWorkbench) -> None:
    ours = range(workbench.settings.port, workbench.settings.port + 8)
    listeners = [c for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.laddr.port in ours]
    assert {c.laddr.ip for c in listeners} == {"127.0.0.1"}


@pytest.mark.uid
def test_groups_hold_at_once_and_a_removed_person_is_out(workbench: RunningWorkbench) -> None:
    workbench.add_person("carol", "research")
    carol = workbench.log_in("carol")
    assert "One GPU" in carol.http.get("/hub/spawn").text
    token = carol.new_token()
    workbench.labwright("people", "groups", "carol", "--group", "students")
    data = workbench.settings.service_token_file("data").read_text()
    assert ask_hub(workbench, data, "/users/carol").json()["groups"] == ["students"]
    assert "One GPU" not in carol.http.get("/hub/spawn").text
    assert names.SCOPE_ADMIN not in ask_hub(workbench, token, "/user").json()["scopes"]
    workbench.labwright("people", "remove", "carol")
    assert ask_hub(workbench, token, "/user").status_code == 403
    with pytest.raises(AssertionError, match="Invalid username"):
        workbench.log_in("carol")


@pytest.mark.uid
def test_a_person_cannot_read_the_services_nor_anothers_files_from_a_server(workbench: RunningWorkbench) -> None:
    """Through the real path: dave's server, its contents API, and a process as dave."""
    workbench.add_person("dave")
    dave = workbench.log_in("dave")
    dave.start_server()
    dave.wait_for_server()
    environ = server_environment(workbench, "dave")
    uid = (workbench.settings.homes / "dave").stat().st_uid
    assert uid != 0
    secrets = [workbench.settings.service_token_file(name).read_text() for name in ("core", "data", "hub", "people")]
    assert not any(secret in json.dumps(environ) for secret in secrets)
    readable = readable_below(workbench.settings.home, uid)
    own = workbench.settings.homes / "dave"
    assert [path for path in readable if not path.is_relative_to(own)] in ([], [workbench.settings.public_key_file])
    dave.stop_server()


def readable_below(folder: Path, uid: int) -> list[Path]:
    """Every file below a folder that a process of that user opens, tried by one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = []
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            known = json.loads(os.environ["LABWRIGHT_TEST_FILES"])
            for name in known:
                try:
                    with open(name, "rb") as file:  # noqa: PTH123
                        file.read(1)
                except OSError:
                    continue
                found.append(name)
            os.write(writing, json.dumps(found[:100]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return [Path(name) for name in json.loads(text)]


@pytest.fixture(autouse=True)
def _list_files(workbench: RunningWorkbench, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "from_a_server" in request.node.name:
        home = workbench.settings.home
        homes = [home / "homes" / "admin" / ".bashrc"]
        files = [str(path) for path in files_below(home) if "homes/" not in str(path)]
        monkeypatch.setenv("LABWRIGHT_TEST_FILES", json.dumps([*files, *map(str, homes)]))
