"""Which functions a statement calls, read from its text; pure.

The syntax tree knows some thousand functions by class and writes each in its own way, so that the tree alone does not
tell what the source will be asked to call. The text that goes to the source does: a name before a parenthesis is a
call, unless the grammar itself puts it there. What is in doubt counts as a call.
"""

from __future__ import annotations

import itertools

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import Token, TokenType

# Words of the grammar that a parenthesis may follow, and calls with a syntax of their own that reach no further than
# their arguments.
GRAMMAR = frozenset(
    """
    select distinct all any some exists in not and or as from join lateral on using where having by over filter within
    group sets rollup cube when then else case union intersect except values materialized between like ilike is escape
    limit offset fetch qualify window interval pivot unpivot for array row similar to exclude replace columns
    cast try_cast coalesce nullif greatest least extract trim substring position overlay
    """.split()
)


def called_functions(tree: exp.Expr, dialect: str) -> set[str]:
    """The names, in lower case and without their schema, of all functions that are called when `tree` is run."""
    tree = tree.copy()
    for alias in tree.find_all(exp.TableAlias):
        alias.set("columns", None)  # AS t(a, b) looks like a call
    tokens = Dialect.get_or_raise(dialect).tokenize(tree.sql(dialect=dialect, comments=False))
    return {
        token.text.lower()
        for token, following in itertools.pairwise(tokens)
        if following.token_type is TokenType.L_PAREN and _is_name(token)
    }


def _is_name(token: Token) -> bool:
    if token.token_type is TokenType.IDENTIFIER:  # a quoted name is never grammar
        return True
    words = token.text.lower().split()
    if not words or not (words[0][0].isalpha() or words[0][0] == "_"):
        return False
    if token.token_type in Parser.TYPE_TOKENS:  # numeric(10, 2), and date('…') casts; regclass('…') looks something up
        return words[0].startswith("reg")
    return words[-1] not in GRAMMAR
