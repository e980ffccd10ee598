"""From a profile to a pod: what is asked for, what is fixed, and what a browser cannot change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright.spawner.manifests import Deployment, UnknownImage, resources, spawner_settings, with_images
from labwright.spawner.profiles import Profile, Toleration

DEPLOYMENT = Deployment(images={"user": "registry.example/labwright/user:1", "gpu": "registry.example/labwright/gpu:1"})


def profile(**changes: Any) -> Profile:
    values: dict[str, Any] = {
        "slug": "small", "name": "Small", "cpu": 1.0, "memory_bytes": 2 * 2**30, "image": "user",
        "price_per_hour": 0.05,
    }  # fmt: skip
    return Profile(**{**values, **changes})


def test_requests_and_limits_are_the_profiles() -> None:
    settings = spawner_settings(profile(), {}, DEPLOYMENT)
    assert (settings["cpu_guarantee"], settings["cpu_limit"]) == (1.0, 1.0)
    assert settings["mem_guarantee"] == settings["mem_limit"] == 2 * 2**30


def test_devices_are_asked_for_on_both_sides() -> None:
    found = resources(profile(gpu={"nvidia.com/gpu": 2}), DEPLOYMENT)
    assert found["extra_resource_guarantees"] == found["extra_resource_limits"] == {"nvidia.com/gpu": "2"}


def test_processors_may_be_set_aside_in_part_and_memory_never() -> None:
    found = resources(profile(cpu=4.0), Deployment(cpu_request_share=0.25))
    assert (found["cpu_guarantee"], found["cpu_limit"]) == (1.0, 4.0)
    assert found["mem_guarantee"] == found["mem_limit"]


def test_the_chosen_image_wins_over_the_profiles() -> None:
    chosen = profile(options={"image": ("user", "gpu")})
    assert spawner_settings(chosen, {"image": "gpu"}, DEPLOYMENT)["image"] == "registry.example/labwright/gpu:1"
    assert spawner_settings(chosen, {}, DEPLOYMENT)["image"] == "registry.example/labwright/user:1"


def test_a_full_reference_needs_no_entry_and_a_short_name_does() -> None:
    full = profile(image="registry.example/team/image@sha256:00")
    assert spawner_settings(full, {}, DEPLOYMENT)["image"] == full.image
    with pytest.raises(UnknownImage, match="'torch' of profile 'small' is not in the list"):
        spawner_settings(profile(image="torch"), {}, DEPLOYMENT)
    assert spawner_settings(profile(image="torch"), {}, with_images(DEPLOYMENT, {"torch": "a/b:1"}))["image"] == "a/b:1"


def test_place_is_written_as_the_api_means_it() -> None:
    tolerations = (Toleration("a"), Toleration("b", "Equal", "x", "NoSchedule"), Toleration("c", "Exists", "ignored"))
    settings = spawner_settings(profile(node_selector={"pool": "gpu"}, tolerations=tolerations), {}, DEPLOYMENT)
    assert settings["node_selector"] == {"pool": "gpu"}
    assert settings["tolerations"] == [
        {"key": "a", "operator": "Exists"},
        {"key": "b", "operator": "Equal", "value": "x", "effect": "NoSchedule"},
        {"key": "c", "operator": "Exists"},
    ]


def test_every_pod_meets_the_standard_restricted() -> None:
    settings = spawner_settings(profile(), {}, DEPLOYMENT)
    assert settings["automount_service_account_token"] is False
    assert settings["uid"] == 1000
    container, pod = settings["container_security_context"], settings["pod_security_context"]
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert pod == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_home_is_the_persons_and_no_storage_class_means_the_clusters_own() -> None:
    assert "storage_class" not in spawner_settings(profile(), {}, DEPLOYMENT)
    settings = spawner_settings(profile(), {}, Deployment(images=DEPLOYMENT.images, storage_class="fast"))
    assert settings["storage_class"] == "fast"
    assert settings["volume_mounts"]["home"]["mountPath"] == "/home/user"


@given(
    cpu=st.floats(min_value=0.1, max_value=512),
    memory=st.integers(min_value=1, max_value=2**45),
    share=st.floats(min_value=0.01, max_value=1),
)
def test_a_request_is_never_above_its_limit(cpu: float, memory: int, share: float) -> None:
    found = resources(profile(cpu=cpu, memory_bytes=memory), Deployment(cpu_request_share=share))
    assert found["cpu_guarantee"] <= found["cpu_limit"]
    assert found["mem_guarantee"] <= found["mem_limit"]


def test_kubespawner_takes_every_setting() -> None:
    kubespawner = pytest.importorskip("kubespawner")
    unknown = set(spawner_settings(profile(), {}, DEPLOYMENT)) - set(kubespawner.KubeSpawner.class_trait_names())
    assert unknown == set()
