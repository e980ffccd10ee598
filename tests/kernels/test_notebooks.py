"""What an engine is handed is what papermill would have loaded; what it writes lies where papermill writes."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbformat.warnings import DuplicateCellId
from papermill.iorw import load_notebook_node

from labwright.kernels.notebooks import is_orderly, load_for_papermill, write_durably


def make(**changes):
    cells = [new_markdown_cell("# T"), new_code_cell("x = 1\nx", metadata={"tags": ["parameters"]}), new_code_cell("x")]
    return from_dict({**new_notebook(cells=cells, metadata={"title": "T"}), **changes})


def without_ids():
    notebook = make(nbformat_minor=4)
    for cell in notebook.cells:
        del cell["id"]
    return notebook


def loaded_before():
    return load_for_papermill(make())


@pytest.mark.parametrize(("notebook", "orderly"), [(make(), True), (loaded_before(), True), (without_ids(), False)])
def test_it_is_loaded_as_papermill_loads_it(notebook, orderly):
    before = copy.deepcopy(notebook)
    assert is_orderly(notebook) is orderly
    ours, theirs = load_for_papermill(notebook), load_notebook_node(copy.deepcopy(notebook))
    for loaded in (ours, theirs):
        if not orderly:  # ids are made up
            for cell in loaded.cells:
                del cell["id"]
    assert ours == theirs
    assert notebook == before


def test_text_in_pieces_and_cells_of_one_id_are_repaired():
    pieces = make()
    pieces.cells[1]["source"] = ["x = 1\n", "x"]
    twins = make()
    twins.cells[2]["id"] = twins.cells[1]["id"]
    assert load_for_papermill(pieces).cells[1].source == "x = 1\nx"
    with pytest.warns(DuplicateCellId):
        ids = [cell.id for cell in load_for_papermill(twins).cells]
    assert len(set(ids)) == 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, so that what gives up its rights need not pass the folders above."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@contextlib.contextmanager
def without_rights():
    """As somebody whom the modes of files bind; root is everybody's nobody for as long as it takes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_plain_file_is_replaced_and_keeps_its_mode(folder):
    out = folder / "out.ipynb"
    out.write_text("old")
    out.chmod(0o640)
    with out.open() as reader:
        write_durably("new", out)
        assert reader.read() == "old"
    assert out.read_text() == "new"
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert names_in(folder) == ["out.ipynb"]


def test_nobody_sees_what_is_being_written(folder, monkeypatch):
    seen = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (seen.append(names_in(folder)), sync(handle)))
    write_durably("old", folder / "out.ipynb")
    write_durably("new", folder / "out.ipynb")
    assert seen == [[], ["out.ipynb"]]


def test_a_file_system_without_nameless_files_will_do(folder, monkeypatch):
    create = os.open

    def refuse(path, flags, mode=0o777, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return create(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    (folder / "out.ipynb").write_text("old")
    with (folder / "out.ipynb").open() as reader:
        write_durably("new", folder / "out.ipynb")
        assert reader.read() == "old"
    assert (folder / "out.ipynb").read_text() == "new"
    assert names_in(folder) == ["out.ipynb"]


def test_a_new_file_has_the_mode_that_every_new_file_gets(folder):
    write_durably("new", folder / "out.ipynb")
    (folder / "any").touch()
    assert (folder / "out.ipynb").stat().st_mode == (folder / "any").stat().st_mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(folder, exists):
    (folder / "runs").mkdir()
    target, link = folder / "runs" / "today.ipynb", folder / "out.ipynb"
    link.symlink_to("runs/today.ipynb")
    if exists:
        target.write_text("old")
    write_durably("new", link)
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_every_name_of_a_file_shows_what_was_written(folder):
    (folder / "out.ipynb").write_text("older and longer")
    os.link(folder / "out.ipynb", folder / "other.ipynb")
    write_durably("new", folder / "out.ipynb")
    assert (folder / "other.ipynb").read_text() == "new"


@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_is_written_to_and_stays_one(folder, linked):
    pipe = out = folder / "pipe"
    os.mkfifo(pipe)
    if linked:
        out = folder / "out.ipynb"
        out.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_durably("new", out)
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_what_leads_to_no_name_is_written_to():
    reader, writer = os.pipe()
    try:
        write_durably("new", Path(f"/proc/self/fd/{writer}"))
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_device_is_written_to_and_stays_one(folder):
    null = folder / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.open("w").close()
    except PermissionError:
        pytest.skip("devices can be made by root alone")
    write_durably("new", null)
    assert null.is_char_device()


def test_a_name_may_be_as_long_as_names_are(folder):
    out = folder / ("n" * 249 + ".ipynb")
    write_durably("old", out)
    write_durably("new", out)
    assert out.read_text() == "new"


def test_a_file_in_a_folder_that_takes_no_other_is_written_in_place(folder):
    out = Path("out.ipynb")
    out.write_text("old and longer")
    out.chmod(0o666)
    folder.chmod(0o555)
    with without_rights():
        write_durably("new", out)
    folder.chmod(0o755)
    assert out.read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that are somebody else's")
def test_a_file_that_is_somebody_elses_stays_theirs(folder):
    out = Path("out.ipynb")
    out.write_text("old and longer")
    os.chown(out, 65533, 65533)
    write_durably("by root", out)
    assert (out.stat().st_uid, out.stat().st_gid) == (65533, 65533)
    out.chmod(0o666)
    folder.chmod(0o777)
    with without_rights():
        write_durably("new", out)
    assert (out.stat().st_uid, out.read_text()) == (65533, "new")
    assert names_in(folder) == ["out.ipynb"]


def test_a_file_that_is_guarded_against_writing_is_not_written(folder):
    folder.chmod(0o777)
    with without_rights():
        out = Path("out.ipynb")
        out.write_text("old")
        out.chmod(0o444)
        with pytest.raises(PermissionError):
            write_durably("new", out)
    assert out.read_text() == "old"


@pytest.mark.parametrize(("name", "error"), [("missing/out.ipynb", FileNotFoundError), ("folder", IsADirectoryError)])
def test_what_cannot_be_written_is_named(folder, name, error):
    (folder / "folder").mkdir()
    with pytest.raises(error) as failed:
        write_durably("new", folder / name)
    assert failed.value.filename == str(folder / name)
    assert names_in(folder) == ["folder"]


def test_a_full_disk_costs_nothing_of_what_was_there(folder):
    out = folder / "out.ipynb"
    out.write_text("old")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_durably("x" * 2000, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, handler)
    assert out.read_text() == "old"
    assert names_in(folder) == ["out.ipynb"]
