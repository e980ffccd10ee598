"""The tree keeps the promises that imports, wheels and type checkers rely on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = [
    path
    for folder in ("hub", "spawner", "kernels", "magics", "extensions")
    for path in sorted((ROOT / folder / "labwright").iterdir())
    if path.is_dir() and path.name != "__pycache__"
]


def test_no_portion_hides_the_others_with_an_init_file_in_the_namespace() -> None:
    assert [str(path) for path in ROOT.glob("*/labwright/__init__.py")] == []


@pytest.mark.parametrize("portion", PORTIONS, ids=lambda path: path.name)
def test_each_portion_ships_its_types(portion: Path) -> None:
    assert (portion / "py.typed").exists()


USER_MODULES = ["labwright.api.client", "labwright.magics", "labwright.extensions", "labwright.kernels"]


@pytest.mark.parametrize("module", USER_MODULES)
def test_a_users_environment_never_imports_the_services(module: str) -> None:
    program = (
        f"import sys, {module}; "
        "print([name for name in sys.modules if name.startswith(('labwright.hub', 'labwright.spawner'))])"
    )
    python = ROOT / ".envs" / "user" / "bin" / "python"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("environment", ["hub", "user", "mlflow"])
def test_no_environment_compiles_a_grammar_at_import(environment: str) -> None:
    found = list((ROOT / ".envs" / environment).glob("lib/python*/site-packages/rfc3987_syntax"))
    assert found == [], "rfc3987-syntax costs every server and kernel about a second; keep it out of uv.lock's markers"


def test_the_version_stands_in_one_place() -> None:
    from importlib.metadata import version

    from labwright.api import __version__

    assert version("labwright") == __version__
