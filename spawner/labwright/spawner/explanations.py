"""Why a pod does not start, or ended, in the words of the person who waits for it: pure functions.

Read are the API's own objects as plain dictionaries: the pod, its events and those of its home's claim, and the
nodes. An explanation is `final` when waiting cannot help; otherwise it says what is waited for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labwright.spawner.capacity import DEVICE_WORDS, amount, quantity, why_no_node_can

Object = Mapping[str, Any]
KILLED = 137  # 128 + SIGKILL: what a container ends with when the kernel takes its memory back
# What kubelet gives as a reason for an image that it will not have in a minute either.
HOPELESS_PULLS = ("not found", "denied", "unauthorized", "does not exist", "manifest unknown",
                  "no such host", "connection refused",
                  "not present with pull policy of never", "invalid reference", "authorization failed")  # fmt: skip
PULL_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
VOLUME_REASONS = {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "ProvisioningFailed", "FailedBinding"}
RESOURCE_WORDS = {"cpu": "processors", "memory": "memory", "ephemeral-storage": "disk"}


@dataclass(frozen=True)
class Explanation:
    """`code` is stable, for programs; `sentence` and `remedy` are for the person."""

    code: str
    sentence: str
    remedy: str = ""
    final: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}".strip()


def explain_start(pod: Object, events: Iterable[Object], nodes: Sequence[Object] | None = None) -> Explanation | None:
    """Why this pod is not running yet; None while all goes well. `nodes` None: they may not be looked at."""
    recent = list(events)
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return explain_end(pod)
    return _image(pod) or _crash(pod) or _sandbox(recent) or _unplaced(pod, recent, nodes) or _late_volume(pod, recent)


def explain_end(pod: Object) -> Explanation:
    """Why a server that had run is no longer there."""
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return Explanation(
            "evicted",
            f"Your server was stopped because its node ran out of resources: {_first_line(status.get('message'))}",
            "Start it again; it may get another node.",
            final=True,
        )
    if status.get("reason") in ("NodeLost", "NodeShutdown", "Terminated"):
        return Explanation("node-lost", "The machine under your server went away.", "Start your server again.", True)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return Explanation(
                "disrupted",
                f"Your server was stopped to make room: {_first_line(condition.get('message'))}",
                "Start it again.",
                True,
            )
    for container in status.get("containerStatuses") or ():
        ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
        if ended:
            return _ended(ended, memory_limit(pod))
    return Explanation("gone", "Your server is gone, and nothing says why.", "Start it again.", True)


def explain_refusal(status: int, message: str) -> Explanation:
    """Why the API server did not take the pod or its home's claim (`message`: from the body of its answer)."""
    quota = re.search(
        r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>.+), used: (?P<used>.+), limited: (?P<limit>.+)",
        message,
    )
    if quota:
        return Explanation("quota", _quota_sentence(quota), "Stop a server or choose a smaller profile.", True)
    if "maximum" in message and "usage per" in message:
        return Explanation(
            "limit", f"The cluster does not allow a server of this size: {_first_line(message)}",
            "Choose a smaller profile.", True,
        )  # fmt: skip
    if "violates PodSecurity" in message:
        return Explanation(
            "security", "The cluster's security rules refuse this server.",
            "Your admin finds the rule in the hub's log.", True,
        )  # fmt: skip
    if status == 403:
        return Explanation(
            "forbidden", "The workbench may not start servers in this cluster.", "Tell your admin.", True
        )
    if status in (429, 500, 502, 503, 504):
        return Explanation("cluster-busy", "The cluster does not answer right now.", "Try again in a minute.", True)
    return Explanation("refused", "The cluster refused to start your server.", "Tell your admin.", True)


def memory_limit(pod: Object) -> str:
    for container in pod.get("spec", {}).get("containers") or ():
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if limit is not None:
            return amount("memory", quantity(limit))
    return ""


