"""Python source as a tree: for services of many threads, and for source that anybody may have written."""

from __future__ import annotations

import ast
import threading
from typing import Literal, overload

_one_at_a_time = threading.Lock()


@overload
def parse(source: str) -> ast.Module: ...


@overload
def parse(source: str, mode: Literal["eval"]) -> ast.Expression: ...


def parse(source: str, mode: Literal["exec", "eval"] = "exec") -> ast.Module | ast.Expression:
    """`ast.parse`, with one kind of error: SyntaxError, also for a null byte and for what nests too deeply.

    One thread at a time: before 3.11.5, Python counts the depth of trees for all threads together, and gives one of two
    a SystemError (python/cpython#106905).
    """
    with _one_at_a_time:
        try:
            return ast.parse(source, mode=mode)  # type: ignore[return-value]
        except ValueError as error:
            raise SyntaxError(str(error)) from None
        except (RecursionError, MemoryError):
            raise SyntaxError("it nests too deeply") from None
