"""The pure decisions: which profile somebody gets, and whether it fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright.api.errors import InvalidRequest
from labwright.spawner.profiles import Profile, choose

SMALL = Profile("small", "Small", 1, 1 << 30, "user", 0.05)
GPU = Profile(
    "gpu", "GPU", 8, 1 << 36, "gpu", 2.4, gpu={"nvidia.com/gpu": 1}, groups=("research",), options={"image": ("a", "b")}
)
PROFILES = (SMALL, GPU)


def test_a_slug_gives_the_declared_profile_with_default_options() -> None:
    assert choose({"profile": "small"}, PROFILES, []).profile == SMALL
    assert choose({"profile": "gpu"}, PROFILES, ["research"]).options == {"image": "a"}
    assert choose({"profile": "gpu", "options": {"image": "b"}}, PROFILES, ["research"]).options == {"image": "b"}
    assert choose({}, PROFILES, []).profile == SMALL


@pytest.mark.parametrize(
    "user_options",
    [
        {"profile": "gpu"},  # of another group
        {"profile": "none"},
        {"profile": ["small"]},
        {"profile": {"slug": "small", "cpu": 64}},
        {"profile": None},
        {"profile": "small", "cpu": 64},
        {"profile": "small", "image": "evil"},
        {"profile": "small", "options": {"image": "evil"}},
        {"profile": "small", "options": ["image"]},
        {"profile": "small", "kubespawner_override": {"privileged": True}},
        {"profile--small--image": "x"},
    ],
)
def test_what_is_not_declared_is_refused(user_options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        choose(user_options, PROFILES, ["students"])


@pytest.mark.parametrize("value", ["c", "", "a ", None, 1, ["a"], {"a": 1}])
def test_an_option_has_one_of_its_values(value: object) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        choose({"profile": "gpu", "options": {"image": value}}, PROFILES, ["research"])


letters = st.text(alphabet="small gpu-é☃\0", max_size=8)  # the whole of Unicode takes seconds to prepare
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | letters,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(letters, children, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["profile", "options", "cpu", "image", "x"]), json_values))
def test_no_client_json_gives_anything_but_a_declared_profile(user_options: dict[str, Any]) -> None:
    try:
        choice = choose(user_options, PROFILES, [])
    except InvalidRequest:
        return
    assert choice.profile is SMALL
    assert choice.options == {}
