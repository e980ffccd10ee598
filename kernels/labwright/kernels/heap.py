"""How the heap of a warm parent lies in memory: what a fork costs before it has done anything, and when it ends.

A fork copies a page table entry for each page of its parent, and its exit takes each of them back: with scikit-learn
and MLflow loaded that is 65,000 pages, 16 ms of processor time for a fork that ends at once. Two megabytes in one
page are one entry. But Python's allocator takes a megabyte at a time (an arena), wherever there is room: between the
libraries that are loaded meanwhile, where no two arenas meet.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

HUGE_PAGE_BYTES = 2 * 1024 * 1024
# Objects/obmalloc.c: arenas since Python 3.10, and the largest block that is cut from one.
ARENA_BYTES = 1024 * 1024
BLOCK_BYTES = 512
MADV_COLLAPSE = 25  # Linux 6.1
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
