"""What notebooks do first with a library, so that a parent can have behind it what only the first use costs.

Libraries import much of themselves when they are first called (MLflow its git client, scikit-learn the bridge to
pandas), and keep what they look up then (which plugins are installed). Each snippet is run in a fork first
(`rehearsal`): the parent imports what that imported. Those that only compute are then run by the parent itself.
None may read a run's folder, environment or network, and none may leave a thread or a socket behind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FirstUse:
    """`needs` are the top-level modules that a preload set must have for it."""

    source: str
    needs: frozenset[str]
    only_computes: bool


FIRST_USES: Mapping[str, FirstUse] = {
    "frames": FirstUse(
        """
import io
import pandas as pd
frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]})
frame.describe(), frame._repr_html_(), repr(frame), frame.groupby("b").a.mean(), frame.merge(frame, on="b")
pd.read_csv(io.StringIO("day,n\\n2026-01-01,1\\n"), parse_dates=["day"]).set_index("day").n.resample("D").sum()
""",
        frozenset({"pandas"}),
        True,
    ),
    "models": FirstUse(
        """
import pandas as pd
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
frame = pd.DataFrame(load_diabetes(as_frame=True).frame)
kept, held = train_test_split(frame, random_state=0)
model = make_pipeline(StandardScaler(), Ridge()).fit(kept.drop(columns="target"), kept.target)
model.score(held.drop(columns="target"), held.target)
LinearRegression().fit(kept[["age", "bmi"]], kept.target).predict(held[["age", "bmi"]])
X, y = load_iris(return_X_y=True)
accuracy_score(y, LogisticRegression(max_iter=500).fit(X, y).predict(X))
""",
        frozenset({"pandas", "sklearn"}),
        True,
    ),
    # Not repeated in the parent: each picture takes the next of the numbers that stand in it.
    "pictures of models": FirstUse(
        """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
make_pipeline(StandardScaler(), Ridge())._repr_html_()
""",
        frozenset({"sklearn"}),
        False,
    ),
    "figures": FirstUse(
        """
import io
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.plot([1, 2, 3])
figure.savefig(io.BytesIO(), format="png")
plt.close(figure)
""",
        frozenset({"matplotlib"}),
        False,
    ),
    # Not repeated in the parent: it starts OpenMP's threads, and one for each device.
    "networks": FirstUse(
        """
import torch
network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
optimizer = torch.optim.Adam(network.parameters())
batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 2), torch.ones(8, 1)), 4)
for inputs, target in batches:
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(network(inputs), target).backward()
    optimizer.step()
repr(network), repr(network(inputs))
""",
        frozenset({"torch"}),
        False,
    ),
    # Port 9 answers nobody: everything up to the connection is what a run with a server does as well.
    "tracking": FirstUse(
        """
import os
os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
import mlflow
from mlflow.tracking.context.registry import resolve_tags
resolve_tags()
try:
    mlflow.set_experiment("first use")
except Exception:
    pass
""",
        frozenset({"mlflow"}),
        False,
    ),
    # What MLflow's client does with each request before it is sent, and with its answer.
    "requests": FirstUse(
        """
import io
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.util import Retry
session = requests.Session()
request = session.prepare_request(requests.Request("POST", "http://127.0.0.1:9/", json={"a": 1}, params={"b": "c"}))
session.merge_environment_settings(request.url, {}, False, True, None)
request.headers.copy(), Retry(total=1, allowed_methods=None)
answer = HTTPResponse(io.BytesIO(b'{"a": 1}'), {"Content-Type": "application/json"}, 200, preload_content=False)
HTTPAdapter().build_response(request, answer).json()
""",
        frozenset({"mlflow"}),
        True,
    ),
}


def first_uses(modules: Iterable[str]) -> list[FirstUse]:
    """Those that fit a preload set."""
    loaded = {module.partition(".")[0] for module in modules}
    return [use for use in FIRST_USES.values() if use.needs <= loaded]


def perform(use: FirstUse) -> None:
    exec(compile(use.source, "<first use>", "exec"), {"__name__": "__first_use__"})  # noqa: S102 - our own text


# MLflow tries to import it 25 times for a run with six requests, along the whole path: only Databricks' own runtime
# has it, and no package index.
ABSENT = ("dbruntime",)


def note_absent() -> None:
    """Have an import of what is not there fail without a search.

    A folder that holds such a module shadows it, as it does every preloaded one: its kernels get the bare parent.
    """
    for name in ABSENT:
        if "mlflow" in sys.modules and name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]


def note_no_repository() -> None:
    """Have MLflow know that the launcher of kernels, which it takes for a run's source, is in no repository.

    With the first run of each kernel it asks that of git, with processes and for 9 ms. The launcher is the same file
    for all kernels of an environment. Where it is in a repository, each kernel looks at the commit itself.
    """
    registry = sys.modules.get("mlflow.tracking.context.registry")
    context = sys.modules.get("mlflow.tracking.context.git_context")
    if registry is None or context is None:
        return
    with contextlib.suppress(Exception):  # MLflow's inside may change: then each kernel asks git
        for provider in registry._run_context_provider_registry:
            if isinstance(provider, context.GitRunContext) and (provider.in_context() or "git" not in sys.modules):
                provider._cache.clear()
