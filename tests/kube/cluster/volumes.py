"""Gives persistent volume claims a folder on the node: `python -m tests.kube.cluster.volumes`.

The storage class `standard` names this as its provisioner. A claim that asks for more than `LARGEST` is
left waiting with an event that says why, as a provisioner with a full disk does.
"""

from __future__ import annotations

import datetime
import logging
import shutil
import threading
from pathlib import Path

import httpx

from tests.kube.cluster.api import Api, Mirror, Object
from tests.kube.cluster.places import Places

log = logging.getLogger(__name__)
PROVISIONER = "labwright.invalid/folder"
STORAGE_CLASS = "standard"
LARGEST = 100 * 2**40
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def size_in_bytes(quantity: str) -> float:
    for suffix, factor in UNITS.items():
        if quantity.endswith(suffix):
            return float(quantity.removesuffix(suffix)) * factor
    return float(quantity)


def is_ours(claim: Object) -> bool:
    return claim["spec"].get("storageClassName") == STORAGE_CLASS and not claim["spec"].get("volumeName")


def volume_for(claim: Object, folder: Path) -> Object:
    meta = claim["metadata"]
    reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1",
                 "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{meta['uid']}",
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "claimRef": reference,
            "hostPath": {"path": str(folder), "type": ""},
        },
    }


class Provisioner:
    def __init__(self, api: Api, root: Path) -> None:
        self._api, self._root = api, root
        self._seen: set[str] = set()

    def provision(self, claim: Object) -> None:
        meta = claim["metadata"]
        if meta["uid"] in self._seen:
            return
        self._seen.add(meta["uid"])
        if size_in_bytes(claim["spec"]["resources"]["requests"]["storage"]) > LARGEST:
            self._tell(claim, "ProvisioningFailed", "no space: the claim asks for more than the disk has")
            return
        folder = self._root / meta["uid"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        try:
            self._api.create("/api/v1/persistentvolumes", volume_for(claim, folder))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 409:
                raise

    def release(self, volume: Object) -> None:
        self._api.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
        shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)

    def _tell(self, claim: Object, reason: str, message: str) -> None:
        meta = claim["metadata"]
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": meta["name"],
                               "namespace": meta["namespace"], "uid": meta["uid"]},
            "type": "Warning", "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "source": {"component": PROVISIONER},
        }  # fmt: skip
        self._api.create(f"/api/v1/namespaces/{meta['namespace']}/events", event)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    places = Places.from_environment()
    api = Api(places.kubeconfig)
    provisioner = Provisioner(api, places.state / "volumes")
    dirty = threading.Event()
    claims = Mirror(api, "/api/v1/persistentvolumeclaims", dirty.set)
    volumes = Mirror(api, "/api/v1/persistentvolumes", dirty.set)
    while True:
        dirty.wait()
        dirty.clear()
        for claim in claims.objects():
            if is_ours(claim):
                provisioner.provision(claim)
        for volume in volumes.objects():
            ours = volume["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
            if ours and volume.get("status", {}).get("phase") == "Released":
                provisioner.release(volume)


if __name__ == "__main__":
    main()
