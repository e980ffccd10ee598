"""The cluster's tests run where `make test-kube` started them, and are skipped with the reason elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kube.deployment import Deployment, deployed
from tests.kube.kubectl import Kubectl
from tests.kube.person import Person


def why_skipped() -> str | None:
    # A KUBECONFIG alone is no wish to be tested on: it may be of a cluster that people work on.
    if not os.environ.get("LABWRIGHT_KUBE_TESTS"):
        return "no cluster: `make kube-up test-kube`, or `KUBECONFIG=… make test-kube`"
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_skipped()
    for item in items:
        if reason and item.get_closest_marker("kube") and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"skipped: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the hub and the cluster said stands below a failure: the pods are gone when somebody looks."""
    report = yield
    workbench = getattr(item, "funcargs", {}).get("workbench")
    if report.failed and isinstance(workbench, Deployment):
        kubectl = workbench.kubectl
        report.sections.append(("the hub's log", kubectl.log_of("hub", without="200 GET /hub/api/users/")))
        report.sections.append(("pods and claims", kubectl.told("get", "pods,persistentvolumeclaims")))
        report.sections.append(("events", kubectl.told("get", "events", "--sort-by=.lastTimestamp")[-6000:]))
    return report


@pytest.fixture(scope="session")
def workbench() -> Iterator[Deployment]:
    with deployed("labwright-test") as deployment:
        yield deployment


@pytest.fixture
def kubectl(workbench: Deployment) -> Kubectl:
    return workbench.kubectl


@pytest.fixture
def person(workbench: Deployment, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody new for each test, so that no test sees another's server."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "")[:20]
    somebody = Person(name, workbench.url, workbench.token)
    yield somebody
    somebody.stop()
    somebody.close()
