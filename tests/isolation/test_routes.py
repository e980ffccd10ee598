"""Every route of core and data, as the apps themselves list them, against the running workbench."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from workbench import RunningWorkbench, eventually, workbench_settings

from labwright.api import names
from labwright.hub.core.app import build_core
from labwright.hub.core.app import create_app as create_core
from labwright.hub.data.app import create_app as create_data
from labwright.hub.tokens import Signer, load_private_key
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.profiles import Workbench

# What answers without a token, and how. Everything else is 401 or 403.
ADMIN = f"{names.CORE_PREFIX}/admin"
OPEN = {
    ("GET", f"{names.CORE_PREFIX}/health"): {200},
    ("GET", f"{names.DATA_PREFIX}/health"): {200},
    # The list of routes itself.
    ("GET", f"{names.CORE_PREFIX}/api/v1/openapi.json"): {200},
    ("HEAD", f"{names.CORE_PREFIX}/api/v1/openapi.json"): {200},
    ("GET", f"{names.DATA_PREFIX}/api/v1/openapi.json"): {200},
    ("HEAD", f"{names.DATA_PREFIX}/api/v1/openapi.json"): {200},
    # For a browser, with a session of its own: sent to the hub's login, and nothing is done.
    ("GET", ADMIN): {302},
    ("GET", f"{ADMIN}/usage.csv"): {302},
    ("POST", f"{ADMIN}/stop"): {302, 422},
    ("POST", f"{ADMIN}/logout"): {303, 422},
    ("GET", f"{names.CORE_PREFIX}/oauth_callback"): {400, 401, 403},
}
ALL_SCOPES = (*names.USER_SCOPES, names.SCOPE_LEDGER, names.SCOPE_RUNNER)


@dataclass(frozen=True)
class Route:
    method: str  # WEBSOCKET for one
    path: str
    scope: str | None

    def below(self, base: str) -> str:
        return base + re.sub(r"{[^}]+}", "x", self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def required_scope(dependant: Dependant | None) -> str | None:
    """What `require` asks for, however deep it stands in the route's dependencies."""
    for needed in dependant.dependencies if dependant else ():
        found: str | None = getattr(needed.call, "required_scope", None) or required_scope(needed)
        if found:
            return found
    return None


def routes_of(app: FastAPI) -> Iterator[Route]:
    for route in iter_route_contexts(app.routes):
        assert route.path is not None
        scope = required_scope(getattr(route, "dependant", None))
        for method in route.methods or ("WEBSOCKET",):
            yield Route(method, route.path, scope)


def collect(folder: Path) -> list[Route]:
    settings = workbench_settings(folder, port=20000, LABWRIGHT_BY_USER="0")
    nothing = Workbench(profiles=())
    core = build_core(settings, ledger=SqlLedger(lambda: nothing), launcher=None, workbench=lambda: nothing)  # type: ignore[arg-type]
    found = [*routes_of(create_core(core)), *routes_of(create_data(settings, lambda: nothing))]
    core.database.close()
    return sorted(found, key=str)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    return collect(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="module")
def http(workbench: RunningWorkbench) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def signer(workbench: RunningWorkbench) -> Signer:
    return Signer(load_private_key(workbench.settings.signing_key_file))


def address(workbench: RunningWorkbench, route: Route) -> str:
    """The service's own, past the proxy: nothing but the service guards it."""
    settings = workbench.settings
    port = settings.core_port if route.path.startswith(names.CORE_PREFIX) else settings.data_port
    return route.below(f"http://127.0.0.1:{port}")


def test_there_are_routes_of_every_area(routes: list[Route]) -> None:
    paths = {route.path for route in routes}
    assert len(routes) > 50
    for part in ("/jobs", "/clusters", "/usage", "/audit", "/connections", "/grants", "/mlflow/", "/runner/", "/admin"):
        assert any(part in path for path in paths), part
    assert {method for method, _ in OPEN} <= {route.method for route in routes}
    assert {path for _, path in OPEN} <= paths


