"""The disk under everything fills up in the middle of a run, and is freed again: a small disk, really full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from workbench import Browser, RunningWorkbench, eventually, labwright_command, reachable_folder, running_workbench

pytestmark = [pytest.mark.uid, pytest.mark.slow]

# What a start asks for, the warehouse, and a little.
DISK_MB = 700

Labwright = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class SmallDisk:
    """A workbench whose state lies on a disk of its own."""

    workbench: RunningWorkbench
    admin: Browser
    folder: Path

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 20, 4096):
                try:
                    while filler.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture(scope="module")
def small_disk() -> Iterator[SmallDisk]:
    with reachable_folder() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "labwright-test", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        try:
            with running_workbench(folder / "home") as workbench:
                yield SmallDisk(workbench, workbench.log_in(), folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def labwright(small_disk: SmallDisk) -> Labwright:
    return command_line(small_disk)


def command_line(small_disk: SmallDisk) -> Labwright:
    """The command line with a token that was never used: the hub writes down its first use."""
    settings = small_disk.workbench.settings
    environ = {
        **os.environ,
        "LABWRIGHT_CORE_URL": settings.core_url,
        "LABWRIGHT_DATA_URL": settings.data_url,
        "LABWRIGHT_TOKEN": small_disk.admin.new_token(),
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            labwright_command(*arguments), env=environ, capture_output=True, text=True, timeout=180, check=False
        )

    return call


def notebook(path: Path, *cells: str) -> Path:
    made = new_notebook(cells=[new_code_cell(source) for source in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, path)
    return path


def test_a_full_disk_is_said_everywhere_and_nothing_stored_is_lost(
    small_disk: SmallDisk, labwright: Labwright, tmp_path: Path
) -> None:
    before = notebook(tmp_path / "before.ipynb", "print('kept')")
    assert labwright("run", str(before), "--wait").returncode == 0
    go = small_disk.folder.parent / f"{small_disk.folder.name}.go"
    waiting = notebook(
        tmp_path / "waiting.ipynb",
        "print('begun')",
        f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)",
        "print('y' * 2_000_000)",
    )
    assert labwright("run", str(waiting)).returncode == 0
    eventually(lambda: "cell 2 of 3" in labwright("jobs", "list").stdout, what="the second cell")
    doctor = partial(small_disk.workbench.labwright, "doctor", check=False)
    eventually(lambda: "mlflow: answers" in doctor().stdout, what="MLflow")

    unused = command_line(small_disk)
    small_disk.fill()
    try:
        go.touch()
        for arguments in (
            ("run", str(notebook(tmp_path / "more.ipynb", "print('more')"))),
            ("clusters", "start", "dask"),
            ("connections",),
        ):
            refused = (unused if arguments == ("connections",) else labwright)(*arguments)
            assert refused.returncode == 1, arguments
            assert "disk is full" in refused.stderr, (arguments, refused.stderr)
        read = labwright("experiments")  # MLflow reads on while its write-ahead log needs no more room
        assert read.returncode == 0 or "disk is full" in read.stderr, read.stderr
        with httpx.Client(
            base_url=small_disk.workbench.settings.public_url, trust_env=False, verify=False, follow_redirects=True
        ) as stranger:
            stranger.get("/hub/login")
            form = {"username": "admin", "password": small_disk.workbench.passwords["admin"]}
            answer = stranger.post("/hub/login", data=form | {"_xsrf": stranger.cookies["_xsrf"]})
        assert answer.status_code < 500 or "disk is full" in answer.text, answer.text
        said = doctor().stdout
        assert "disk: full" in said
        assert "token of" not in said, said
    finally:
        small_disk.free()
        go.unlink(missing_ok=True)

    def ended() -> str:
        line = next(line for line in labwright("jobs", "list").stdout.splitlines() if "waiting" in line)
        return line if any(word in line for word in ("succeeded", "failed", "lost")) else ""

    ended_as = eventually(ended, what="the end of the run")
    if "succeeded" in ended_as:  # it waited for the disk, and then all of it is there
        assert "y" * 1_000_000 in labwright("jobs", "output", "waiting").stdout
    eventually(lambda: labwright("connections").returncode == 0, what="an answer from data")
    assert labwright("run", str(tmp_path / "more.ipynb"), "--wait").returncode == 0
    assert labwright("experiments").returncode == 0
    assert "before" in labwright("jobs", "list").stdout
    assert doctor().returncode == 0
