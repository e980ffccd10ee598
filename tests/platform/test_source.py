"""Python source as a tree, whoever wrote it and however many threads ask."""

from __future__ import annotations

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from labwright.api.source import parse


@pytest.mark.parametrize("source", ["x = " + "-" * 100_000 + "1", "x = " + "a." * 50_000 + "b", "x = '\0'", "x ="])
def test_what_is_no_tree_is_a_syntax_error(source: str) -> None:
    with pytest.raises(SyntaxError):
        parse(source)


def test_many_threads_get_their_trees() -> None:
    def let_others_run(_phase: str, _about: dict[str, int]) -> None:
        time.sleep(0)

    source = "def f(a, b):\n" + "    if a:\n        b = [a + (b * (a - (b + 1)))]\n" * 40
    thresholds = gc.get_threshold()
    gc.callbacks.append(let_others_run)  # in the middle of a tree, as a collection of somebody else's garbage would
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(parse, [source] * 100))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_run)
    assert {type(tree) for tree in trees} == {ast.Module}
