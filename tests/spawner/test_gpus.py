"""Which GPUs a machine has, by the files that its drivers make, and which of them a process is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labwright.hub.diagnosis import check_gpus
from labwright.hub.local_spawner import limits_of
from labwright.hub.settings import from_environment
from labwright.spawner.gpus import Gpu, find_gpus, least_used, visible
from labwright.spawner.launcher import Limits, Principal
from labwright.spawner.profiles import Profile, Workbench

from .test_launcher import ended

A, B, C = (Gpu("nvidia", f"GPU-{letter}") for letter in "abc")
SMALL = Profile("small", "Small", 1, 1 << 30, "user", 0.05)
GPU = Profile("gpu", "GPU", 8, 64 << 30, "gpu", 2.4, gpu={"nvidia.com/gpu": 1})


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """With the files of two NVIDIA GPUs and one of AMD's."""
    (tmp_path / "dev").mkdir()
    for name in ("nvidia1", "nvidia0", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / "dev" / name).touch()
    for number, letter in enumerate("ab"):
        folder = tmp_path / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        facts = f"Model: \t\t H100\nGPU UUID: \t GPU-{letter}\nVideo BIOS: \t 96.00\nDevice Minor: \t {number}\n"
        (folder / "information").write_text(facts)
    for node, number in (("0", "0"), ("1", "4711")):
        folder = tmp_path / "sys/class/kfd/kfd/topology/nodes" / node
        folder.mkdir(parents=True)
        (folder / "gpu_id").write_text(f"{number}\n")
    return tmp_path


def test_devices_with_a_driver_are_found_and_nothing_beside_them(machine: Path, tmp_path_factory: Any) -> None:
    assert find_gpus(machine) == [A, B, Gpu("amd", "0")]
    assert find_gpus(tmp_path_factory.mktemp("without")) == []


def test_a_gpu_whose_uuid_the_driver_does_not_tell_is_known_by_its_place(machine: Path) -> None:
    for file in machine.glob("proc/driver/nvidia/gpus/*/information"):
        file.write_text(file.read_text().replace("GPU-a", "GPU-????????-????"))
    (machine / "dev" / "nvidia10").touch()
    assert find_gpus(machine)[:3] == [Gpu("nvidia", "0"), B, Gpu("nvidia", "2")]


def test_those_that_the_fewest_hold_are_given() -> None:
    assert least_used([A, B, C], [], 2) == [A, B]
    assert least_used([A, B, C], [A.key, B.key], 1) == [C]
    assert least_used([A, B], [A.key, B.key, B.key], 1) == [A]
    assert least_used([], [], 1) == []


def test_what_is_not_given_is_hidden() -> None:
    assert visible([A, B], [B]) == {"CUDA_VISIBLE_DEVICES": "GPU-b", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert visible([A, Gpu("amd", "0")], [])["ROCR_VISIBLE_DEVICES"] == ""
    assert visible([], []) == {}


def test_without_a_profile_that_has_gpus_everybody_sees_all() -> None:
    assert limits_of(SMALL, Workbench(profiles=(SMALL,))).gpus is None
    both = Workbench(profiles=(SMALL, GPU))
    assert [limits_of(profile, both).gpus for profile in both.profiles] == [0, 1]


def test_doctor_tells_the_gpus_and_whether_they_are_given_out(machine: Path, tmp_path: Path) -> None:
    file = tmp_path / "workbench.yaml"
    settings = from_environment({"LABWRIGHT_HOME": str(tmp_path), "LABWRIGHT_CONFIG": str(file)})
    profile = "profiles: [{slug: a, name: A, cpu: 1, memory: 1G, image: user, price_per_hour: 1"
    for more, state in (("", "note"), (", gpu: {nvidia.com/gpu: 1}", "good")):
        file.write_text(f"{profile}{more}}}]\n")
        (finding,) = check_gpus(settings, machine)
        assert (finding.state, finding.part) == (state, "GPUs")
        assert "3 of this machine (nvidia:GPU-a, nvidia:GPU-b, amd:0)" in finding.text
    assert list(check_gpus(settings, tmp_path / "elsewhere")) == []


async def test_two_processes_with_a_gpu_each_get_one_of_their_own(launcher: Any, machine: Path) -> None:
    launcher.kill()
    launcher.start("--root", str(machine))
    client, who = launcher.client, Principal("alice")
    home = await client.prepare(who)

    async def start(gpus: int | None, script: str) -> tuple[str, Path]:
        log = home / f"log-{len(list(home.iterdir()))}"
        limits = Limits(gpus=gpus)
        script = f"echo ${{CUDA_VISIBLE_DEVICES-unset}}; {script}"
        launched = await client.launch(who, ["bash", "-c", script], env={}, limits=limits, name="x", log=log)
        return launched.id, log

    async def shown(gpus: int | None) -> str:
        id, log = await start(gpus, "true")
        await ended(client, id)
        return log.read_text().strip()

    first, _ = await start(1, "exec sleep 304")
    assert await shown(1) == "GPU-b"
    launcher.kill()
    launcher.start("--root", str(machine))
    assert await shown(1) == "GPU-b"
    assert await shown(0) == ""
    assert await shown(None) == "unset"
    await client.stop(first)
    assert await shown(1) == "GPU-a"
