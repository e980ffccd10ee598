"""The admin's page in front of a hub that is played: login, what it shows, stopping a server, who may not."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from labwright.api import names
from labwright.api.usage import Ask, Quota, QuotaLine, ReservationRequest, server_key
from labwright.hub.data import openapi
from labwright.hub.usage.admin import shown_quota

from .conftest import trail_away
from .test_usage import spend


class PlayedHub:
    """Answers what core asks of the hub: tokens for codes, whose a token is, servers."""

    def __init__(self) -> None:
        self.challenges: dict[str, str] = {}
        self.scopes = ["access:services!service=core", names.SCOPE_ADMIN]
        self.stopped: list[str] = []
        self.app = FastAPI()
        self.app.add_api_route("/hub/api/oauth2/token", self.token, methods=["POST"])
        self.app.add_api_route("/hub/api/user", self.user)
        self.app.add_api_route("/hub/api/", lambda: {"version": "6"})
        self.app.add_api_route("/hub/api/users/{name}/server", self.stop, methods=["DELETE"])
        self.asked_of_data: dict[str, str] = {}
        self.app.add_api_route("/services/data/api/v1/audit", self.audit)

    async def token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        verifier = form.get("code_verifier", [""])[0].encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if self.challenges.get(form["code"][0]) != challenge or form["client_secret"] != ["core-secret"]:
            return JSONResponse({}, 400)
        return JSONResponse({"access_token": "browser-token"})

    async def user(self, request: Request) -> Response:
        if request.headers["authorization"] != "token browser-token":
            return JSONResponse({}, 403)
        return JSONResponse({"name": "root-admin", "kind": "user", "scopes": self.scopes})

    async def stop(self, name: str) -> Response:
        self.stopped.append(name)
        return Response(status_code=204)

    async def audit(self, request: Request) -> Response:
        """The data service's."""
        self.asked_of_data = dict(request.query_params)
        return JSONResponse({"items": [], "intact": True})


@pytest.fixture(scope="module")
def hub(bench: Any) -> Iterator[PlayedHub]:
    played = PlayedHub()
    listeners = [socket.socket(), socket.socket()]
    for listener, port in zip(listeners, (bench.settings.hub_port, bench.settings.data_port), strict=True):
        listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(played.app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": listeners}, daemon=True)
    thread.start()
    bench.settings.service_token_file("core").write_text("core-secret")
    yield played
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def browser(bench: Any, hub: PlayedHub) -> Iterator[httpx.Client]:
    hub.scopes = ["access:services!service=core", names.SCOPE_ADMIN]
    bench.core.directory._known.clear()
    with httpx.Client(base_url=bench.url.removesuffix(names.CORE_PREFIX), trust_env=False, timeout=30) as client:
        yield client


def begin(browser: httpx.Client, hub: PlayedHub) -> str:
    """Go to the page without a login; the state that the hub is given."""
    answer = browser.get("/services/core/admin")
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert (target.path, target.netloc) == ("/hub/api/oauth2/authorize", "")
    assert (query["client_id"], query["redirect_uri"]) == ("service-core", "/services/core/oauth_callback")
    hub.challenges["code"] = query["code_challenge"]
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "path=/services/core"))
    return query["state"]


def log_in(browser: httpx.Client, hub: PlayedHub) -> httpx.Response:
    state = begin(browser, hub)
    return browser.get("/services/core/oauth_callback", params={"code": "code", "state": state})


def csrf_of(page: str) -> str:
    return page.split('name="csrf" value="', 1)[1].split('"', 1)[0]


def hold_a_server(bench: Any, user: str) -> None:
    ask = Ask(cpu=1, memory_bytes=2 << 30, price_per_hour=0.5)
    wanted = ReservationRequest(user=user, kind="server", key=server_key(user), ask=ask, profile="small")
    with bench.core.database.write() as connection:
        bench.core.ledger.reserve(connection, wanted, now=bench.core.now())


def test_an_admin_sees_who_runs_what_and_stops_it(bench: Any, hub: PlayedHub, browser: httpx.Client) -> None:
    hold_a_server(bench, "<script>alert(1)</script>")
    hold_a_server(bench, "ida")
    back = log_in(browser, hub)
    assert (back.status_code, back.headers["location"]) == (302, "/services/core/admin")
    assert "browser-token" not in str(back.headers)
    page = browser.get("/services/core/admin", params={"search": "100%"})
    assert page.status_code == 200
    assert "ida" in page.text
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "chain intact" in page.text
    assert "browser-token" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    form = {"user": "ida", "server": "", "csrf": csrf_of(page.text)}
    answer = browser.post("/services/core/admin/stop", data=form)
    assert (answer.status_code, hub.stopped) == (303, ["ida"])
    table = browser.get("/services/core/admin/usage.csv").text
    assert table.splitlines()[0].startswith("since,until,user,account")
    assert ",ida,user:ida,server,small," in table


