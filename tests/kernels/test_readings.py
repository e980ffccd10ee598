"""What people edit is seen by the next kernel, and configuration that looks at its process is read by each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labwright.kernels import nursery
from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from labwright.kernels.readings import must_be_read_by_each
from tests.kernels.conftest import plain_environment
from tests.kernels.test_fork_server import environment, nursery_in  # noqa: F401 - a fixture

PROFILE = ".ipython/profile_default"
# What is there first, and what becomes of the last of it.
EDITS = {
    "configuration in JSON": ({}, f"{PROFILE}/ipython_kernel_config.json", "{}"),
    "a part of the configuration": (
        {f"{PROFILE}/ipython_config.py": "load_subconfig('part.py')", f"{PROFILE}/part.py": ""},
        f"{PROFILE}/part.py",
        "c.InteractiveShell.cache_size = 500",
    ),
    "a part that was not there": (
        {f"{PROFILE}/ipython_config.py": "load_subconfig('part.py')"},
        f"{PROFILE}/part.py",
        "c.InteractiveShell.cache_size = 500",
    ),
    "settings of matplotlib": ({}, ".config/matplotlib/matplotlibrc", "lines.linewidth: 7"),
    "a new style": ({}, ".config/matplotlib/stylelib/mine.mplstyle", "lines.linewidth: 7"),
    "a style": (
        {".config/matplotlib/stylelib/mine.mplstyle": "lines.linewidth: 5"},
        ".config/matplotlib/stylelib/mine.mplstyle",
        "lines.linewidth: 7",
    ),
    "what Python runs at its start": ({"path/sitecustomize.py": ""}, "path/sitecustomize.py", "import wave"),
    "a preloaded module of one's own": ({"path/my_own.py": ""}, "path/my_own.py", "changed = True"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "path").mkdir(parents=True)
    return tmp_path / "home"


def variables(home: Path) -> dict[str, str]:
    without = {name: value for name, value in plain_environment().items() if not name.startswith(("XDG_", "MPL"))}
    # A cache of bytecode would change the folder, and with it the environment.
    return {**without, "HOME": str(home), "PYTHONPATH": str(home / "path"), "PYTHONDONTWRITEBYTECODE": "1"}


def write(home: Path, name: str, text: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text)


def hear(parents: nursery.Nursery, parent: nursery.Parent) -> None:
    received = parent.channel.receive()
    assert received is not None
    parents.note(parent, received[0])


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_a_parent_has_read_is_seen_by_the_next_kernel(edit, environment, home, tmp_path):  # noqa: F811
    environment.write_text(json.dumps({"mine": ["my_own"], "pictures": ["matplotlib.pyplot", "matplotlib"]}))
    before, edited, text = EDITS[edit]
    for name, content in before.items():
        write(home, name, content)
    imports = frozenset({"my_own"} if "my_own" in edited else {"matplotlib"})
    env = variables(home)
    with nursery_in(tmp_path) as parents:
        parent = parents.warm(env, imports)
        hear(parents, parent)
        assert parent.ready
        assert parents.warm(env, imports) is parent
        write(home, edited, text)
        assert parents.warm(env, imports) is not parent


def test_what_was_edited_while_a_parent_warmed_up_is_seen_by_the_next_kernel(environment, home, tmp_path):  # noqa: F811
    environment.write_text(json.dumps({"mine": ["my_own"]}))
    write(home, "path/my_own.py", f"open({str(home / 'path' / 'my_own.py')!r}, 'a').write('# edited')\n")
    env = variables(home)
    with nursery_in(tmp_path) as parents:
        parent = parents.warm(env, frozenset({"my_own"}))
        hear(parents, parent)
        assert parents.warm(env, frozenset({"my_own"})) is not parent


# -- configuration ------------------------------------------------------------------------------------

OF_EACH = {
    "a variable that a parent has not": "import os; c.InteractiveShell.cache_size = int(os.environ['MY_SIZE'])",
    "a variable if it is there": "from os import getenv\nc.InteractiveShell.cache_size = int(getenv('MY_SIZE', 900))",
    "its folder": "from pathlib import Path\nc.InteractiveShell.cache_size = 500 if Path.cwd().name != '' else 1",
    "a part that asks": "load_subconfig('part.py')",
    "a module that asks": "import asks; c.InteractiveShell.cache_size = asks.size",
}


@pytest.mark.parametrize("which", OF_EACH)
def test_configuration_that_looks_at_its_process_is_read_by_each_kernel(which, make_run, home, tmp_path):
    write(home, f"{PROFILE}/ipython_config.py", OF_EACH[which])
    asks = "import os\nsize = int(os.environ.get('MY_SIZE', 900))\n"
    write(home, f"{PROFILE}/part.py", f"{asks}c.InteractiveShell.cache_size = size")
    write(home, "path/asks.py", asks)
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    env = {**variables(home), "MY_SIZE": "500"}
    run = make_run(ForkServerEngine(server), "print(get_ipython().cache_size)", env=env)
    try:
        outcome = run()
        assert outcome.state == "succeeded", outcome
        assert run.text(0) == "500\n"
        assert "IPython's configuration" in outcome.log
        write(home, f"{PROFILE}/ipython_config.py", "c.InteractiveShell.cache_size = 400")
        assert not run().log
        assert run.text(0) == "400\n"
    finally:
        server.stop()


def test_stored_variables_come_back_as_they_were_stored_last(make_run, home, tmp_path):
    write(home, f"{PROFILE}/ipython_config.py", "c.StoreMagics.autorestore = True")
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    engine = ForkServerEngine(server)

    def printed(source: str) -> str:
        run = make_run(engine, source, env=variables(home))
        assert run().state == "succeeded"
        return run.text(0)

    try:
        for value in ("first", "second"):
            printed(f"kept = {value!r}\n%store kept")
            assert printed("print(kept)") == f"{value}\n"
    finally:
        server.stop()


def test_configuration_as_ipython_writes_it_is_the_same_for_all(tmp_path):
    generated = tmp_path / "ipython_config.py"
    generated.write_text("# os.environ and Path.cwd() in a comment\nc = get_config()  #noqa\nc.A.b = 'environ'\n")
    assert must_be_read_by_each([generated]) is None
    generated.write_text("import os\nc.A.b = os.path.join(os.getcwd(), 'x')\n")
    assert must_be_read_by_each([generated]) == f"{generated} asks for getcwd"
