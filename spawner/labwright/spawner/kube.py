"""People's servers as pods: KubeSpawner, with profiles recomputed here and failures told in people's words.

What holds:
- Of what a browser sends only a profile's slug and its declared options are read (`profiles.choose`); image,
  resources, place and security come from `manifests`, at every start anew.
- A start that cannot succeed ends within seconds of the event that says so, with the reason as its message.
  One that waits says for what.
- Why a server ended is kept until the next start, over restarts of the hub.
"""

from __future__ import annotations

import asyncio
import html
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from kubernetes_asyncio.client.rest import ApiException
from kubespawner import KubeSpawner
from tornado import web
from traitlets import Any as AnyTrait
from traitlets import Bool, default

from labwright.api.errors import InternalError, LabwrightError
from labwright.spawner import explanations, manifests
from labwright.spawner.explanations import Explanation
from labwright.spawner.kube_events import IndexedEvents
from labwright.spawner.profiles import Choice, Workbench, choose
from labwright.spawner.second_look import SecondLook

LOOK_EVERY_SECONDS = 0.5
CONNECT_EVERY_SECONDS = 0.2
CONNECT_SECONDS = 2.0
NODES_KEPT_SECONDS = 5.0
OWN_SHARE_OF_TIMEOUT = 0.9  # the hub's own timeout says 'it took too long', and not why
STATUSES = {"quota": 409, "limit": 409, "no-node-fits": 409, "image": 409}  # the others are 503: trying again helps


START_ANNOTATION = "labwright/start"


class CannotStart(web.HTTPError):
    """A start that ended with a reason: what JupyterHub's page, events and API show, and never a traceback."""

    def __init__(self, explanation: Explanation, status: int | None = None) -> None:
        text = str(explanation)
        super().__init__(status or STATUSES.get(explanation.code, 503), log_message=text.replace("%", "%%"))
        self.explanation = explanation
        self.jupyterhub_message = text


