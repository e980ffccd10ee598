"""Time a warm `labwright up`: to the login page, to all services but MLflow, and the memory at rest.

The peer is stock JupyterHub with the same proxy, up to its login page, measured in turn with ours. Processor seconds
are those of every process of the workbench at that moment: they say more than the clock on a machine with other work.

    make bench NAME=startup ARGS="--rounds 5"

Uses a folder and ports of its own. The first, cold round is not counted. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from first_cell import peer, spread  # noqa: E402
from workbench import eventually, workbench_settings  # noqa: E402

from labwright.hub import supervision  # noqa: E402
from labwright.hub.data.warehouse_files import lake_is_complete  # noqa: E402
from labwright.hub.programs import exists, programs  # noqa: E402
from labwright.hub.settings import Settings  # noqa: E402


def labwright(settings: Settings, *arguments: str) -> None:
    program = settings.python("hub").with_name("labwright")
    subprocess.run(
        [program, *arguments], env={**os.environ, **settings.as_environment()}, check=True, capture_output=True
    )


def one_round(settings: Settings) -> dict[str, float]:
    began, used = time.monotonic(), own_children_seconds()
    labwright(settings, "up")
    login = time.monotonic() - began
    login_cpu = own_children_seconds() - used + sum(seconds(each) for each in processes(settings))
    waited = [program.name for program in programs(settings) if exists(program) and program.name != "mlflow"]
    for name in waited:
        eventually(lambda name=name: supervision.is_healthy(settings, name), seconds=180, what=name)
    return {"login_seconds": login, "login_cpu_seconds": login_cpu, "ready_seconds": time.monotonic() - began}


def peer_round() -> dict[str, float]:
    began = time.monotonic()
    with peer():
        login = time.monotonic() - began
        children = psutil.Process().children(recursive=True)
        return {"login_seconds": login, "login_cpu_seconds": sum(seconds(each) for each in children)}


def own_children_seconds() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def seconds(process: psutil.Process) -> float:
    """Processor time of a process and of the children that it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def processes(settings: Settings) -> list[psutil.Process]:
    """Those of this workbench's services, the supervisor included."""
    pid = supervision.supervisor_pid(settings)
    assert pid is not None
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def idle_memory(settings: Settings) -> dict[str, float]:
    """PSS in MB by program, after everything (MLflow too) has come to rest."""
    for name in [program.name for program in programs(settings) if exists(program)]:
        eventually(lambda name=name: supervision.is_healthy(settings, name), seconds=180, what=name)
    time.sleep(5)
    names = {pid: name for name, pid in supervision.pids(settings).items()}
    found: dict[str, float] = {}
    for process in processes(settings):
        try:
            name = names.get(process.pid, process.name())
            found[name] = round(found.get(name, 0.0) + process.memory_full_info().pss / 1e6, 1)
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory(prefix="labwright-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        settings = workbench_settings(Path(folder) / "home")
        try:
            for index in range(options.rounds + 1):
                for name, measure in (("peer", peer_round), ("ours", lambda: one_round(settings))):
                    measured = measure()
                    print("cold" if index == 0 else f"warm {index}", name, json.dumps(measured), flush=True)
                    if index:
                        rounds[name].append(measured)
                if index == 0:  # a warehouse that is being filled would be made again
                    made = lambda: lake_is_complete(settings.lake_folder)  # noqa: E731
                    eventually(made, seconds=180, what="the warehouse and the lake")
                if index < options.rounds:
                    labwright(settings, "down")
            memory = idle_memory(settings)
        finally:
            labwright(settings, "down")
    report(rounds, memory)


def report(rounds: dict[str, list[dict[str, float]]], memory: dict[str, float]) -> None:
    figures = {
        name: {key: spread([each[key] for each in found]) for key in found[0] if key.endswith("seconds")}
        for name, found in rounds.items()
    }
    ours, theirs = (figures[name]["login_seconds"]["median"] for name in ("ours", "peer"))
    result = {
        "name": "startup",
        "ratio": round(theirs / ours, 2),
        "unit": "s",
        **{name: [round(each["login_seconds"], 3) for each in found] for name, found in rounds.items()},
        "ours_median": ours,
        "peer_median": theirs,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GB",
        "load": os.getloadavg()[0],
        "n": len(rounds["ours"]),
        "figures": figures,
        "idle_pss_mb": round(sum(memory.values()), 1),
        "by_program": memory,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
