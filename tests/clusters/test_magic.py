"""%cluster and the names it makes, in a real IPython against a real core and gateway."""

from __future__ import annotations

import json

import pytest

from labwright.api.clusters import Cluster
from labwright.magics.cluster import Card, ClusterList
from labwright.magics.ready_names import used_names

from .conftest import World
from .test_dask import python

SESSION = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from labwright.magics import load_ipython_extension
shell = InteractiveShell.instance()
load_ipython_extension(shell)
light = not {"dask", "distributed", "pyspark"} & set(sys.modules)
def cell(code):
    result = shell.run_cell(code)
    return result.result if result.success else type(result.error_in_exec).__name__
from labwright.magics.cluster import complete
print("JSON", json.dumps({
    "light": light,
    "undefined": cell("client"),
    "list": repr(cell("%cluster")),
    "help": cell("%cluster start --help"),
    "wrong": cell("%cluster begin dask"),
    "start": cell("%cluster start dask --workers 1 --name mine"),
    "lazy": "client" not in shell.user_ns and "distributed" not in sys.modules,
    "sum": cell("import pandas as pd\\nflights = pd.DataFrame({'delay': range(100)})\\n"
                "client.submit(lambda frame: int(frame.delay.sum()), flights).result()"),
    "kind": cell("type(client).__name__ + ' ' + type(client).__module__"),
    "mine": cell("client = 5\\nclient"),
    "complete": complete("m", "%cluster stop m", shell),
    "verbs": complete("s", "%cluster s", shell),
    "stop": str(cell("%cluster stop mine")),
    "after": cell("del client\\nclient"),
}))
"""


async def test_the_client_is_there_after_the_magic_and_nothing_heavy_before(world: World) -> None:
    code, out, err = await python(world, SESSION)
    assert code == 0, err
    found = json.loads(out.partition("JSON ")[2])
    assert found["light"]
    assert found["undefined"] == "NameError"
    assert "No Dask cluster is running. Start one: %cluster start dask" in err
    assert found["list"] == "No clusters. Start one: %cluster start dask"
    assert "--workers" in out
    assert found["wrong"] == "InvalidRequest"
    assert "mine · Dask · running · 1 of 1 workers" in out
    assert found["lazy"]
    assert found["sum"] == 4950
    assert found["kind"] == "Client distributed.client"
    assert found["mine"] == 5
    assert found["complete"] == ["mine"]
    assert found["verbs"] == ["start", "scale", "stop"]
    assert found["stop"] == "mine is stopping."
    assert found["after"] == "NameError"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("client.submit(f)", {"client"}),
        ("def work():\n    return spark.sql('select 1')", {"spark"}),
        ("client = Client()\nclient.submit(f)", set()),
        ("from somewhere import spark\nspark.x", set()),
        ("x = 'client and spark'  # client", set()),
        ("get_ipython().run_line_magic('time', 'client.gather(x)')", {"client"}),
        ("get_ipython().run_line_magic('cluster', 'start spark')", set()),
        ("def (", set()),
    ],
)
def test_only_names_that_a_cell_reads_and_does_not_make_are_bound(code: str, names: set[str]) -> None:
    assert used_names(code) == names


def test_html_and_text_say_the_same_and_escape_what_people_wrote() -> None:
    cluster = Cluster(
        id="1", name="<b>x", engine="dask", owner="alice", state="running", workers=2, workers_wanted=2, cpu=2,
        memory_bytes=2 << 30, price_per_hour=0.1, cost=0.05, currency="USD",
        dashboard_url="/services/core/clusters/1/dashboard/",
        created="2026-01-01T00:00:00Z",
    )  # fmt: skip
    html, text = Card(cluster, None)._repr_html_(), repr(Card(cluster, None))
    for part in ("2 of 2 workers", "2.0 GB", "0.10 $/h", "/services/core/clusters/1/dashboard/", "client"):
        assert part in html
        assert part in text
    assert "<b>x" not in ClusterList([cluster])._repr_html_() + html.replace("<b>&lt;b&gt;x</b>", "")
