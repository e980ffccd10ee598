"""From a profile to what KubeSpawner puts into a pod: pure functions, no cluster is asked.

What holds for every pod that these describe:
- it meets Kubernetes' pod security standard 'restricted';
- it carries no service account's token;
- requests and limits are set for processor and memory, so that quotas count it and the kernel holds it;
- nothing in it comes from what a browser sent: only a profile and its declared options are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labwright.api.errors import InvalidRequest
from labwright.spawner.profiles import Profile, Toleration

PROFILE_LABEL = "labwright/profile"
HOME = "/home/user"
RESTRICTED_CONTAINER: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "runAsNonRoot": True,
}


@dataclass(frozen=True)
class Deployment:
    """What the cluster's admin fixes for all profiles.

    `cpu_request_share`: how much of a profile's processors is set aside and not only allowed. Notebooks idle
    most of the time, so less than 1 fits more people on a node; memory is always set aside in full.
    """

    images: Mapping[str, str] = field(default_factory=dict)  # short name in a profile -> full reference
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    user_id: int = 1000
    home_bytes: int = 10 * 2**30
    storage_class: str | None = None
    cpu_request_share: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)


def with_images(deployment: Deployment, images: Mapping[str, str]) -> Deployment:
    return replace(deployment, images={**deployment.images, **images})


class UnknownImage(InvalidRequest):
    code = "unknown-image"

    def __init__(self, name: str, profile: str) -> None:
        super().__init__(
            f"The image '{name}' of profile '{profile}' is not in the list of images.",
            remedy="An admin adds it under 'images' in workbench.yaml.",
            image=name,
            profile=profile,
        )


def spawner_settings(profile: Profile, options: Mapping[str, str], deployment: Deployment) -> dict[str, Any]:
    """KubeSpawner's traits for one server of this profile: resources, place, image, home and security."""
    return {
        "image": image(profile, options, deployment),
        "image_pull_policy": deployment.pull_policy,
        "image_pull_secrets": list(deployment.pull_secrets),
        **resources(profile, deployment),
        **placement(profile),
        **home(deployment),
        **security(deployment),
        "extra_labels": {**deployment.labels, PROFILE_LABEL: profile.slug},
        # A server that was killed stays ended, and its owner is told why; started again in its place it would
        # come back empty, with nobody the wiser.
        "extra_pod_config": {"restartPolicy": "Never"},
    }


def image(profile: Profile, options: Mapping[str, str], deployment: Deployment) -> str:
    """The full reference: of the option chosen, else of the profile. A name with a slash or tag is one already."""
    name = options.get("image", profile.image)
    if name in deployment.images:
        return deployment.images[name]
    if "/" in name or ":" in name:
        return name
    raise UnknownImage(name, profile.slug)


def resources(profile: Profile, deployment: Deployment) -> dict[str, Any]:
    """Processor and memory by KubeSpawner's own traits; devices as extended resources, equal on both sides."""
    devices = {name: str(count) for name, count in profile.gpu.items() if count}
    return {
        "cpu_guarantee": profile.cpu * deployment.cpu_request_share,
        "cpu_limit": profile.cpu,
        "mem_guarantee": profile.memory_bytes,
        "mem_limit": profile.memory_bytes,
        "extra_resource_guarantees": devices,
        "extra_resource_limits": dict(devices),
    }


def placement(profile: Profile) -> dict[str, Any]:
    return {
        "node_selector": dict(profile.node_selector),
        "tolerations": [toleration(entry) for entry in profile.tolerations],
    }


def toleration(entry: Toleration) -> dict[str, str]:
    """As the API writes it: what is not said is left out, and `Exists` takes no value."""
    written = {"key": entry.key, "operator": entry.operator}
    if entry.operator == "Equal" and entry.value is not None:
        written["value"] = entry.value
    if entry.effect:
        written["effect"] = entry.effect
    return written


def home(deployment: Deployment) -> dict[str, Any]:
    """One volume per person, shared by all of the person's servers, mounted as the home."""
    settings: dict[str, Any] = {
        "storage_pvc_ensure": True,
        "storage_capacity": str(deployment.home_bytes),
        "storage_access_modes": ["ReadWriteOnce"],
        "volumes": {"home": {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}},
        "volume_mounts": {"home": {"name": "home", "mountPath": HOME}},
        "working_dir": HOME,
    }
    if deployment.storage_class is not None:
        settings["storage_class"] = deployment.storage_class
    return settings


def security(deployment: Deployment) -> dict[str, Any]:
    """The standard 'restricted': https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    return {
        "uid": deployment.user_id,
        "gid": deployment.user_id,
        "fs_gid": deployment.user_id,
        "allow_privilege_escalation": False,
        "privileged": False,
        "automount_service_account_token": False,
        "service_account": None,
        "container_security_context": dict(RESTRICTED_CONTAINER),
        "pod_security_context": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