class KubernetesSpawner(KubeSpawner):  # type: ignore[misc]  # kubespawner has no types
    """Starts a person's server as a pod of a declared profile."""

    workbench = AnyTrait(
        config=True,
        help="Gives the workbench file as it is now; asked at every start, so that a change needs no restart.",
    )
    deployment = AnyTrait(
        manifests.Deployment(),
        config=True,
        help="What the cluster's admin fixes for all profiles: labwright.spawner.manifests.Deployment.",
    )
    look_at_nodes = Bool(
        True,
        config=True,
        help="""Whether nodes may be listed (a ClusterRole), to tell 'no node is large enough' from 'all are taken'.
        Without the right the first is told as the second.""",
    )

    _explanation: Explanation | None = None
    _pod_asked_for: str | None = None  # this start's mark on the pod, once its creation was asked for
    _began = 0.0
    _last_end: dict[str, Any] | None = None
    _stale_uid: str | None = None
    _second_look: SecondLook | None = None  # once this start waits for its claim
    _nodes: tuple[float, asyncio.Future[list[dict[str, Any]] | None]] | None = None

    @default("pvc_name_template")
    def _home_name(self) -> str:
        return "home-{username}"

    @default("k8s_api_request_timeout")
    def _request_timeout(self) -> int:
        # KubeSpawner's 3 s are shorter than a busy cluster takes: what it gives up has often been done.
        return 30

    @default("k8s_api_request_retry_timeout")
    def _retry_timeout(self) -> int:
        return 90

    def choice(self) -> Choice:
        """The profile that the stored options name, looked up in the file as it is now."""
        workbench: Workbench = self.workbench()
        return choose(self.user_options or {}, workbench.profiles, [group.name for group in self.user.groups])

    async def load_user_options(self) -> None:
        """Replaces KubeSpawner's own: nothing in `user_options` reaches a trait but by way of `choose`."""
        chosen = self.choice()
        deployment = manifests.with_images(self.deployment, self.workbench().images)
        for name, value in manifests.spawner_settings(chosen.profile, chosen.options, deployment).items():
            setattr(self, name, value)
        self.extra_annotations = {START_ANNOTATION: secrets.token_hex(8)}

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """As KubeSpawner's, which takes a pod that its own first try made for somebody else's, and kills it."""
        mark = pod.metadata.annotations.get(START_ANNOTATION)
        if mark is not None and mark == self._pod_asked_for and await self._is_made(mark):
            return True
        self._pod_asked_for = mark
        made: bool = await super()._make_create_pod_request(pod, request_timeout)
        return made

    async def _is_made(self, mark: str) -> bool:
        """Whether this start's pod is there although the answer to its creation never came."""
        try:
            found = await self.api.read_namespaced_pod(self.pod_name, self.namespace, _request_timeout=10)
        except (ApiException, TimeoutError):
            return False
        return (found.metadata.annotations or {}).get(START_ANNOTATION) == mark

    async def get_options_form(self) -> Any:
        """The page's form, below the reason why the last server ended, if it did not end by its owner's wish."""
        form = await super().get_options_form()
        if self._last_end and form:
            sentence = html.escape(f"{self._last_end['sentence']} {self._last_end['remedy']}".strip())
            return f'<div class="alert alert-warning" role="alert" id="last-end">{sentence}</div>{form}'
        return form

    def start(self) -> asyncio.Future[Any]:
        self._explanation = None
        self._second_look = None
        self._began = time.monotonic()
        before = self._pod()
        self._stale_uid = before["metadata"]["uid"] if before else None
        self._start_future = asyncio.ensure_future(self._start_or_clean_up())
        return self._start_future

    async def _start_or_clean_up(self) -> Any:
        """The hub calls a failed start that it still stops neither pending nor failed: its pod is gone before."""
        try:
            return await self._start_or_explain()
        except CannotStart:
            if self._pod() is not None:
                try:
                    await self.stop(now=True)
                # Cancelled: by the hub's time limit, which must not take the reason away. The hub tries again.
                except (ApiException, TimeoutError, asyncio.CancelledError) as error:
                    self.log.warning("%s is not deleted yet: %s", self.pod_name, error)
            raise

    async def _start_or_explain(self) -> Any:
        own_limit = self.start_timeout * OWN_SHARE_OF_TIMEOUT
        try:
            url = await self._start_and_look(self._began + own_limit)
        except web.HTTPError:
            raise
        except LabwrightError as error:
            raise CannotStart(_told(error), error.status) from None
        except ApiException as error:
            raise CannotStart(explanations.explain_refusal(error.status or 0, _message_of(error))) from error
        except TimeoutError as error:
            raise CannotStart(self._given_up()) from error
        except asyncio.CancelledError:
            # By the hub's own time limit, which says nothing to the owner; or by somebody's wish.
            if time.monotonic() - self._began < own_limit:
                raise
            raise CannotStart(self._given_up()) from None
        except Exception as error:
            error_id = secrets.token_hex(4)
            self.log.exception("error %s in the start of %s", error_id, self.pod_name)
            told = InternalError(error_id)
            raise CannotStart(_told(told), told.status) from error
        self._last_end = None
        return url

    async def _start_and_look(self, deadline: float) -> Any:
        starting = asyncio.ensure_future(self._start_until_it_listens())
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=LOOK_EVERY_SECONDS)
                await self._look()
                if time.monotonic() > deadline and not starting.done():
                    raise CannotStart(self._given_up())
            return await starting
        finally:
            starting.cancel()

    async def _start_until_it_listens(self) -> Any:
        """A pod that runs is no server yet. The hub, which takes it for one, would wait a minute for one that died."""
        url = await self._start()
        async with asyncio.timeout(self.http_timeout):
            await _until_listening(urlsplit(url))
        return url

    def _given_up(self) -> Explanation:
        """The reason that held to the end; a start of which the cluster says nothing was slow."""
        seconds = f"{time.monotonic() - self._began:.0f}"
        found = self._explanation
        if found is None and self._pod() is None:
            sentence = f"The cluster is busy: it did not take your server within {seconds} s."
            return Explanation("cluster-busy", sentence, "Try again in a minute.", True)
        if found is None:
            sentence = f"Your server was not ready within {seconds} s, and the cluster does not say why."
            return Explanation("slow", sentence, "Try again; tell your admin if it stays so.", True)
        return replace(found, sentence=f"{found.sentence} It was waited for {seconds} s.", final=True)

    async def _look(self) -> None:
        """Keeps the current explanation; raises it when waiting cannot help."""
        pod = self._pod()
        if pod is None or pod["metadata"]["uid"] == self._stale_uid:
            return
        unplaced = _is_unplaced(pod)
        nodes = await self._known_nodes() if unplaced else None
        found = explanations.explain_start(pod, self._own_events(), nodes)
        if found is not None and found != self._explanation:
            self.log.info("%s waits: %s (%s)", self.pod_name, found.code, found.sentence)
        self._explanation = found
        if found is not None and found.final:
            raise CannotStart(found)
        if found is not None and found.code == "volume" and unplaced:
            self._second_look = self._second_look or SecondLook(self.namespace, self.pvc_name)
            await self._second_look.wake_scheduler(self.api)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """One message for each step and each reason to wait, without the cluster's own jargon."""
        steps = {"Scheduled": (40, "A node was found."), "Pulling": (50, "The node gets the image."),
                 "Pulled": (65, "The image is there."), "Started": (80, "Your server starts.")}  # fmt: skip
        told: set[str] = set()
        yield {"progress": 10, "message": "Your server is being placed."}
        while self._start_future is not None:
            done = self._start_future.done()
            for event in self._own_events():
                step = steps.get(event.get("reason", ""))
                if step and step[1] not in told:
                    told.add(step[1])
                    yield {"progress": step[0], "message": step[1]}
            if self._explanation is not None and (said := str(self._explanation)) not in told:
                told.add(said)
                yield {"progress": 30, "message": said, "html_message": html.escape(said)}
            if done:
                return
            await asyncio.wait({self._start_future}, timeout=LOOK_EVERY_SECONDS)

    async def poll(self) -> int | None:
        """As KubeSpawner's; and keeps why, before the pod that tells it is deleted."""
        before = self._pod()
        status: int | None = await super().poll()
        if status is not None and before is not None and not self._is_leaving(before):
            ended = explanations.explain_end(before)
            self._last_end = {"code": ended.code, "sentence": ended.sentence, "remedy": ended.remedy}
            self.log.warning("%s ended: %s (%s)", self.pod_name, ended.code, ended.sentence)
        return status

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._last_end:
            state["last_end"] = self._last_end
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._last_end = state.get("last_end")

    def _pod(self) -> dict[str, Any] | None:
        if self.pod_reflector is None:
            return None
        pod: dict[str, Any] | None = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        return pod

    def _own_events(self) -> list[dict[str, Any]]:
        """This pod's events and its home's, oldest first."""
        pod = self._pod()
        reflector = self.event_reflector
        if pod is None or not reflector:
            return []
        own: list[dict[str, Any]] = reflector.of_pod(pod["metadata"]["uid"], f"{self.namespace}/{self.pvc_name}")
        return own

    async def _start_watching_events(self, replace: bool = False) -> Any:
        """As KubeSpawner's, but for all kinds: why a volume is not there stands in its claim's events."""
        return await self._start_reflector(
            kind="events",
            reflector_class=IndexedEvents,
            omit_namespace=self.enable_user_namespaces,
            replace=replace,
        )

    async def _known_nodes(self) -> list[dict[str, Any]] | None:
        """As they were at most `NODES_KEPT_SECONDS` ago, listed once for all starts; None: they cannot be listed."""
        if not self.look_at_nodes:
            return None
        kept = type(self)._nodes
        if kept is None or time.monotonic() - kept[0] > NODES_KEPT_SECONDS:
            listing = asyncio.ensure_future(self._list_nodes())
            kept = type(self)._nodes = (time.monotonic(), listing)
        # Shielded: one start that is given up does not take the list from the others.
        return await asyncio.shield(kept[1])

    async def _list_nodes(self) -> list[dict[str, Any]] | None:
        try:
            answer = await self.api.list_node(_preload_content=False, _request_timeout=5)
            items: list[dict[str, Any]] = json.loads(await answer.read())["items"]
        except (ApiException, TimeoutError, aiohttp.ClientError) as error:
            self.log.warning("nodes cannot be listed: %s", error)
            type(self)._nodes = None  # the next look asks again
            return None
        return items

    @staticmethod
    def _is_leaving(pod: dict[str, Any]) -> bool:
        """Deleted on somebody's wish and not by itself."""
        return bool(pod["metadata"].get("deletionTimestamp")) and not pod["status"].get("reason")


async def _until_listening(url: SplitResult) -> None:
    port = url.port or (443 if url.scheme == "https" else 80)
    while True:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _reader, writer = await asyncio.open_connection(url.hostname, port)
        except (OSError, TimeoutError):
            await asyncio.sleep(CONNECT_EVERY_SECONDS)
        else:
            writer.close()
            return


def _is_unplaced(pod: dict[str, Any] | None) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions") or ()
    return any(c.get("type") == "PodScheduled" and c.get("status") == "False" for c in conditions)


def _told(error: LabwrightError) -> Explanation:
    return Explanation(error.code, str(error), error.remedy, True)


def _message_of(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "{}").get("message", ""))
    except ValueError:
        return str(error.body)


__all__ = ["CannotStart", "KubernetesSpawner"]
