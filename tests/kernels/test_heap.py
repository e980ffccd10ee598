"""A parent's small objects lie in a row, what was not needed goes back, and looking at objects writes nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labwright.kernels.heap import HAS_IMMORTALS

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
    pins = reserve_arenas(64)
    reserved = resident()
objects = []
for _ in range(64):  # what is mapped in between keeps arenas apart that are taken one by one
    objects += [bytes(400) for _ in range(2000)]
    objects.append(bytearray(1 << 20))
print(len(mappings_of(each for each in objects if type(each) is bytes)))
if "reserve" in sys.argv:
    objects.clear()
    pins.clear()
    print(reserved - before > 60 << 20, resident() - before < 8 << 20)
"""


def run(*arguments: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    ).stdout.split()


def test_small_objects_lie_in_a_row_where_arenas_were_reserved():
    (apart,) = run()
    together, _, _ = run("reserve")
    assert 2 * int(together) < int(apart)


def test_what_was_reserved_and_not_used_goes_back():
    assert run("reserve")[1:] == ["True", "True"]


COUNTS = """
import json, sys
from labwright.kernels.heap import make_immortal

def greet(name, greeting=("a tuple of", 12345.5)):
    return "text of its own", name

class Thing:
    pass

thing = Thing()
old = [greet, greet.__code__, greet.__code__.co_consts, greet("x")[0], greet.__defaults__, greet.__defaults__[0][1],
       Thing, thing, vars(thing), json, json.JSONDecodeError, json.loads.__code__.co_names]
make_immortal()
before = [sys.getrefcount(each) for each in old]
more = old * 3
print(before == [sys.getrefcount(each) for each in old])
del more
print(before == [sys.getrefcount(each) for each in old])

import gc, weakref
new = Thing()
alone = sys.getrefcount(new)
pair = [new, new]
counted = sys.getrefcount(new) - alone
seen = weakref.ref(new)
del new, pair
ring = [Thing()]
ring.append(ring)
caught = weakref.ref(ring[0])
del ring
gc.collect()
print(counted == 2, seen() is None, caught() is None)
"""


@pytest.mark.skipif(not HAS_IMMORTALS, reason="Python has immortal objects since 3.12")
def test_what_a_parent_has_made_keeps_its_counts_and_what_comes_is_counted_and_freed():
    answer = subprocess.run([sys.executable, "-c", COUNTS], capture_output=True, text=True, check=False)
    assert (answer.stdout.split(), answer.stderr) == (["True"] * 5, "")
