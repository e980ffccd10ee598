"""A parent's small objects lie in a row, and what was reserved for nothing goes back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
from labwright.kernels.heap import reserve_arenas

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def mappings_of(objects):
    spans = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [(int(low, 16), int(high, 16)) for low, high in spans]
    return {next(span for span in spans if span[0] <= id(each) < span[1]) for each in objects}

before = resident()
if "reserve" in sys.argv:
    pins = reserve_arenas(32)
    reserved = resident()
objects = []
for _ in range(16):  # what is mapped in between keeps arenas apart that are taken one by one
    objects += [bytes(400) for _ in range(2000)]
    objects.append(bytearray(1 << 20))
print(len(mappings_of(each for each in objects if type(each) is bytes)))
if "reserve" in sys.argv:
    objects.clear()
    pins.clear()
    print(reserved - before > 30 << 20, resident() - before < 8 << 20)
"""


def run(*arguments: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    ).stdout.split()


def test_small_objects_lie_in_a_row_where_arenas_were_reserved():
    (apart,) = run()
    together, _, _ = run("reserve")
    assert int(together) <= 2 < int(apart)


def test_what_was_reserved_and_not_used_goes_back():
    assert run("reserve")[1:] == ["True", "True"]
