"""The panels' TypeScript models are those of labwright.api."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_panels_speak_the_services_contract() -> None:
    script = ROOT / "extensions" / "lab" / "scripts" / "models.py"
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
