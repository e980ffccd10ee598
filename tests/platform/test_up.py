"""What `labwright up` says while it starts, when a part cannot start, and what doctor says meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from workbench import CHECKOUT, labwright_command, password_in, reachable_folder, run_labwright, workbench_settings

from labwright.hub import supervision
from labwright.hub.settings import Settings


def stopped_in_the_end(settings: Settings) -> None:
    run_labwright(settings, "down")
    assert supervision.supervisor_pid(settings) is None


def test_up_tells_what_is_ready_and_doctor_what_still_starts() -> None:
    with reachable_folder() as folder:
        settings = workbench_settings(folder / "home")
        try:
            said = run_labwright(settings, "up").stdout
            checked = run_labwright(settings, "doctor", check=False)
            assert settings.public_url in said.splitlines()[-1]
            assert said.count(password_in(said)) == 1
            assert re.search(r"^ +proxy +ready after \d+\.\d s$", said, re.MULTILINE), said
            assert "mlflow follow" in said
            # MLflow has its turn after all others, and takes seconds itself.
            assert re.search(r"mlflow: (starting, for|does not run yet|answers)", checked.stdout), checked.stdout
            assert re.search(r"limits: (control groups: |no control group for memory)", checked.stdout), checked.stdout
            assert "BAD" not in checked.stdout
            assert checked.returncode == 0
        finally:
            stopped_in_the_end(settings)


def test_a_service_that_cannot_start_is_named_with_its_log() -> None:
    with reachable_folder() as folder:
        broken = folder / "config"
        broken.mkdir()
        shutil.copy(CHECKOUT / "config" / "workbench.yaml", broken)
        (broken / "jupyterhub_config.py").write_text("raise RuntimeError('broken on purpose')\n")
        settings = workbench_settings(folder / "home", LABWRIGHT_CONFIG=str(broken / "workbench.yaml"))
        try:
            done = run_labwright(settings, "up", check=False)
            assert done.returncode == 1
            assert "The service 'hub' ends whenever it is started." in done.stderr
            assert str(Path(settings.logs) / "hub.log") in done.stderr
            assert "Traceback" not in done.stdout
            without = {key: text for key, text in settings.as_environment().items() if key != "LABWRIGHT_CONFIG"}
            looked = subprocess.run(labwright_command("doctor"), env={**os.environ, **without}, capture_output=True)
            assert str(settings.workbench_file) in looked.stdout.decode()
        finally:
            stopped_in_the_end(settings)
