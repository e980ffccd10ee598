"""Every service is killed with -9, one after the other, in the middle of one run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from workbench import RunningWorkbench, eventually

from labwright.api.client import Client, Endpoints
from labwright.api.job_client import JobClient

pytestmark = pytest.mark.slow

KILLED = ("hub", "proxy", "data", "warehouse", "core", "gateway", "mlflow", "launcher")
# One line for each query that was answered, until the file of the last word is there.
QUERIES = """
import time
from pathlib import Path
from IPython import get_ipython
answered = failed = 0
while not Path("enough").exists():
    try:
        get_ipython().run_cell_magic("sql", "warehouse -o found", "SELECT count(*) AS n FROM airlines")
        answered += 1
    except Exception:
        failed += 1
    time.sleep(0.1)
found = None
get_ipython().run_cell_magic("sql", "warehouse -o found", "SELECT count(*) AS n FROM airlines")
print("airlines", int(found["n"][0]), "answered", answered > 0)
"""


@pytest.fixture
def jobs(workbench: RunningWorkbench) -> Iterator[JobClient]:
    token = workbench.log_in().new_token()
    client = Client(Endpoints(workbench.settings.core_url, workbench.settings.data_url, token=token))
    yield JobClient(client)
    client.close()


@pytest.mark.uid
def test_a_run_goes_on_and_ends_once_whatever_service_is_killed(workbench: RunningWorkbench, jobs: JobClient) -> None:
    home = workbench.settings.home / "homes" / "admin"
    (home / "enough").unlink(missing_ok=True)
    content = new_notebook(cells=[new_code_cell("from labwright.magics import sql"), new_code_cell(QUERIES)])
    content.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    request = {
        "name": "among kills",
        "notebook": {"path": "among_kills.ipynb", "content": content},
        "parameters": {},
        "profile": "small",
        "group": None,
        "schedule": None,
        "policy": {},
    }
    run = jobs.start(jobs.submit(request).id)
    eventually(lambda: jobs.run(run.id).cell == 1, what="the second cell")
    for program in KILLED:
        workbench.restart(program)
    (home / "enough").touch()
    ended = eventually(lambda: (found := jobs.run(run.id)).finished and found, what="the end of the run")
    assert ended.state == "succeeded", ended.reason
    assert ended.attempt == 1
    outputs = jobs.notebook(run.id)["cells"][-1]["outputs"]
    assert "".join(outputs[-1]["text"]).endswith("airlines 16 answered True\n"), outputs
    assert [found.state for found in jobs.runs(ended.job_id, 10).items] == ["succeeded"]