def _ended(ended: Object, limit: str) -> Explanation:
    # containerd keeps this reason from an earlier kill of a child: only one that ended the server itself counts.
    if ended.get("reason") == "OOMKilled" and ended.get("exitCode", KILLED) == KILLED:
        allowed = f" It may use {limit}." if limit else ""
        return Explanation(
            "out-of-memory",
            f"Your server was killed because it used more memory than its profile has.{allowed}",
            "Choose a larger profile, or load less data at once.",
            True,
        )
    code = ended.get("exitCode")
    if code == 0:
        return Explanation("ended", "Your server ended by itself.", "Start it again when you need it.", True)
    if code == KILLED:
        return Explanation("killed", "Your server was killed from outside.", "Start it again.", True)
    if ended.get("reason") in ("StartError", "ContainerCannotRun", "CreateContainerError"):
        return Explanation(
            "cannot-run", f"The image's program could not be started: {_first_line(ended.get('message'))}",
            "Tell your admin: the image is not fit for servers.", True,
        )  # fmt: skip
    return Explanation(
        "crashed", f"Your server ended with an error (exit status {code}).", "Its log says more; tell your admin.", True
    )


def _image(pod: Object) -> Explanation | None:
    for container in _container_statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason not in PULL_REASONS:
            continue
        message = str(waiting.get("message") or "")
        hopeless = any(word in message.lower() for word in HOPELESS_PULLS)
        name = container.get("image") or "of this profile"
        return Explanation(
            "image",
            f"The image {name} cannot be pulled: {_pull_reason(message, str(reason))}",
            "Choose another image or profile, and tell your admin.",
            # A registry that does not answer is asked once more before the person is told to give up.
            final=hopeless or reason != "ErrImagePull",
        )
    return None


def _pull_reason(message: str, reason: str) -> str:
    lowered = message.lower()
    if "never" in lowered or reason == "ErrImageNeverPull":
        return "it is not on the node, and this cluster has no registry to get it from."
    if reason == "InvalidImageName":
        return "its name is not valid."
    if "unauthorized" in lowered or "denied" in lowered or "authorization failed" in lowered:
        return "the registry does not let the cluster have it."
    if "not found" in lowered or "manifest unknown" in lowered or "does not exist" in lowered:
        return "the registry does not have it."
    return "the registry cannot be reached."


def _crash(pod: Object) -> Explanation | None:
    for container in _container_statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in ("CrashLoopBackOff", "CreateContainerError", "CreateContainerConfigError",
                                     "RunContainerError"):  # fmt: skip
            ended = container.get("lastState", {}).get("terminated")
            return _ended(ended or {"reason": "CreateContainerError", **waiting}, memory_limit(pod))
        ended = container.get("state", {}).get("terminated")
        if ended:
            return _ended(ended, memory_limit(pod))
    return None


def _sandbox(events: Sequence[Object]) -> Explanation | None:
    failed = [event for event in events if event.get("reason") == "FailedCreatePodSandBox"]
    if not failed:
        return None
    return Explanation("network", "The node cannot set up your server's network; it is tried again.", "Please wait.")


def _unplaced(pod: Object, events: Sequence[Object], nodes: Sequence[Object] | None) -> Explanation | None:
    """No node yet. Told apart: a place that may come free, and one that no node has."""
    condition = next(
        (c for c in pod.get("status", {}).get("conditions") or () if c.get("type") == "PodScheduled"), None
    )
    if condition is None or condition.get("status") != "False":
        return None
    message = str(condition.get("message") or "")
    if any(event.get("reason") == "TriggeredScaleUp" for event in events):
        return Explanation("scaling", "No node is free; a new one is being started.", "This takes a few minutes.")
    grows = any(event.get("reason") == "NotTriggerScaleUp" for event in events)
    if nodes is not None:
        never = why_no_node_can(pod, nodes)
        if never and not grows:
            return Explanation(
                "no-node-fits", never, "Choose a smaller profile, or ask your admin for such a node.", True
            )
    message = _latest(message, events)
    if _is_of_claim(message):
        return _volume(events) or Explanation(
            "volume", "Your home's volume is not there yet.", "It is being made; please wait."
        )
    lacking = _lacking(message)
    if lacking:
        return Explanation(
            "waiting", f"Waiting for {lacking}: what the cluster has is in use right now.", _waiting_remedy(grows)
        )
    if "volume node affinity conflict" in message:
        sentence = "Waiting for a node that your home's volume can be on: those are in use right now."
        return Explanation("waiting", sentence, _waiting_remedy(grows))
    return Explanation("waiting", f"No node takes your server yet: {_first_line(message)}", _waiting_remedy(grows))


