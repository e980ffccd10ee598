"""What counts as a GPU of the machine, by the files that its drivers make."""

from __future__ import annotations

from pathlib import Path

from labwright.spawner.gpus import count_gpus


def test_devices_with_a_driver_are_counted_and_nothing_beside_them(tmp_path: Path) -> None:
    assert count_gpus(tmp_path) == 0
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / "dev" / name).touch()
    for node, number in (("0", "0"), ("1", "4711")):
        folder = tmp_path / "sys/class/kfd/kfd/topology/nodes" / node
        folder.mkdir(parents=True)
        (folder / "gpu_id").write_text(f"{number}\n")
    assert count_gpus(tmp_path) == 3
