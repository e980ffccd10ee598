"""Has the scheduler look again at a pod whose claim it takes for unbound long after it was bound.

kube-scheduler tells its queue and its own store of claims of a change in two threads (1.34: eventhandlers.go,
assume_cache.go). When the queue is the first, the pod is tried once more with the claim as it was; then nothing wakes
it for five minutes, longer than a start may take. A change of the claim does.
"""

from __future__ import annotations

import logging
import time

import aiohttp
from kubernetes_asyncio.client import CoreV1Api
from kubernetes_asyncio.client.rest import ApiException

log = logging.getLogger(__name__)
ANNOTATION = "labwright/second-look"
PATIENCE_SECONDS = 3.0  # a claim is bound within one; the scheduler tries again within milliseconds
API_SECONDS = 5.0


class SecondLook:
    """Of one start. Asked at each look at a pod that waits for its claim."""

    def __init__(self, namespace: str, claim: str) -> None:
        self._namespace, self._claim = namespace, claim
        self._next = time.monotonic() + PATIENCE_SECONDS

    async def wake_scheduler(self, api: CoreV1Api) -> bool:
        """Change the claim if it is bound; True when it was. At most once in `PATIENCE_SECONDS`, and never raises."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + PATIENCE_SECONDS
        try:
            claim = await api.read_namespaced_persistent_volume_claim(
                self._claim, self._namespace, _request_timeout=API_SECONDS
            )
            if claim.status.phase != "Bound":
                return False
            change = {"metadata": {"annotations": {ANNOTATION: f"{time.time():.0f}"}}}
            await api.patch_namespaced_persistent_volume_claim(
                self._claim, self._namespace, change, _request_timeout=API_SECONDS
            )
        except ApiException as error:
            log.warning("the scheduler is not woken for %s: %s %s", self._claim, error.status, error.reason)
            return False
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("the scheduler is not woken for %s: %s", self._claim, type(error).__name__)
            return False
        log.warning("%s is bound and its pod still waits for it: the scheduler is woken", self._claim)
        return True