def _latest(message: str, events: Sequence[Object]) -> str:
    """What the scheduler said last.

    It writes the pod's condition (`message`) and an event apart, and does not try again what failed: a claim that was
    waited for once can stand in the condition to the pod's end. What is not of the claim is later, for a claim that
    is bound stays so.
    """
    if not _is_of_claim(message):
        return message
    tries = [str(event.get("message") or "") for event in events if event.get("reason") == "FailedScheduling"]
    return next((said for said in reversed(tries) if said and not _is_of_claim(said)), message)


def _is_of_claim(message: str) -> bool:
    lowered = message.lower()
    return "persistentvolumeclaim" in lowered or "persistent volumes to bind" in lowered


def _waiting_remedy(full: bool) -> str:
    if full:
        return "The cluster has its most nodes; your server starts when somebody stops one."
    return "Your server starts when somebody stops one; a smaller profile may start now."


def _lacking(message: str) -> str:
    """'Insufficient nvidia.com/gpu, 1 Insufficient cpu' as 'a GPU and processors'."""
    names = list(dict.fromkeys(re.findall(r"Insufficient ([\w./-]*\w)", message)))
    words = [f"a {DEVICE_WORDS[n]}" if n in DEVICE_WORDS else RESOURCE_WORDS.get(n, n) for n in names]
    return " and ".join(words)


def _late_volume(pod: Object, events: Sequence[Object]) -> Explanation | None:
    """A volume that cannot be mounted matters only until the container runs."""
    started = any(container.get("state", {}).get("running") for container in _container_statuses(pod))
    own = [event for event in events if event.get("involvedObject", {}).get("kind") == "Pod"]
    return None if started else _volume(own)


def _volume(events: Sequence[Object]) -> Explanation | None:
    failed = [event for event in events if event.get("reason") in VOLUME_REASONS]
    if not failed:
        return None
    last = failed[-1]
    # kubelet tries again for minutes; a claim that is refused stays so until somebody changes it.
    final = last.get("reason") == "ProvisioningFailed" or int(last.get("count") or 1) >= 4
    return Explanation(
        "volume",
        f"Your home's volume is not ready: {_first_line(last.get('message'))}",
        "Tell your admin; nothing in it is lost.",
        final,
    )


def _quota_sentence(found: re.Match[str]) -> str:
    def amounts(text: str) -> dict[str, str]:
        return dict(part.split("=", 1) for part in text.strip().split(",") if "=" in part)

    asked, used, limit = amounts(found["asked"]), amounts(found["used"]), amounts(found["limit"])
    parts = []
    for name, value in asked.items():
        resource = name.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")
        if resource == "pods":
            parts.append(f"{limit.get(name, '?')} servers are allowed and {used.get(name, '?')} are running")
            continue
        said = [amount(resource, quantity(text)) for text in (value, used.get(name, "0"), limit.get(name, "0"))]
        parts.append(f"it asks for {said[0]}, {said[1]} of {said[2]} are taken")
    return f"The cluster's quota has no room for your server: {'; '.join(dict.fromkeys(parts))}."


def _container_statuses(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _first_line(text: object) -> str:
    line = str(text or "no reason given").strip().splitlines()[0]
    return line if len(line) <= 200 else f"{line[:197]}…"
