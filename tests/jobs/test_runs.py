"""A real core, a real runner process, real notebooks."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from labwright.api.client import Client
from labwright.api.jobs import FINAL_STATES

from .conftest import Workplace, job_request, wait_until


@pytest.fixture
def workplace(warm_workplace: Workplace) -> Workplace:
    return warm_workplace


def start(client: Client, request: dict[str, Any], **run: Any) -> dict[str, Any]:
    job = client.core("POST", "/jobs", json=request)
    return client.core("POST", f"/jobs/{job['id']}/runs", json={"parameters": run})


def ended(client: Client, run: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = client.core("GET", f"/runs/{run['id']}")
        return found if found["state"] in FINAL_STATES else None

    return wait_until(look, seconds, what=f"run {run['id']} ends")


def in_state(client: Client, run: dict[str, Any], *states: str, cell: int = 0) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = client.core("GET", f"/runs/{run['id']}")
        return found if found["state"] in states and found["cell"] >= cell else None

    return wait_until(look, 120, what=f"run {run['id']} is {states}")


def printed(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_a_run_gets_its_parameters_and_the_output_is_kept(alice: Client, workplace: Workplace) -> None:
    request = job_request(
        "import os, datetime\nprint(carrier, month + 1, type(since).__name__)\nprint(os.getcwd())",
        parameters='carrier: str = "UA"\nmonth: int = 7\nfrom datetime import date\nsince: date = date(2013, 1, 1)',
    )
    run = start(alice, request, carrier='A"B\\\n\'); print("no")', since="2013-02-03")
    done = ended(alice, run)
    assert done["state"] == "succeeded", done
    assert done["cell"] == done["cells"] == 3
    assert done["cost"] == pytest.approx(0.01)
    assert workplace.ledger.live == {}
    text = printed(alice.core("GET", f"/runs/{run['id']}/notebook"))
    assert text == 'A"B\\\n\'); print("no") 8 date\n' + f"{workplace.home('alice')}\n"


def test_the_kernel_has_its_own_token_and_not_the_runners(alice: Client) -> None:
    source = (
        "import os, stat\n"
        "path = os.environ['LABWRIGHT_TOKEN_FILE']\n"
        "assert stat.S_IMODE(os.stat(path).st_mode) == 0o600\n"
        "assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700\n"
        "assert 'LABWRIGHT_RUNNER_TOKEN' not in os.environ\n"
        "from labwright.api.client import Client\n"
        "client = Client.from_environment()\n"
        "run = client.core('GET', '/runs/' + os.environ['LABWRIGHT_RUN_ID'])\n"
        "assert run['state'] in ('leased', 'running')\n"  # its first frames may still be on their way
        "print(os.environ['LABWRIGHT_NOTEBOOK'])\n"
        "client.core('POST', f\"/runs/{run['id']}/tracking\", json={'experiment_id': '1', 'run_id': 'abc'})"
    )
    done = ended(alice, start(alice, job_request(source)))
    assert done["state"] == "succeeded", done
    assert (done["mlflow_experiment_id"], done["mlflow_run_id"]) == ("1", "abc")
    notebook = alice.core("GET", f"/runs/{done['id']}/notebook")
    assert printed(notebook) == "work.ipynb\n"


def test_an_error_names_its_cell_in_the_source(alice: Client) -> None:
    request = job_request("x = 1", "raise ValueError('too late')", "never = 1", parameters="n: int = 1")
    done = ended(alice, start(alice, request, n=2))
    assert done["state"] == "failed"
    assert (done["error"]["cell"], done["error"]["name"]) == (3, "ValueError")
    assert done["error"]["message"] == "too late"
    assert "\x1b" not in done["error"]["traceback"]
    assert "Cell 4" in done["reason"]


def test_the_output_grows_while_the_run_goes_on(alice: Client, workplace: Workplace) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    run = start(alice, job_request("print('first')", wait, "print('last')"))
    found = in_state(alice, run, "running", cell=1)
    assert (found["cell"], found["cells"]) == (1, 3)
    assert "first" in printed(alice.core("GET", f"/runs/{run['id']}/notebook"))
    (workplace.home("alice") / "go").touch()
    assert ended(alice, run)["state"] == "succeeded"
    assert printed(alice.core("GET", f"/runs/{run['id']}/notebook")) == "first\nlast\n"


def test_a_cancelled_run_ends_soon(alice: Client) -> None:
    run = start(alice, job_request("import time\ntime.sleep(600)"))
    in_state(alice, run, "running")
    alice.core("POST", f"/runs/{run['id']}/cancel")
    done = ended(alice, run)
    assert (done["state"], done["reason"]) == ("cancelled", "You cancelled it.")


def test_a_run_over_its_timeout_says_so(alice: Client) -> None:
    request = job_request("import time\ntime.sleep(600)", policy={"timeout_seconds": 2})
    done = ended(alice, start(alice, request))
    assert done["state"] == "timed-out"
    assert "timeout of 2 s" in done["reason"]


def test_a_killed_runner_gives_its_run_to_the_next(alice: Client, workplace: Workplace) -> None:
    source = (
        "import pathlib, time\nfirst = not pathlib.Path('been').exists()\npathlib.Path('been').touch()\n"
        "if first: time.sleep(600)\nprint('again')"
    )
    run = start(alice, job_request(source))
    wait_until(lambda: (workplace.home("alice") / "been").exists())
    for pid in workplace.launcher.alive():
        os.kill(pid, signal.SIGKILL)
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)


def test_a_run_outlives_a_restart_of_core(alice: Client, workplace: Workplace) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\nprint('there')"
    run = start(alice, job_request(wait))
    in_state(alice, run, "running")
    workplace.stop_serving()
    (workplace.home("alice") / "go").touch()
    workplace.serve()
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 1)


def test_a_warm_runner_takes_the_next_run(alice: Client, workplace: Workplace) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1 + 1"))
    runners = []
    for number in (1, 2, 3):
        run = alice.core("POST", f"/jobs/{job['id']}/runs", json={})
        assert run["number"] == number
        assert ended(alice, run)["state"] == "succeeded"
        runners.append(workplace.launcher.alive())
    assert runners[0]
    assert runners == [runners[0]] * 3


def test_retries_follow_a_failure(alice: Client, workplace: Workplace) -> None:
    source = (
        "import pathlib\nif not pathlib.Path('x').exists():\n    pathlib.Path('x').touch()\n    raise OSError('no')"
    )
    done = ended(alice, start(alice, job_request(source, policy={"retries": 1})))
    assert (done["state"], done["attempt"], done["error"]) == ("succeeded", 2, None)


def test_a_refused_reservation_keeps_the_run_queued_and_says_why(alice: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    run = start(alice, job_request("1"))
    found = wait_until(lambda: (r := alice.core("GET", f"/runs/{run['id']}"))["reason"] and r)
    assert found["state"] == "queued"
    assert "quota" in found["reason"]
    workplace.ledger.limit = 5
    assert ended(alice, run)["state"] == "succeeded"


def test_output_that_is_no_json_or_too_large_is_kept_as_far_as_it_goes(alice: Client) -> None:
    source = (
        "from IPython.display import display\n"
        "display({'application/json': {'x': float('nan')}}, raw=True)\nprint('y' * 3_000_000)"
    )
    done = ended(alice, start(alice, job_request(source)))
    assert done["state"] == "succeeded", done
    notebook = alice.core("GET", f"/runs/{done['id']}/notebook")
    assert "Labwright cut the output here" in printed(notebook)
    assert notebook["cells"][1]["outputs"][0]["data"]["application/json"] in ({"x": None}, {"x": "nan"})
