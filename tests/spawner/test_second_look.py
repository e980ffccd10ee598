"""A scheduler that missed that a claim was bound leaves the pod waiting for minutes, unless the claim changes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client.rest import ApiException

from labwright.spawner import second_look
from labwright.spawner.kube import KubernetesSpawner
from labwright.spawner.second_look import SecondLook

# As kube-scheduler 1.34 wrote it, and left it, while the claim was bound.
WAITS_FOR_CLAIM = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"}],
}  # fmt: skip


class ApiWithClaim:
    """One claim, and what was changed in it; `refuses`: the status of each answer to a change."""

    def __init__(self, phase: str, refuses: int = 0) -> None:
        self.phase, self.refuses = phase, refuses
        self.changes: list[Any] = []
        self.changed = asyncio.Event()

    async def read_namespaced_persistent_volume_claim(self, _name: str, _namespace: str, **_options: Any) -> Any:
        return SimpleNamespace(status=SimpleNamespace(phase=self.phase))

    async def patch_namespaced_persistent_volume_claim(
        self, name: str, namespace: str, change: Any, **_options: Any
    ) -> None:
        if self.refuses:
            raise ApiException(status=self.refuses)
        self.changes.append((namespace, name, change))
        self.changed.set()


class StartThatWaitsForItsClaim(KubernetesSpawner):  # type: ignore[misc]  # kubespawner has no types
    """Placed as soon as the claim was changed."""

    look_at_nodes = False

    async def _start_until_it_listens(self) -> Any:
        await self.api.changed.wait()
        return "http://127.0.0.1:9"

    def _pod(self) -> Any:
        return {"metadata": {"uid": "new"}, "status": WAITS_FOR_CLAIM} if self._start_future else None

    def _own_events(self) -> list[dict[str, Any]]:
        return []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "PATIENCE_SECONDS", 0.0)


@pytest.mark.usefixtures("kubeconfig", "impatient")
async def test_a_start_whose_claim_was_bound_long_since_wakes_the_scheduler() -> None:
    spawner = StartThatWaitsForItsClaim(_mock=True, start_timeout=60)
    spawner.api = api = ApiWithClaim("Bound")
    await asyncio.wait_for(spawner.start(), 10)
    namespace, name, change = api.changes[0]
    assert (namespace, name) == (spawner.namespace, spawner.pvc_name)
    assert list(change["metadata"]["annotations"]) == ["labwright/second-look"]


@pytest.mark.usefixtures("impatient")
async def test_a_claim_that_is_still_being_bound_is_left_alone() -> None:
    api = ApiWithClaim("Pending")
    assert not await SecondLook("people", "home-ada").wake_scheduler(api)
    assert api.changes == []


async def test_a_scheduler_has_some_seconds_before_it_is_woken() -> None:
    api = ApiWithClaim("Bound")
    assert not await SecondLook("people", "home-ada").wake_scheduler(api)
    assert api.changes == []


@pytest.mark.usefixtures("impatient")
async def test_a_hub_that_may_not_change_claims_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert not await SecondLook("people", "home-ada").wake_scheduler(ApiWithClaim("Bound", refuses=403))
    assert "the scheduler is not woken for home-ada: 403" in caplog.text
