"""Whatever the OpenAPI documents of core and data allow, no answer is a server's error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook
from schemathesis import APIOperation, Case, GenerationMode
from workbench import RunningWorkbench, eventually, reachable_folder, running_workbench

from labwright.api import names
from labwright.hub.tokens import Signer, load_private_key

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("LABWRIGHT_FUZZ_EXAMPLES", "32"))  # of each operation
SECONDS = 30  # until an answer
# What is not asked, and why.
LEFT_OUT = {
    f"GET {names.CORE_PREFIX}{names.API}/events": "a stream without an end",
    f"GET {names.DATA_PREFIX}{names.API}/events": "a stream without an end",
    f"POST {names.CORE_PREFIX}{names.API}/clusters": "each one that is allowed starts processes for minutes",
}


@pytest.fixture(scope="module")
def workbench() -> Iterator[RunningWorkbench]:
    """One that nobody shares: an admin's grants, connections and reservations are among what is tried."""
    with reachable_folder() as folder, running_workbench(folder / "home") as running:
        yield running


@dataclass
class Fuzz:
    """Asks with the token of whoever an operation is for, and half of the time for what exists."""

    base_url: str
    session: requests.Session
    admin_token: str
    signer: Signer
    known: dict[str, str]

    def token(self, path: str) -> str:
        scopes = (*names.USER_SCOPES, names.SCOPE_LEDGER, names.SCOPE_RUNNER)
        if "/runner/v1/runs/" in path:
            return self.signer.mint("admin", "runner", scopes, run_id=self.known["run_id"], attempt=1)
        if "/runner/v1/" in path or "/ledger/" in path:
            return self.signer.mint("admin", "runner", scopes)
        return self.admin_token

    def cases(self, operation: APIOperation) -> st.SearchStrategy[Case]:
        """What the document allows; with ids of things that exist as well as any others."""
        parts = {part.name for part in operation.path_parameters}
        existing = {name: value for name, value in self.known.items() if name in parts}
        found = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        if existing:
            found |= operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=existing)
        return found

    def try_out(self, operation: APIOperation) -> str | None:
        """The first request that was answered with a server's error, if there is one."""
        wrong: list[str] = []

        @hypothesis.settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=self.cases(operation))
        def ask(case: Case) -> None:
            if isinstance(case.body, dict) and "wait_seconds" in case.body:
                case.body["wait_seconds"] = 0
            headers = {"Authorization": f"token {self.token(operation.path)}"}
            answer = case.call(base_url=self.base_url, session=self.session, headers=headers, timeout=SECONDS)
            if answer.status_code >= 500:
                wrong.append(f"{answer.status_code} {case.as_curl_command()[:1500]}")

        ask()
        return wrong[0] if wrong else None


@pytest.fixture(scope="module")
def fuzz(workbench: RunningWorkbench) -> Iterator[Fuzz]:
    session = requests.Session()
    session.trust_env = False
    token = workbench.log_in().new_token()
    session.headers["Authorization"] = f"token {token}"
    known = {
        "schema": "public",
        "table": "airlines",
        "column": "carrier",
        "name": "warehouse",
        **a_run(workbench, session),
    }
    signer = Signer(load_private_key(workbench.settings.signing_key_file))
    yield Fuzz(workbench.settings.public_url, session, token, signer, known)
    session.close()


def a_run(workbench: RunningWorkbench, session: requests.Session) -> dict[str, str]:
    url = f"{workbench.settings.core_url}{names.API}"
    content = new_notebook(cells=[new_code_cell("month: int = 7", metadata={"tags": ["parameters"]})])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    ask = {"name": "fuzzed", "notebook": {"path": "fuzzed.ipynb", "content": content}}
    job = session.post(f"{url}/jobs", json=ask, timeout=SECONDS).json()["id"]
    run = session.post(f"{url}/jobs/{job}/runs", json={}, timeout=SECONDS).json()["id"]
    eventually(lambda: session.get(f"{url}/runs/{run}", timeout=SECONDS).json()["finished"], what="the run's end")
    return {"job_id": job, "run_id": run}


@pytest.mark.parametrize("service", ["core", "data"])
def test_nothing_that_the_document_allows_is_answered_by_a_server_error(
    workbench: RunningWorkbench, fuzz: Fuzz, service: str
) -> None:
    url = f"{getattr(workbench.settings, f'{service}_url')}{names.API}/openapi.json"
    document: dict[str, Any] = fuzz.session.get(url, timeout=SECONDS).json()
    found = (result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations())
    operations = [operation for operation in found if operation.label not in LEFT_OUT]
    # What takes things away comes last, so that the others meet them.
    operations.sort(key=lambda operation: operation.method.upper() == "DELETE")
    assert len(operations) > 9
    wrong = [answer for operation in operations if (answer := fuzz.try_out(operation))]
    assert not wrong, "\n".join(wrong)
