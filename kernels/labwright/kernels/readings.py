"""What a warm parent has read that people edit: configuration, matplotlib's styles, modules of their own.

Its forks have it as it was then. So the server watches these files, and configuration that would come out otherwise
in each kernel (of its environment, its folder, the time) makes a parent unfit: such kernels are ordinary processes.
"""

from __future__ import annotations

import ast
import itertools
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from IPython.core.application import ProfileAwareConfigLoader

# A look at each, of 2 µs, belongs to the start of every kernel.
MOST_FILES = 500
# Names by which code asks for what is a kernel's own.
OF_ONE_PROCESS = frozenset(
    "environ environb getenv expandvars getcwd getcwdb cwd abspath realpath absolute resolve argv getpid getppid "
    "subprocess popen system now today time strftime".split()
)


class Unfit(Exception):
    """Why no fork of this process can be what a fresh one would be."""


class NotingLoader(ProfileAwareConfigLoader):
    """Loads configuration, and notes what it was asked for, be it there or not. Each `load_subconfig` makes one."""

    asked: ClassVar[list[Path]] = []

    def __init__(self, filename: str, path: Any = None, **options: Any) -> None:
        super().__init__(filename, path, **options)
        folders = [path] if path is None or isinstance(path, str) else path
        self.asked.extend(Path(folder or "/", filename) for folder in folders)


def must_be_read_by_each(files: Iterable[str | Path]) -> str | None:
    """Which of these sources of configuration comes out otherwise in each kernel, and by what; None if none does."""
    for file in map(Path, files):
        if file.suffix == ".py" and file.is_file():
            named = names_in(file.read_bytes()) & OF_ONE_PROCESS
            if named:
                return f"{file} asks for {min(named)}"
    return None


def names_in(source: bytes) -> set[str]:
    """Every name that the code uses; what stands in comments, as in generated configuration, is none."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.alias(name=name):
                found.update(name.split("."))
    return found


def files_read() -> list[str]:
    """What may change without any folder of installed packages changing; the most important first."""
    configuration = ((path, path.with_suffix(".json")) for path in NotingLoader.asked)
    files = map(str, itertools.chain(*configuration, of_matplotlib(), own_modules(sys.modules)))
    return list(itertools.islice(dict.fromkeys(files), MOST_FILES))


def of_matplotlib() -> Iterator[Path]:
    matplotlib: Any = sys.modules.get("matplotlib")
    if matplotlib is not None:
        folder = Path(matplotlib.get_configdir())
        styles = folder / "stylelib"
        yield from (Path(matplotlib.matplotlib_fname()), folder / "matplotlibrc", styles, *styles.glob("*.mplstyle"))


def own_modules(names: Iterable[str]) -> list[str]:
    """Files of those of these modules that are not installed, but lie in folders where people edit them."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = (*map(sysconfig.get_path, kinds), *site.getsitepackages(), site.getusersitepackages())
    files = (getattr(sys.modules.get(name), "__file__", None) for name in list(names))
    return [file for file in files if isinstance(file, str) and not file.startswith(installed)]
