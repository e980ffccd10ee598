"""As much of a Kubernetes client as the cluster's own small controllers need: lists that stay current."""

from __future__ import annotations

import base64
import json
import logging
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

log = logging.getLogger(__name__)
Object = dict[str, Any]
RETRY_SECONDS = 0.5


class Api:
    """One API server, spoken to with the certificates in a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        timeout = httpx.Timeout(10, read=30)
        self.http = httpx.Client(base_url=cluster["server"], verify=context, timeout=timeout, trust_env=False)

    def get(self, path: str, **query: str) -> Object:
        return self._answer(self.http.get(path, params=query))

    def create(self, path: str, body: Object) -> Object:
        return self._answer(self.http.post(path, json=body))

    def delete(self, path: str) -> None:
        answer = self.http.delete(path)
        if answer.status_code != 404:
            answer.raise_for_status()

    def is_ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @staticmethod
    def _answer(response: httpx.Response) -> Object:
        response.raise_for_status()
        answer: Object = response.json()
        return answer


class Mirror:
    """A list kept current by list and watch in a thread of its own; `changed` is called after each change."""

    def __init__(self, api: Api, path: str, changed: Callable[[], None], **query: str) -> None:
        self._api, self._path, self._changed, self._query = api, path, changed, query
        self._objects: dict[str, Object] = {}
        self._lock = threading.Lock()
        self.listed = threading.Event()
        threading.Thread(target=self._follow, daemon=True, name=f"mirror {path}").start()

    def objects(self) -> list[Object]:
        with self._lock:
            return list(self._objects.values())

    def _follow(self) -> None:
        while True:
            try:
                self._list_and_watch()
            except (httpx.HTTPError, json.JSONDecodeError) as error:
                log.warning("watching %s again after: %s", self._path, error)
                threading.Event().wait(RETRY_SECONDS)

    def _list_and_watch(self) -> None:
        listing = self._api.get(self._path, **self._query)
        with self._lock:
            self._objects = {item["metadata"]["uid"]: item for item in listing["items"]}
        self.listed.set()
        self._changed()
        query = {**self._query, "watch": "true", "resourceVersion": listing["metadata"]["resourceVersion"]}
        timeout = httpx.Timeout(10, read=600)
        with self._api.http.stream("GET", self._path, params=query, timeout=timeout) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                item = event["object"]
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(item["metadata"]["uid"], None)
                    else:
                        self._objects[item["metadata"]["uid"]] = item
                self._changed()