def test_without_a_token_every_route_is_shut(
    workbench: RunningWorkbench, routes: list[Route], http: httpx.Client
) -> None:
    wrong = []
    for route in routes:
        if route.method == "WEBSOCKET":
            continue
        for base in (address(workbench, route), route.below(workbench.settings.public_url)):
            answer = http.request(route.method, base)
            if answer.status_code not in OPEN.get((route.method, route.path), {401, 403}):
                wrong.append(f"{route} at {base}: {answer.status_code}")
    assert wrong == []


def test_without_a_token_no_socket_opens(workbench: RunningWorkbench, routes: list[Route]) -> None:
    sockets = [route for route in routes if route.method == "WEBSOCKET"]
    assert sockets
    for route in sockets:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            with pytest.raises(InvalidStatus) as refused:
                connect(address(workbench, route).replace("http", "ws", 1), additional_headers=headers, proxy=None)
            assert refused.value.response.status_code == 403


def bad_tokens(signer: Signer) -> dict[str, str]:
    expired = Signer(signer.key, now=lambda: 1_000_000.0).mint("admin", "run", ALL_SCOPES, run_id="x", attempt=1)
    head, claims, signature = signer.mint("admin", "run", ALL_SCOPES, run_id="x", attempt=1).split(".")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
    return {
        "nonsense": "nonsense",
        "expired": expired,
        "altered": f"{head}.{claims[:-4]}AAAA.{signature}",
        "unsigned": f"{unsigned}.{claims}.",
        "of no known kind": "a.b.c",
    }


def test_a_bad_token_opens_no_route(
    workbench: RunningWorkbench, routes: list[Route], http: httpx.Client, signer: Signer
) -> None:
    wrong = []
    for name, token in bad_tokens(signer).items():
        for route in routes:
            if route.method == "WEBSOCKET" or (route.method, route.path) in OPEN:
                continue
            answer = http.request(route.method, address(workbench, route), headers={"Authorization": f"Bearer {token}"})
            if answer.status_code != 401:
                wrong.append(f"{route} with one {name}: {answer.status_code}")
    assert wrong == []


def test_each_route_needs_its_own_right(
    workbench: RunningWorkbench, routes: list[Route], http: httpx.Client, signer: Signer
) -> None:
    """A token with every other right is refused, whatever its kind; admin's routes take no signed token at all."""
    wrong = []
    for route in routes:
        if route.method == "WEBSOCKET" or (route.method, route.path) in OPEN:
            continue
        scope = names.SCOPE_CLUSTERS if "/dashboard/" in route.path else route.scope  # those check by hand
        if scope is None:
            wrong.append(f"{route} asks for no right")
            continue
        for kind in ("run", "runner", "cluster"):
            others = [one for one in (*ALL_SCOPES, names.SCOPE_ADMIN) if one != scope or scope == names.SCOPE_ADMIN]
            token = signer.mint("admin", kind, others, run_id="x", attempt=1)  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {token}"}
            answer = http.request(route.method, address(workbench, route), headers=headers)
            if answer.status_code != 403:
                wrong.append(f"{route} of {scope} for a {kind}: {answer.status_code}")
    assert wrong == []


def test_a_token_is_good_for_its_own_service_and_ends_with_its_revocation(
    workbench: RunningWorkbench, http: httpx.Client
) -> None:
    admin = workbench.log_in("admin")
    settings = workbench.settings
    pages = {"core": f"{settings.core_url}{names.API}/jobs", "data": f"{settings.data_url}{names.API}/connections"}

    def status(token: str, service: str) -> int:
        return http.get(pages[service], headers={"Authorization": f"Bearer {token}"}).status_code

    rights = [*names.USER_SCOPES, "read:users!user"]
    for service, other in (("core", "data"), ("data", "core")):
        token = admin.new_token([*rights, f"access:services!service={service}"])
        assert (status(token, service), status(token, other)) == (200, 403)
    without = admin.new_token(["access:services!service=core", "access:services!service=data", "read:users!user"])
    assert (status(without, "core"), status(without, "data")) == (403, 403)

    body = {"note": "to be revoked", "expires_in": 3600}
    made = admin.api("POST", "/users/admin/tokens", json=body).json()
    assert (status(made["token"], "core"), status(made["token"], "data")) == (200, 200)
    assert admin.api("DELETE", f"/users/admin/tokens/{made['id']}").status_code == 204
    for service in pages:
        eventually(lambda service=service: status(made["token"], service) == 401, seconds=10, what="its end")
