"""Whether the machine killed a kernel for want of memory, read from both versions of control groups."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from labwright.kernels.client import Exit
from labwright.kernels.deaths import count_oom_kills, explain, explain_memory_of_server, limit_bytes, memory_cgroup

V1 = "4:memory:/kubepods/pod1/abc\n2:cpu:/kubepods/pod1/abc\n0::/\n"
V2 = "0::/user.slice/lab\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    return folder


def group_of(membership: str, mounted: Path) -> Path | None:
    process = mounted.with_name("membership")
    process.write_text(membership)
    return memory_cgroup(mounted, process)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_version_1_counts_in_oom_control(mounted: Path) -> None:
    group = write(
        mounted / "memory" / "kubepods" / "pod1" / "abc",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        memory__limit_in_bytes="1610612736\n",
    )
    assert group_of(V1, mounted) == group
    assert (count_oom_kills(group), limit_bytes(group)) == (3, 1610612736)


def test_version_2_counts_in_events(mounted: Path) -> None:
    group = write(mounted / "user.slice" / "lab", memory__events="oom 1\noom_kill 2\n", memory__max="max\n")
    assert group_of(V2, mounted) == group
    assert (count_oom_kills(group), limit_bytes(group)) == (2, None)


def test_in_a_container_the_own_group_is_the_root(mounted: Path) -> None:
    group = write(mounted / "memory", memory__oom_control="oom_kill 1\n", memory__limit_in_bytes=f"{2**63 - 4096}\n")
    assert group_of(V1, mounted) == group
    assert (count_oom_kills(group), limit_bytes(group)) == (1, None)


def test_without_control_groups_nothing_is_counted(mounted: Path) -> None:
    assert group_of(V2, mounted) is None
    assert (count_oom_kills(None), limit_bytes(None)) == (0, None)


def test_processor_time_is_the_reason_where_the_limit_was_used_up() -> None:
    limited = Exit(signal.SIGKILL, cpu_seconds=9.9, cpu_limit_seconds=10)
    assert "had used 9.9 s of the 10 s of processor time" in explain(limited)
    assert "from outside" in explain(replace(limited, cpu_seconds=3.0))
    assert "from outside" in explain(replace(limited, cpu_limit_seconds=None))
    assert "had used 9.9 s of the 10 s of processor time" in explain(replace(limited, status=signal.SIGXCPU))
    assert "had used the processor time that it was allowed" in explain(Exit(signal.SIGXCPU))


def test_the_sentence_says_how_much_there_was() -> None:
    assert "this server has of 1.5 GiB" in explain_memory_of_server(1610612736)
    assert "this server has." in explain_memory_of_server(None)
