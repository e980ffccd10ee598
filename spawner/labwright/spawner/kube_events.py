"""The cluster's events, by what they are about."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kubespawner.spawner import EventReflector

KEPT_SECONDS = 0.5


class IndexedEvents(EventReflector):  # type: ignore[misc]
    """The namespace's events by what they are about.

    A hundred starts that each look through all events twice a second would take the hub's whole time.
    """

    _indexed_at = 0.0
    _index: Mapping[str, list[dict[str, Any]]] = MappingProxyType({})

    def by_object(self) -> Mapping[str, list[dict[str, Any]]]:
        """Pods by their uid, claims as 'claim/NAMESPACE/NAME'; at most `KEPT_SECONDS` old."""
        now = time.monotonic()
        if now - self._indexed_at >= KEPT_SECONDS:
            index: dict[str, list[dict[str, Any]]] = {}
            for event in self.resources.values():
                about = event["involvedObject"]
                key = about.get("uid", "")
                if about.get("kind") == "PersistentVolumeClaim":
                    key = f"claim/{about.get('namespace')}/{about.get('name')}"
                index.setdefault(key, []).append(event)
            self._index, self._indexed_at = index, now
        return self._index

    def of_pod(self, uid: str, claim: str) -> list[dict[str, Any]]:
        """A pod's events (by its identity: the name was another pod's yesterday) and its home's, oldest first."""
        index = self.by_object()
        return sorted([*index.get(uid, ()), *index.get(f"claim/{claim}", ())], key=_seen_last)


def _seen_last(event: dict[str, Any]) -> str:
    """One that came again keeps its date, and counts in its series."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
