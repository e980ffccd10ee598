"""The pure decisions: which profile somebody gets, and whether it fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright.api.errors import InvalidRequest
from labwright.spawner.admission import Limit, Resources, admit
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


def test_what_fits_is_admitted_to_the_last_bit() -> None:
    assert admit(Resources(cpu=0.3), Resources(cpu=0.7), Limit(cpu=1.0)).admitted
    assert admit(Resources(servers=1, cpu=4), Resources(servers=1), Limit(servers=2)).admitted
    assert admit(Resources(cpu=1000), Resources(), Limit()).admitted


def test_a_refusal_names_the_resource_and_what_is_left() -> None:
    answer = admit(Resources(servers=1, gpu=2), Resources(gpu=3), Limit(servers=5, gpu=4))
    assert (answer.admitted, answer.resource, answer.asked, answer.left) == (False, "gpu", 2, 1)


def test_a_spent_budget_refuses_everything() -> None:
    assert admit(Resources(runs=1), Resources(budget=500), Limit(budget=500)).resource == "budget"


@given(st.integers(0, 10), st.integers(0, 20), st.none() | st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_admission_never_lets_use_pass_the_limit(
    ask: int, used: int, limit: int | None, cpu: int, used_cpu: int
) -> None:
    answer = admit(Resources(gpu=ask, cpu=cpu), Resources(gpu=used, cpu=used_cpu), Limit(gpu=limit, cpu=10))
    fits = (limit is None or ask + used <= limit or ask == 0) and (cpu + used_cpu <= 10 or cpu == 0)
    assert answer.admitted == fits
