"""How the heap of a warm parent lies in memory: what a fork costs before it has done anything, and when it ends.

A fork copies a page table entry for each page of its parent, and its exit takes each of them back: with scikit-learn
and MLflow loaded that is 65,000 pages, 16 ms of processor time for a fork that ends at once. Two megabytes in one
page are one entry. But Python's allocator takes a megabyte at a time (an arena), wherever there is room: between the
libraries that are loaded meanwhile, where no two arenas meet.

What a fork does costs a page of memory for each page that it writes to, and it writes to whatever it looks at, for each
object's reference count. Since Python 3.12 there are objects whose count stays (PEP 683).
"""

from __future__ import annotations

import ctypes
import gc
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

HUGE_PAGE_BYTES = 2 * 1024 * 1024
# Objects/obmalloc.c: arenas since Python 3.10, and the largest block that is cut from one.
ARENA_BYTES = 1024 * 1024
BLOCK_BYTES = 512
MADV_COLLAPSE = 25  # Linux 6.1
# Include/refcount.h: in which builds an object begins with 32 bits of its count, and keeps those of an immortal one.
HAS_IMMORTALS = (
    sys.version_info >= (3, 12)
    and sys.implementation.name == "cpython"
    and sys.byteorder == "little"
    and sys.maxsize > 2**32
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
libc = ctypes.CDLL(None, use_errno=True)


def reserve_arenas(count: int) -> list[bytes]:
    """Have Python's allocator take `count` arenas in a row, to be filled by what comes.

    The answer holds a block in each; when it is dropped, arenas that are empty still go back to the system.
    """
    # Filled in place: a list that grows would move, and leave gaps between the arenas.
    blocks: list[bytes] = [b""] * (count * ARENA_BYTES // BLOCK_BYTES)
    for index in range(len(blocks)):
        blocks[index] = bytes(BLOCK_BYTES - sys.getsizeof(b""))
    # An arena begins anywhere: four of these to a megabyte hit each.
    return list({id(block) * 4 // ARENA_BYTES: block for block in blocks}.values())


def gather_in_huge_pages() -> None:
    """Have the kernel back this process's heap with 2 MB pages, where it can (MADV_COLLAPSE)."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, inode = line.split(maxsplit=5)[:5]
        low, high = (int(part, 16) for part in addresses.split("-"))
        low = -(-low // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        high = high // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        if rights.startswith("rw-p") and inode == "0" and high > low:
            libc.madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), MADV_COLLAPSE)


def make_immortal() -> None:
    """Have all that is there keep its reference counts for good, where Python has immortal objects.

    None of it is freed any more: a finalizer of what was there before the fork does not run in the fork.
    """
    if not HAS_IMMORTALS:
        return
    # All of this process's memory, as far as addresses go, in words of 32 bits.
    words = memoryview((ctypes.c_uint32 * 2**46).from_address(0)).cast("B").cast("I")
    immortal = words[id(None) >> 2]
    layer = gc.get_objects()
    while layer:
        for thing in layer:
            words[id(thing) >> 2] = immortal
        # What the garbage collector does not know of, such as strings, is known to what it does; but for code.
        layer = [*gc.get_referents(*layer), *parts_of_code(layer)]
        layer = list({id(thing): thing for thing in layer if words[id(thing) >> 2] != immortal}.values())


def parts_of_code(things: list[object]) -> Iterator[object]:
    for code in things:
        if type(code) is CodeType:
            yield from code.co_consts
            yield from code.co_names
            yield from (code.co_name, code.co_qualname, code.co_filename, code.co_linetable, code.co_exceptiontable)
            yield from (code.co_consts, code.co_names)
