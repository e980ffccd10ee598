"""One HTTP client for kernels, runs and the command line: finds the services, adds the token, raises our errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from labwright.api import names
from labwright.api.errors import LabwrightError, NotAuthenticated, ProblemResponse, Unavailable, from_problem

CREDENTIALS = Path("~/.config/labwright/credentials.json")


@dataclass(frozen=True)
class Endpoints:
    """Where the services are (no trailing slash) and how to say who is asking."""

    core: str
    data: str
    token_file: Path | None = None
    token: str | None = None

    def bearer(self) -> str:
        """The token at this moment; read anew each time, since a run's token is renewed in place."""
        if self.token_file is not None:
            try:
                return self.token_file.read_text().strip()
            except OSError:
                raise NotAuthenticated("The token file cannot be read.") from None
        if self.token:
            return self.token
        raise NotAuthenticated("There is no token to show who you are.")


def endpoints_from(environ: Mapping[str, str]) -> Endpoints:
    """The endpoints that a server, kernel, run or `labwright login` has been given."""
    token_file = environ.get(names.TOKEN_FILE)
    core, data = environ.get(names.CORE_URL), environ.get(names.DATA_URL)
    token = environ.get("LABWRIGHT_TOKEN") or environ.get(names.HUB_TOKEN)
    if core and data:
        return Endpoints(core.rstrip("/"), data.rstrip("/"), Path(token_file) if token_file else None, token)
    if (kept := kept_endpoints(CREDENTIALS.expanduser())) is not None:
        return kept
    raise LabwrightError(
        "This process does not know where Labwright runs.",
        remedy=f"Run 'labwright login', or set {names.CORE_URL}, {names.DATA_URL} and LABWRIGHT_TOKEN.",
    )


def kept_endpoints(path: Path) -> Endpoints | None:
    """What `labwright login` has written, if it has."""
    try:
        kept = json.loads(path.read_text())
        return Endpoints(str(kept["core"]), str(kept["data"]), token=str(kept["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise LabwrightError(f"{path} cannot be read.", remedy="Run 'labwright login' again.") from None


class Client:
    """Calls to core and data. Errors come back as the classes of `labwright.api.errors`.

    Every call has a deadline (`timeout` seconds to connect and between bytes, 30 by default).
    """

    def __init__(self, endpoints: Endpoints, *, timeout: float = 30.0) -> None:
        self.endpoints = endpoints
        # trust_env=False: a proxy set for the internet must not see a token meant for loopback.
        # Reading the certificates takes a tenth of a second, which plain HTTP on loopback has no use for.
        secure = not all(url.startswith("http:") for url in (endpoints.core, endpoints.data))
        self._http = httpx.Client(timeout=timeout, trust_env=False, auth=self._sign, verify=secure)

    @classmethod
    def from_environment(cls) -> Client:
        return cls(endpoints_from(os.environ))

    def _sign(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self.endpoints.bearer()}"
        return request

    def core(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Call core: `client.core("GET", "/jobs")` is GET {core}/api/v1/jobs. Returns the parsed JSON, or None."""
        return self._call("core", self.endpoints.core, method, path, json, params)

    def data(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Call data, like `core`."""
        return self._call("data", self.endpoints.data, method, path, json, params)

    def mlflow(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Call MLflow's REST API through core's door: `/runs/search` is {core}/mlflow/api/2.0/mlflow/runs/search."""
        base = f"{self.endpoints.core}/mlflow/api/2.0/mlflow"
        return self._send("core", method, base + path, json, params)

    def _call(self, part: str, base: str, method: str, path: str, json: Any, params: Mapping[str, Any] | None) -> Any:
        return self._send(part, method, f"{base}{names.API}{path}", json, params)

    def _send(self, part: str, method: str, url: str, json: Any, params: Mapping[str, Any] | None) -> Any:
        try:
            response = self._http.request(method, url, json=json, params=params)
        except httpx.TransportError as error:
            raise Unavailable(f"The {part} service") from error
        raise_for_problem(response)
        return response.json() if response.content else None

    @contextmanager
    def stream_data(self, method: str, path: str, *, json: Any = None) -> Iterator[httpx.Response]:
        """A response of data whose body is read while it arrives (Arrow IPC)."""
        try:
            with self._http.stream(method, f"{self.endpoints.data}{names.API}{path}", json=json) as response:
                if response.is_error:
                    response.read()
                raise_for_problem(response)
                yield response
        except httpx.TransportError as error:
            raise Unavailable("The data service") from error

    @contextmanager
    def stream_core(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None
    ) -> Iterator[httpx.Response]:
        """A response of core whose body is read while it arrives (server-sent events)."""
        try:
            with self._http.stream(method, f"{self.endpoints.core}{names.API}{path}", params=params) as response:
                if response.is_error:
                    response.read()
                raise_for_problem(response)
                yield response
        except httpx.TransportError as error:
            raise Unavailable("The core service") from error

    def close(self) -> None:
        self._http.close()


def raise_for_problem(response: httpx.Response) -> None:
    """Raise the error of our tree that a failed response describes."""
    if not response.is_error:
        return
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    if "code" in body:
        raise from_problem(body, response.status_code)
    if "error_code" in body:  # MLflow's own refusals
        raise ProblemResponse(body | {"detail": body.get("message")}, response.status_code)
    if response.status_code in (401, 403):
        raise NotAuthenticated
    if response.status_code in (502, 503, 504):
        raise Unavailable("The service")
    raise ProblemResponse({"detail": f"The service answered {response.status_code}."}, response.status_code)