def test_a_search_asks_data_only_for_what_its_trail_knows(hub: PlayedHub, browser: httpx.Client) -> None:
    log_in(browser, hub)
    assert browser.get("/services/core/admin", params={"search": "flights"}).status_code == 200
    route = openapi.document()["paths"]["/services/data/api/v1/audit"]["get"]
    assert hub.asked_of_data["search"] == "flights"
    assert hub.asked_of_data.keys() <= {parameter["name"] for parameter in route["parameters"]}


def test_less_than_a_cent_is_not_shown_as_nothing(bench: Any, hub: PlayedHub, browser: httpx.Client) -> None:
    spend(bench, "cleo", 0.004)
    log_in(browser, hub)
    page = browser.get("/services/core/admin").text
    assert ">0.0040 €</td>" in page.split("<tr><td>cleo</td>")[1].partition("</tr>")[0]
    line = QuotaLine(resource="budget", used=0.004, limit=10, left=9.996)
    shown = shown_quota(Quota(account="user:cleo", lines=[line]), "EUR")
    assert shown["lines"][0]["text"] == "0.0040 € of 10.00 €, 10.00 € left"


def test_the_page_says_that_it_shows_the_newest_of_the_trail_only(
    bench: Any, hub: PlayedHub, browser: httpx.Client
) -> None:
    with bench.core.database.write() as connection:
        for number in range(51):
            bench.core.audit.append(
                connection, now=bench.core.now(), who="lea", action="thing.do", what=f"thing-{number}"
            )
    log_in(browser, hub)
    only_newest = "The newest 50; search finds older ones."
    page = browser.get("/services/core/admin", params={"search": "thing-"}).text
    assert "thing-50" in page
    assert "thing-0<" not in page
    assert only_newest in page
    page = browser.get("/services/core/admin", params={"search": "thing-0"}).text
    assert "thing-0<" in page
    assert only_newest not in page


def test_no_server_is_stopped_that_the_audit_trail_cannot_tell_of(
    bench: Any, hub: PlayedHub, browser: httpx.Client
) -> None:
    log_in(browser, hub)
    before = list(hub.stopped)
    form = {"user": "ida", "server": "", "csrf": csrf_of(browser.get("/services/core/admin").text)}
    with trail_away(bench):
        answer = browser.post("/services/core/admin/stop", data=form)
    assert (answer.status_code, hub.stopped) == (503, before)
    assert "The audit trail cannot be reached" in answer.text


@pytest.mark.parametrize(
    ("csrf", "headers"),
    [
        ("wrong", {}),
        (None, {"Origin": "http://evil.example"}),
        (None, {"Origin": "null"}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_from_elsewhere_changes_nothing(
    bench: Any, hub: PlayedHub, browser: httpx.Client, csrf: str | None, headers: dict[str, str]
) -> None:
    log_in(browser, hub)
    before = list(hub.stopped)
    word = csrf or csrf_of(browser.get("/services/core/admin").text)
    answer = browser.post("/services/core/admin/stop", data={"user": "ida", "csrf": word}, headers=headers)
    assert (answer.status_code, hub.stopped) == (403, before)


def test_a_login_that_was_begun_elsewhere_is_refused(hub: PlayedHub, browser: httpx.Client) -> None:
    state = begin(browser, hub)
    browser.cookies.clear()  # as if the link were sent to somebody else
    answer = browser.get("/services/core/oauth_callback", params={"code": "code", "state": state})
    assert answer.status_code == 401
    assert browser.get("/services/core/oauth_callback?code=code&state=made-up").status_code == 401


def test_who_is_no_admin_does_not_see_the_page(bench: Any, hub: PlayedHub, browser: httpx.Client) -> None:
    log_in(browser, hub)
    hub.scopes = ["access:services!service=core"]  # taken away while logged in
    bench.core.directory._known.clear()
    answer = browser.get("/services/core/admin")
    assert answer.status_code == 403
    assert "for admins" in answer.text


def test_only_an_admin_s_token_sees_everybody(bench: Any) -> None:
    with bench.http(bench.resolver.add("ida")) as ida:
        assert ida.get("/api/v1/usage").status_code == 200
        for path in ("usage", "usage.csv", "audit"):
            assert ida.get(f"/api/v1/{path}?everybody=true").status_code == 403
        assert ida.post("/api/v1/ledger/release", json={"key": "server:ida/"}).status_code == 403
        me = ida.get("/api/v1/me").json()
        assert (me["name"], me["admin"], me["profiles"][0]["slug"]) == ("ida", False, "small")
