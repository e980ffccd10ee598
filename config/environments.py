"""Create the project's Python environments from uv.lock, with nothing but Python at hand.

    python3 config/environments.py hub user mlflow     # what `make up` needs
    python3 config/environments.py dev                 # what `make test` needs: everything in .venv

Each environment is rebuilt only when uv.lock, pyproject.toml, a file that is copied into it or the interpreter changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = {
    "hub": (".envs/hub", ["--extra", "hub"]),
    "user": (".envs/user", ["--extra", "user"]),
    "mlflow": (".envs/mlflow", ["--extra", "mlflow"]),
    "dev": (".venv", ["--all-extras", "--group", "dev"]),
}
SOURCES = ("hub/labwright", "spawner/labwright", "kernels/labwright", "magics/labwright", "extensions/labwright")
# What the wheel copies beside the packages (pyproject.toml, shared-data).
COPIED = (
    "config/lab/*.json",
    "examples/*.ipynb",
    "extensions/labwright/extensions/config/*.json",
    "magics/ipython_kernel_config.py",
)
SUPPORTED = ((3, 11), (3, 15))
VERSIONS = ("python3.11", "python3.12", "python3.13", "python3.14")


def reachable_by_everybody(path: Path) -> bool:
    """Whether any operating-system user may execute `path`, through every folder above it."""
    real = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents) if folder.exists())


def choose_interpreter() -> Path:
    """The Python to build with: one that other users can run when root sets up for several people."""
    candidates = [Path(sys.executable)]
    candidates += [
        Path(found)
        for name in (*VERSIONS, "python3")
        for folder in ("/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(":"))
        if (found := shutil.which(name, path=folder))
    ]
    usable = [path for path in candidates if supported(path)]
    if not usable:
        sys.exit("labwright needs Python 3.11 to 3.14, and found none of them. Install one and run this again.")
    if os.geteuid() == 0:
        shared = [path for path in usable if reachable_by_everybody(path)]
        if shared:
            return shared[0]
        print(
            f"warning: {usable[0]} cannot be run by other users, so each person's server would fail to start; "
            "install a system-wide Python 3.11 to 3.14.",
            file=sys.stderr,
        )
    return usable[0]


def supported(interpreter: Path) -> bool:
    probe = [str(interpreter), "-c", "import sys; print(sys.version_info[0], sys.version_info[1])"]
    answer = subprocess.run(probe, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return False
    major, minor = answer.stdout.split()
    return SUPPORTED[0] <= (int(major), int(minor)) < SUPPORTED[1]


def find_uv(interpreter: Path) -> str:
    """A uv to run: the one on PATH, or one put under .tools/ with pip."""
    if found := shutil.which("uv"):
        return found
    tools = ROOT / ".tools"
    uv = tools / "bin" / "uv"
    if uv.exists():
        return str(uv)
    made = subprocess.run([sys.executable, "-m", "venv", str(tools)], check=False, capture_output=True, text=True)
    pip = [str(tools / "bin" / "python"), "-m", "pip"]
    if made.returncode != 0:  # Debian without python3-venv
        shutil.rmtree(tools, ignore_errors=True)
        pip = [sys.executable, "-m", "pip"]
        subprocess.run([*pip, "install", "-q", "--target", str(tools), "uv>=0.9"], check=True)
        return str(uv)
    subprocess.run([*pip, "install", "-q", "uv>=0.9"], check=True)
    return str(uv)


def fingerprint(interpreter: Path) -> str:
    digest = hashlib.sha256(str(interpreter).encode())
    for pattern in ("uv.lock", "pyproject.toml", *COPIED):
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build(name: str, uv: str, interpreter: Path) -> None:
    folder, extras = ENVIRONMENTS[name]
    stamp = ROOT / folder / ".labwright-stamp"
    wanted = fingerprint(interpreter)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {folder} …", flush=True)
    settings = {
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(ROOT / folder),
        "UV_SYSTEM_CERTS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        # People may not write into the environment, so the byte code has to be there before they come.
        "UV_COMPILE_BYTECODE": "0" if name == "dev" else "1",
    }
    settings.pop("VIRTUAL_ENV", None)
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        [uv, "sync", "-q", "--frozen", "--python", str(interpreter), *extras],
        cwd=ROOT,
        env=settings,
        check=True,
    )
    stamp.write_text(wanted)


def compile_sources(name: str) -> None:
    """Our own code is run from the checkout, where the accounts of services and people cannot write byte code."""
    folders = [str(ROOT / folder) for folder in SOURCES]
    subprocess.run(
        [str(ROOT / ENVIRONMENTS[name][0] / "bin" / "python"), "-m", "compileall", "-q", *folders], check=False
    )


def main() -> None:
    names = sys.argv[1:] or ["hub", "user", "mlflow"]
    if unknown := set(names) - set(ENVIRONMENTS):
        sys.exit(f"no such environment: {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    os.umask(0o022)
    interpreter = choose_interpreter()
    uv = find_uv(interpreter)
    for name in names:
        build(name, uv, interpreter)
    if "hub" in names:
        compile_sources("hub")


if __name__ == "__main__":
    main()
