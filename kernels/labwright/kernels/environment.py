"""Which environment variables a warm parent may see, and how a change of the environment on disk is noticed.

A parent is started with an allow-list of variables that matter while modules are imported; they are part of
its identity, so that a run with other values gets a parent of its own. Everything else, tokens above all,
reaches the kernel only after the fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from labwright.api import names

IMPORT_TIME_NAMES = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "VIRTUAL_ENV",
        "CUDA_VISIBLE_DEVICES",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "MPLBACKEND",
        "MPLCONFIGDIR",
        "MATPLOTLIBRC",
        "GLIBC_TUNABLES",
        "SOURCE_DATE_EPOCH",
        "TERM",
        "CI",
        "DO_NOT_TRACK",
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_CONFIGURE_LOGGING",
        "MLFLOW_LOGGING_CONFIGURE_LOGGING",
        "MLFLOW_LOGGING_LEVEL",
        "MPL_IGNORE_SYSTEM_FONTS",
        "OTEL_PROPAGATORS",
        "OTEL_SDK_DISABLED",
        "_RJEM_MALLOC_CONF",
    ]
)
IMPORT_TIME_PREFIXES = [
    "PYTHON",
    "LC_",
    "XDG_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "NUMEXPR_",
    "VECLIB_",
    "CONDA_",
    "IPYTHON",
    "JUPYTER_",
    "ARROW_",
    "POLARS_",
    "DASK_",
    "MALLOC_",
    "SKLEARN_",
    "SCIPY_",
    "PANDAS_",
    "TF_",
    "GIT_PYTHON_",
    "PROTOCOL_BUFFERS_",
    "NUMBA_",
    "NUMPY_",
    "NPY_",
    "TQDM_",
    "JOBLIB_",
    "LOKY_",
    "PILLOW_",
    "PYDANTIC_",
    "OTEL_PYTHON_",
    "OTEL_SPAN_",
]
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(?:^|_)KEY(?:$|_)|COOKIE", re.IGNORECASE)


def launch_mark() -> dict[str, str]:
    """What the launcher finds every process of a launch by; kernels get it in no other way than by being forks."""
    return {names.LAUNCH: os.environ[names.LAUNCH]} if names.LAUNCH in os.environ else {}


def import_time_variables(env: Mapping[str, str], folder: Path = Path("/")) -> dict[str, str]:
    """The part of `env` that a parent is started with, for a kernel in `folder`."""
    prefixes = tuple(IMPORT_TIME_PREFIXES)
    found = {
        name: value
        for name, value in sorted(env.items())
        if (name in IMPORT_TIME_NAMES or name.startswith(prefixes)) and not SECRET.search(name)
    }
    if path := absolute(found.pop("PYTHONPATH", ""), folder):
        found["PYTHONPATH"] = path
    return found


def absolute(path: str, folder: Path) -> str:
    """PYTHONPATH as a process in `folder` reads it: a parent stands elsewhere.

    The folder itself is left out, so that kernels in others have the same parent: it comes first on a kernel's path.
    """
    entries = [str(folder / entry) for entry in path.split(os.pathsep) if entry and os.path.normpath(entry) != "."]
    return os.pathsep.join(entries)


def identity(preload: str, variables: Mapping[str, str]) -> str:
    """A name for the parents that may serve a kernel with these import-time variables."""
    text = json.dumps([preload, dict(variables)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def watched_paths(variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Folders and files whose modification means that the next kernel must see something new."""
    paths = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    paths.add(Path(sys.prefix) / "pyvenv.cfg")
    paths.add(Path(sys.prefix) / "etc" / "labwright" / "preload.json")
    paths.update(Path(entry) for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry)
    ipython = Path(variables.get("IPYTHONDIR") or Path(variables.get("HOME", "/")) / ".ipython")
    profile = ipython / "profile_default"
    paths.update({profile / "ipython_config.py", profile / "ipython_kernel_config.py"})
    return tuple(sorted(paths))


Fingerprint = tuple[tuple[int, int], ...]


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Changes when one of `paths` is written, made or removed; an install changes its site-packages folder."""
    return tuple(stamp(path) for path in paths)


def stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - for each of them at each start: half of what `Path.stat` takes
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def written_since(path: Path, moment_ns: int) -> bool:
    """By the time that nobody can set: an archive may be unpacked with files of tomorrow."""
    try:
        return path.stat().st_ctime_ns > moment_ns
    except OSError:
        return False
