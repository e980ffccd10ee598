"""Time a warm `labwright up`: to the login page, to all services but MLflow, and the memory at rest.

    make bench NAME=startup ARGS="--rounds 5"

Uses a folder and ports of its own. The first, cold round is not counted. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from workbench import eventually, workbench_settings  # noqa: E402

from labwright.hub import supervision  # noqa: E402
from labwright.hub.programs import SUPERVISED, exists, programs  # noqa: E402
from labwright.hub.settings import Settings  # noqa: E402


def labwright(settings: Settings, *arguments: str) -> None:
    program = settings.python("hub").with_name("labwright")
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([program, *arguments], env={**environ, **settings.as_environment()}, check=True, capture_output=True)


def one_round(settings: Settings) -> dict[str, float]:
    began = time.monotonic()
    labwright(settings, "up")
    login = time.monotonic() - began
    waited = [program.name for program in programs(settings) if exists(program) and program.name != "mlflow"]
    for name in waited:
        eventually(lambda name=name: supervision.is_healthy(settings, name), seconds=120, what=name)
    return {"login_seconds": login, "ready_seconds": time.monotonic() - began}


def idle_memory(settings: Settings) -> dict[str, float]:
    """PSS in MB by program, after everything (MLflow too) has come to rest."""
    names = {program.name for program in programs(settings) if exists(program)}
    for name in names:
        eventually(lambda name=name: supervision.is_healthy(settings, name), seconds=180, what=name)
    time.sleep(5)
    found: dict[str, float] = {}
    for process in psutil.process_iter():
        try:
            environ, line = process.environ(), " ".join(process.cmdline())
            ours = environ.get(SUPERVISED) == "1" and environ.get("LABWRIGHT_HOME") == str(settings.home)
            if not ours and str(settings.run / "supervisord.conf") not in line:
                continue
            name = environ.get("SUPERVISOR_PROCESS_NAME", "supervisord") if ours else "supervisord"
            found[name] = round(found.get(name, 0.0) + process.memory_full_info().pss / 1e6, 1)
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labwright-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        settings = workbench_settings(Path(folder) / "home")
        rounds = []
        try:
            for index in range(options.rounds + 1):
                measured = one_round(settings)
                print("cold" if index == 0 else f"warm {index}", json.dumps(measured), flush=True)
                if index:
                    rounds.append(measured)
                if index < options.rounds:
                    labwright(settings, "down")
            memory = idle_memory(settings)
        finally:
            labwright(settings, "down")
    result: dict[str, object] = {
        "benchmark": "startup",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GB",
        "load": os.getloadavg()[0],
        "n": len(rounds),
    }
    for name in ("login_seconds", "ready_seconds"):
        values = sorted(item[name] for item in rounds)
        result[name] = {"median": statistics.median(values), "min": values[0], "max": values[-1]}
    result |= {"idle_pss_mb": round(sum(memory.values()), 1), "by_program": memory}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
