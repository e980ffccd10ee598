"""A pod's start as the hub sees it: however it ends, there is a sentence for its owner. No cluster is asked."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes_asyncio.client import V1ObjectMeta, V1Pod
from kubernetes_asyncio.client.rest import ApiException

from labwright.spawner.kube import START_ANNOTATION, CannotStart, KubernetesSpawner


class StartThatCannotBeLookedAt(KubernetesSpawner):  # type: ignore[misc]  # kubespawner has no types
    """The cluster does not answer, and the hub's clock runs out before our own is looked at again."""

    async def _start(self) -> Any:
        await asyncio.Event().wait()

    async def _look(self) -> None:
        await asyncio.Event().wait()


class StartThatNeverEnds(KubernetesSpawner):  # type: ignore[misc]
    async def _start(self) -> Any:
        await asyncio.Event().wait()


class StartWithAFault(KubernetesSpawner):  # type: ignore[misc]
    async def _start(self) -> Any:
        raise AttributeError("password=hunter2")


class StartWithAPodThatFails(KubernetesSpawner):  # type: ignore[misc]
    """Remembers whether its pod is still there."""

    pod_is_there = False

    async def _start(self) -> Any:
        self.pod_is_there = True
        raise ApiException(status=403)

    async def stop(self, now: bool = False) -> None:
        await asyncio.sleep(0.05)
        self.pod_is_there = False

    def _pod(self) -> Any:
        return {"metadata": {"uid": "new"}, "status": {}} if self.pod_is_there else None


class StartWhosePodRuns(KubernetesSpawner):  # type: ignore[misc]
    """Its server is a port of this machine; the pod's status is what the test says."""

    url = ""
    status: dict[str, Any] = {"phase": "Running"}  # noqa: RUF012 - replaced, never changed

    async def _start(self) -> Any:
        return self.url

    async def stop(self, now: bool = False) -> None:
        pass

    def _pod(self) -> Any:
        return {"metadata": {"uid": "new"}, "status": self.status} if self._start_future else None


class ApiThatAnswersTooLate:
    """Makes the pod at the first try, but says so to nobody."""

    def __init__(self) -> None:
        self.pods: list[Any] = []

    async def create_namespaced_pod(self, namespace: str, pod: Any) -> Any:
        if self.pods:
            raise ApiException(status=409)
        self.pods.append(pod)
        await asyncio.Event().wait()

    async def read_namespaced_pod(self, name: str, namespace: str, **_options: Any) -> Any:
        return self.pods[0]


class StartWhosePodCannotBeDeleted(StartWithAPodThatFails):
    async def stop(self, now: bool = False) -> None:
        raise TimeoutError("Could not delete pod")


class StartWhosePodTakesLongToDelete(StartWithAPodThatFails):
    async def stop(self, now: bool = False) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that refuses, until somebody listens on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


@pytest.mark.usefixtures("kubeconfig")
async def test_a_start_lasts_until_the_server_in_the_pod_listens(silent: socket.socket) -> None:
    spawner = StartWhosePodRuns(_mock=True, start_timeout=60)
    spawner.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    start = spawner.start()
    done, _pending = await asyncio.wait({start}, timeout=0.3)
    assert not done
    silent.listen()
    assert await asyncio.wait_for(start, 10) == spawner.url


@pytest.mark.usefixtures("kubeconfig")
async def test_a_server_that_dies_before_it_listens_says_why(silent: socket.socket) -> None:
    """The hub would look for it for a minute, and then know no reason."""
    spawner = StartWhosePodRuns(_mock=True, start_timeout=60)
    spawner.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    start = spawner.start()
    await asyncio.wait({start}, timeout=0.3)
    killed = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    spawner.status = {"phase": "Failed", "containerStatuses": [{"state": killed}]}
    with pytest.raises(CannotStart) as raised:
        await asyncio.wait_for(start, 10)
    assert "killed because it used more memory than its profile has" in raised.value.jupyterhub_message


@pytest.mark.usefixtures("kubeconfig")
async def test_a_server_that_never_listens_is_given_up(silent: socket.socket) -> None:
    spawner = StartWhosePodRuns(_mock=True, start_timeout=60, http_timeout=1)
    spawner.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with pytest.raises(CannotStart) as raised:
        await asyncio.wait_for(spawner.start(), 10)
    assert "Your server was not ready within 1 s" in raised.value.jupyterhub_message


@pytest.mark.usefixtures("kubeconfig")
async def test_a_start_that_the_hub_gives_up_has_a_reason() -> None:
    spawner = StartThatCannotBeLookedAt(_mock=True, start_timeout=1)
    with pytest.raises(CannotStart) as raised:
        await asyncio.wait_for(spawner.start(), 1)
    assert "The cluster is busy: it did not take your server within 1 s." in raised.value.jupyterhub_message


@pytest.mark.usefixtures("kubeconfig")
async def test_a_start_that_is_taken_back_is_cancelled_and_not_failed() -> None:
    start = StartThatNeverEnds(_mock=True, start_timeout=60).start()
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


@pytest.mark.usefixtures("kubeconfig")
async def test_an_unexpected_error_shows_a_number_and_not_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    spawner = StartWithAFault(_mock=True, start_timeout=60)
    with pytest.raises(CannotStart) as raised:
        await spawner.start()
    said = raised.value.jupyterhub_message
    found = re.search(r"Something broke on our side \(error (\w+)\)\. Tell your admin", said)
    assert found
    assert found[1] in caplog.text
    assert "hunter2" not in said


@pytest.mark.parametrize("start", [StartWithAPodThatFails, StartWhosePodCannotBeDeleted])
@pytest.mark.usefixtures("kubeconfig")
async def test_a_start_that_failed_has_no_pod_when_it_says_so(start: type[StartWithAPodThatFails]) -> None:
    """While the hub stops a failed start it tells nobody of the failure, and answers 500 when that takes seconds."""
    spawner = start(_mock=True, start_timeout=60)
    with pytest.raises(CannotStart) as raised:
        await spawner.start()
    assert "may not start servers in this cluster" in raised.value.jupyterhub_message
    assert spawner.pod_is_there == (start is StartWhosePodCannotBeDeleted)


@pytest.mark.usefixtures("kubeconfig")
async def test_a_pod_that_was_made_before_its_answer_came_too_late_is_kept() -> None:
    spawner = StartWithAPodThatFails(_mock=True)
    spawner.api = api = ApiThatAnswersTooLate()
    pod = V1Pod(metadata=V1ObjectMeta(name="jupyter-ada", annotations={START_ANNOTATION: "this-start"}))
    assert not await spawner._make_create_pod_request(pod, 0.05)
    assert await spawner._make_create_pod_request(pod, 0.05)
    assert api.pods == [pod]


@pytest.mark.usefixtures("kubeconfig")
async def test_a_reason_outlasts_a_deletion_that_the_hub_does_not_wait_for() -> None:
    with pytest.raises(CannotStart) as raised:
        await asyncio.wait_for(StartWhosePodTakesLongToDelete(_mock=True).start(), 0.2)
    assert "may not start servers in this cluster" in raised.value.jupyterhub_message
