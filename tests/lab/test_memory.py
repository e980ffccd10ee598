"""Whether the machine killed a kernel for want of memory, read from both versions of control groups."""

from __future__ import annotations

from pathlib import Path

from labwright.extensions.memory import count_kills, describe_kill, limit_bytes, own_group

V1 = "4:memory:/kubepods/pod1/abc\n2:cpu:/kubepods/pod1/abc\n0::/\n"
V2 = "0::/user.slice/lab\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_version_1_counts_in_oom_control(tmp_path: Path) -> None:
    group = write(
        tmp_path / "memory" / "kubepods" / "pod1" / "abc",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        memory__limit_in_bytes="1610612736\n",
    )
    assert own_group(V1, tmp_path) == group
    assert (count_kills(group), limit_bytes(group)) == (3, 1610612736)


def test_version_2_counts_in_events(tmp_path: Path) -> None:
    group = write(tmp_path / "user.slice" / "lab", memory__events="oom 1\noom_kill 2\n", memory__max="max\n")
    assert own_group(V2, tmp_path) == group
    assert (count_kills(group), limit_bytes(group)) == (2, None)


def test_in_a_container_the_own_group_is_the_root(tmp_path: Path) -> None:
    group = write(tmp_path / "memory", memory__oom_control="oom_kill 1\n", memory__limit_in_bytes=f"{2**63 - 4096}\n")
    assert own_group(V1, tmp_path) == group
    assert (count_kills(group), limit_bytes(group)) == (1, None)


def test_without_control_groups_nothing_is_counted(tmp_path: Path) -> None:
    assert own_group(V2, tmp_path) is None
    assert (count_kills(None), limit_bytes(None)) == (0, None)


def test_the_sentence_says_how_much_there_was() -> None:
    assert "this server has of 1.5 GiB" in describe_kill(1610612736)
    assert "this server has." in describe_kill(None)
