"""Notebook documents on disk, written so that no reader ever sees half a plain file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

# No new file can be made there, or take the place of the old one. Any other error, above all a full disk, must not end
# in writing over what was there.
IRREPLACEABLE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EBUSY,  # mounted over, as a container's single file is
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.ENOENT,  # writing in place fails too, and its error names the output
    }
)


def copy_notebook(node: Any) -> Any:
    """A copy of the containers; the (immutable) strings are shared, however large they are."""
    if isinstance(node, dict):
        return NotebookNode((key, copy_notebook(value)) for key, value in node.items())
    if isinstance(node, list):
        return [copy_notebook(item) for item in node]
    return node


def load_for_papermill(notebook: NotebookNode) -> NotebookNode:
    """A copy with papermill's metadata, as `papermill.iorw.load_notebook_node` makes it.

    A notebook that needs no repair needs no trip through text and validation, which take 4 ms.
    """
    from papermill import __version__
    from papermill.iorw import load_notebook_node

    if not is_orderly(notebook):
        loaded: NotebookNode = load_notebook_node(notebook)
        return loaded
    copied: NotebookNode = copy_notebook(notebook)
    if "papermill" not in copied.metadata:
        empty = {name: NotebookNode() for name in ("default_parameters", "parameters", "environment_variables")}
        copied.metadata["papermill"] = NotebookNode(**empty, version=__version__)
    for cell in copied.cells:
        cell.metadata.setdefault("tags", [])
        cell.metadata.setdefault("papermill", NotebookNode())
    return copied


def is_orderly(notebook: NotebookNode) -> bool:
    """Whether it is of the newest format, its text in one piece and its cells told apart by ids."""
    if (notebook.nbformat, notebook.nbformat_minor) != (v4.nbformat, v4.nbformat_minor):
        return False
    ids = {cell.get("id") for cell in notebook.cells}
    return (
        len(ids) == len(notebook.cells) and None not in ids and all(isinstance(c.source, str) for c in notebook.cells)
    )


def write_durably(text: str, path: Path) -> None:
    """Have `path` hold `text`, synced to disk. A plain file is replaced: after a crash there is the old one or the new.

    As papermill's own write it follows links, keeps mode and owner, and leaves in place what a new file cannot take
    the place of: a device, a pipe, a file with several names, one in a folder that takes no other file.
    """
    data = text.encode()
    path, found = follow(path)
    if found is None or may_be_replaced(found):
        try:
            replace(path, data, found)
            return
        except OSError as error:
            if error.errno not in IRREPLACEABLE:
                raise
    write_in_place(path, data)


def may_be_replaced(found: os.stat_result) -> bool:
    """Whether it is a plain file with one name, and not guarded against writing."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and bool(found.st_mode & stat.S_IWUSR)


def follow(path: Path) -> tuple[Path, os.stat_result | None]:
    """Where `path` leads, and what stands there."""
    try:
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode):
            return path, found
        found = path.stat()
    except FileNotFoundError:
        # A link may lead to a file that is yet to be made.
        return Path(os.path.realpath(path)), None
    # Only a plain file: what /dev/stdout leads to may have no other name.
    return Path(os.path.realpath(path)) if stat.S_ISREG(found.st_mode) else path, found


def replace(path: Path, data: bytes, found: os.stat_result | None) -> None:
    """Put a new file in the place of the one that was `found`, or of none.

    It gets a name only to be renamed: cells that list the folder do not see it, and who is killed leaves none behind.
    """
    # Not of the notebook's name, which may be as long as a name can be; by chance, since others write here too.
    scratch = path.with_name(f".{os.urandom(8).hex()}.tmp")
    handle, named = create(scratch)
    try:
        with os.fdopen(handle, "wb") as file:
            if found is not None:
                take_after(found, handle)
            file.write(data)
            file.flush()
            os.fdatasync(handle)
            if not named:
                # Python follows the link in /proc only if it is given a folder, which an absolute path then ignores.
                os.link(f"/proc/self/fd/{handle}", scratch, src_dir_fd=handle)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def create(scratch: Path) -> tuple[int, bool]:
    """A new file, and whether it is called `scratch` already: not every file system has files without names."""
    try:
        return os.open(scratch.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666), False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), True


def take_after(found: os.stat_result, handle: int) -> None:
    """Give a new file the owner and the mode of the one that it is to replace."""
    made = os.fstat(handle)
    if (made.st_uid, made.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(handle, found.st_uid, found.st_gid)
    if made.st_mode != found.st_mode:
        os.fchmod(handle, stat.S_IMODE(found.st_mode))


def write_in_place(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fdatasync(file.fileno())


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write `notebook` as papermill does, but durably and in one step."""
    write_durably(nbformat.writes(notebook), path)
