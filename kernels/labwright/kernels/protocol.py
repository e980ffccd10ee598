"""The runner's side of the runner protocol. Errors come as the classes of `labwright.api.errors`."""

from __future__ import annotations

import json
from typing import Any

import httpx

from labwright.api.client import raise_for_problem
from labwright.api.errors import Unavailable
from labwright.api.runner import HeartbeatAnswer, Lease, LeaseAnswer


class RunnerClient:
    """Speaks to core with the token that it was given, and then with those that came with the answers."""

    def __init__(self, core_url: str, token: str) -> None:
        self._url = f"{core_url}/runner/v1"
        self._token = token
        # trust_env=False: a proxy set for the internet must not see a token meant for loopback.
        # The certificates take a tenth of a second to read: only where they are of use.
        self._http = httpx.Client(timeout=40.0, trust_env=False, verify=core_url.startswith("https:"))

    def lease(self, runner_id: str, profile: str, wait_seconds: float) -> Lease | None:
        """The next run, or None when none came within `wait_seconds`."""
        body = {"runner_id": runner_id, "profile": profile, "wait_seconds": wait_seconds}
        answer = LeaseAnswer.model_validate(self._post("/lease", body, self._token))
        self._token = answer.token
        return answer.run

    def leave(self, runner_id: str) -> None:
        self._post("/leave", {"runner_id": runner_id}, self._token)

    def heartbeat(self, run_id: str, token: str) -> HeartbeatAnswer:
        return HeartbeatAnswer.model_validate(self._post(f"/runs/{run_id}/heartbeat", {}, token))

    def frames(self, run_id: str, token: str, frames: list[dict[str, Any]]) -> None:
        self._post(f"/runs/{run_id}/frames", {"frames": frames}, token)

    def commit(self, run_id: str, token: str, body: dict[str, Any]) -> None:
        self._post(f"/runs/{run_id}/commit", body, token)

    def _post(self, path: str, body: Any, token: str) -> Any:
        # Not httpx's own JSON: it refuses NaN and lone surrogates, which outputs may hold and core cleans.
        data = json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            response = self._http.post(self._url + path, content=data, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable("The core service") from error
        raise_for_problem(response)
        return response.json() if response.content else None
