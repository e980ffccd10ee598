"""What of a statement may be run, decided on its syntax tree; pure.

The rules, in order: it parses, is one statement, and that only reads; every table that it names is one that the
grants give (names are resolved against common table expressions first); every function is known to reach no further
than its arguments. What is run is generated from the tree that was judged, with every table's schema written out, so
that nothing can mean one thing here and another in the source. What is not understood is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError

from labwright.api.errors import AccessDenied, BadQuery
from labwright.hub.data.calls import called_functions

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast", "system", "temp", "pg_temp"})
# Statement types, and parts that would turn a SELECT into something else.
FORBIDDEN: tuple[type[exp.Expr], ...] = tuple(
    getattr(exp, name)
    for name in [
        "DDL",
        "DML",
        "Command",
        "Into",
        "Lock",
        "Set",
        "SetItem",
        "Use",
        "Pragma",
        "Attach",
        "Detach",
        "Copy",
        "LoadData",
        "Transaction",
        "Commit",
        "Rollback",
        "Describe",
        "Show",
        "Kill",
        "Summarize",
        "Analyze",
        "Grant",
        "Revoke",
        "Drop",
        "Create",
        "Insert",
        "Update",
        "Delete",
        "Merge",
        "Alter",
        "AlterColumn",
        "TruncateTable",
        "Cache",
        "Uncache",
        "Refresh",
        "Execute",
        "Declare",
        "Install",
        "Export",
        "Parameter",
        "SessionParameter",
        "Operator",
        "Directory",
        "ReadCSV",
        "ReadParquet",
        "ToFile",
        "NextValueFor",
        "DynamicIdentifier",
        "Secret",
        "OpenJSON",
        "ObjectId",
        "Semicolon",
        "HistoricalData",
        "Version",
        "MatchRecognize",
        "Block",
        "IfBlock",
        "WhileBlock",
    ]
    if hasattr(exp, name)
)
READS = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
# A name cast to one of these is looked up in the system's tables, whoever may read them.
LOOKUP_TYPES = re.compile(r"^\"?(pg_catalog\"?\.\"?)?reg[a-z]+\"?$", re.IGNORECASE)
TABLE_FUNCTIONS = {
    "postgres": frozenset(
        [
            "generate_series",
            "unnest",
            "string_to_table",
            "regexp_split_to_table",
            "regexp_matches",
            "json_array_elements",
            "json_array_elements_text",
            "json_each",
            "json_each_text",
            "json_object_keys",
            "jsonb_array_elements",
            "jsonb_array_elements_text",
            "jsonb_each",
            "jsonb_each_text",
            "jsonb_object_keys",
            "json_to_recordset",
            "jsonb_to_recordset",
        ]
    ),
    "duckdb": frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"}),
}


MAX_LISTED = 10_000  # PostgreSQL binds at most 65 535 values


@dataclass(frozen=True)
class Verdict:
    sql: str  # in the source's dialect, what may be run
    parameters: tuple[str, ...]  # the names to bind to $1, $2 …; 'x[0]', 'x[1]' … for a list in an IN
    tables: tuple[tuple[str, str], ...]  # schema, name


@dataclass(frozen=True)
class Rules:
    connection: str
    dialect: str
    schema: str  # of unqualified names
    functions: frozenset[str]
    may_read: Callable[[str, str], bool]


def judge(sql: str, rules: Rules, lists: Mapping[str, int] = MappingProxyType({})) -> Verdict:
    """What may be run instead of `sql`, or `BadQuery`, or `AccessDenied` that names the table.

    `lists`: which parameters have a list for a value, and how long each is.
    """
    try:
        return _judge(sql, rules, lists)
    except RecursionError:
        raise BadQuery("The SQL is nested too deeply.", remedy="Split it, with WITH for example.") from None


def _judge(sql: str, rules: Rules, lists: Mapping[str, int]) -> Verdict:
    tree = parse(sql, rules.dialect)
    _refuse_what_does_more_than_read(tree)
    _check_functions(tree, rules)
    tables = _qualify_tables(tree, rules)
    parameters = _number_parameters(tree, lists)
    return Verdict(
        tree.sql(dialect=rules.dialect, comments=False, normalize_functions=False), parameters, tuple(sorted(tables))
    )


def parse(sql: str, dialect: str) -> exp.Expr:
    try:
        statements = [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        place = {key: first[key] for key in ("line", "col") if first.get(key)}
        where = f" at line {place['line']}, column {place['col']}" if len(place) == 2 else ""
        near = str(first.get("highlight") or "")[:40]
        text = f"The SQL cannot be read{where}" + (f", near '{near}'." if near else ".")
        raise BadQuery(text, **({"line": place["line"], "column": place["col"]} if where else {})) from None
    except (TokenError, SqlglotError, ValueError):
        raise BadQuery("The SQL cannot be read: a quote, comment or bracket may be open.") from None
    statements = [tree for tree in statements if not isinstance(tree, exp.Semicolon)]
    if not statements:
        raise BadQuery("There is no SQL.", remedy="Write a SELECT.")
    if len(statements) > 1:
        raise BadQuery(
            f"There are {len(statements)} statements; one is run at a time.", remedy="Put each into a cell of its own."
        )
    return statements[0]


def _refuse_what_does_more_than_read(tree: exp.Expr) -> None:
    root = tree
    while isinstance(root, exp.Subquery):
        root = root.this
    if not isinstance(root, READS):
        raise BadQuery(
            f"Only statements that read can be run here, not {_word(root)}.", remedy="Write a SELECT, WITH or VALUES."
        )
    for node in tree.walk():
        if isinstance(node, FORBIDDEN):
            raise BadQuery(
                f"A statement may not have {_word(node)} in it: only reading is possible here.",
                remedy="Write values as :name to bind variables." if isinstance(node, exp.Parameter) else "",
            )
        if isinstance(node, exp.DataType) and LOOKUP_TYPES.match(node.sql(dialect="postgres")):
            raise BadQuery(f"The type {node.sql(dialect='postgres')} looks into the system's tables.")


def _word(node: exp.Expr) -> str:
    if isinstance(node, exp.Command):
        return str(node.this).upper()
    if isinstance(node, exp.Parameter):
        return "$1 and the like"
    words = {"Into": "SELECT INTO", "Lock": "FOR UPDATE"}
    return words.get(type(node).__name__, type(node).__name__.upper())


def _check_functions(tree: exp.Expr, rules: Rules) -> None:
    for node in tree.find_all(exp.Dot, exp.Table):
        if isinstance(node, exp.Table):
            _check_table_function(node, rules)
        elif isinstance(node.expression, exp.Func) and node.this.name.lower() != "pg_catalog":
            raise BadQuery(f"The function {node.sql(dialect=rules.dialect)[:60]} is not known here.")
    known = rules.functions | TABLE_FUNCTIONS.get(rules.dialect, frozenset())
    for name in sorted(called_functions(tree, rules.dialect) - known):
        raise BadQuery(
            f"The function {name} may not be used here: it is unknown, or it reaches beyond its arguments.",
            remedy="Ask your admin when you need it.",
            function=name,
        )


def _check_table_function(table: exp.Table, rules: Rules) -> None:
    inner = table.this
    if isinstance(inner, exp.Identifier):
        return
    allowed = TABLE_FUNCTIONS.get(rules.dialect, frozenset())
    name = inner.name.lower() if isinstance(inner, exp.Anonymous) else inner.key if inner is not None else ""
    if isinstance(inner, (exp.GenerateSeries, exp.Unnest, exp.ExplodingGenerateSeries)):
        return
    if table.args.get("db") is not None or name not in allowed:
        raise BadQuery(
            f"The function {name or 'in FROM'} may not be read from.", remedy="Read tables of the connection."
        )


def _qualify_tables(tree: exp.Expr, rules: Rules) -> set[tuple[str, str]]:
    found = set()
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier):
            continue
        if table.args.get("db") is None and table.args.get("catalog") is None and _is_cte(table, rules.dialect):
            continue
        schema, name = _resolve(table, rules)
        found.add((schema, name))
        if table.args.get("db") is None:
            if table.args.get("alias") is None:
                # the name stays usable as a prefix: flights.carrier
                table.set("alias", exp.TableAlias(this=table.this.copy()))
            table.set("db", exp.to_identifier(schema, quoted=True))
    return found


def _resolve(table: exp.Table, rules: Rules) -> tuple[str, str]:
    name = folded(table.this, rules.dialect)
    database = table.args.get("db")
    schema = folded(database, rules.dialect) if database is not None else rules.schema
    if table.args.get("catalog") is not None:
        raise BadQuery(
            f"'{table.sql(dialect=rules.dialect)}' names a database as well.",
            remedy="Write schema.table, or just table.",
        )
    if schema.startswith("pg_") or schema in SYSTEM_SCHEMAS or name.startswith(("pg_", "duckdb_", "sqlite_")):
        raise AccessDenied(
            f"The system's table '{name}' may not be read.",
            remedy=f"%connect {rules.connection} lists the tables and their columns.",
            table=f"{schema}.{name}",
        )
    if not rules.may_read(schema, name):
        raise AccessDenied(
            f"You may not read '{schema}.{name}' in '{rules.connection}'.",
            remedy="Ask your admin to grant it to one of your groups.",
            connection=rules.connection,
            table=f"{schema}.{name}",
        )
    return schema, name


def folded(identifier: exp.Expr, dialect: str) -> str:
    """The name as the source stores it: PostgreSQL folds what is not quoted, DuckDB compares without case."""
    name = str(identifier.name)
    quoted = bool(identifier.args.get("quoted"))
    return name if quoted and dialect == "postgres" else name.lower()


def _is_cte(table: exp.Table, dialect: str) -> bool:
    """Whether the name is a common table expression that is visible where it stands.

    Where this says no although the source would say yes, the written-out schema makes the source agree.
    """
    name = folded(table.this, dialect)
    node: exp.Expr | None = table
    inside: exp.CTE | None = None
    while node is not None:
        if isinstance(node, exp.CTE):
            inside = node
        with_ = node.args.get("with_")
        if with_ is not None:
            for cte in with_.expressions:
                before_itself = inside is not None and inside.parent is with_
                if before_itself and cte is inside and not with_.args.get("recursive"):
                    break
                if folded(cte.args["alias"].this, dialect) == name:
                    return True
                if before_itself and cte is inside:
                    break
        node = node.parent
    return False


def _number_parameters(tree: exp.Expr, lists: Mapping[str, int]) -> tuple[str, ...]:
    """Put $1, $2 … where :name stood; the same name is bound once, and each value of a list in an IN by itself."""
    names: list[str] = []

    def slot(name: str) -> exp.Parameter:
        if name not in names:
            names.append(name)
        return exp.Parameter(this=exp.Literal.number(names.index(name) + 1))

    for node in list(tree.find_all(exp.Placeholder)):
        name = str(node.this or "")
        if not name or name == "?" or not name.isidentifier():
            raise BadQuery("A parameter needs a name.", remedy="Write :name and give its value.")
        around = node.parent
        if name in lists and isinstance(around, exp.In) and node.arg_key in ("expressions", "field"):
            inside = [slot(f"{name}[{at}]") for at in range(_length_in(name, lists))]
            listed = around.expressions
            at = next((at for at, one in enumerate(listed) if one is node), 0)
            around.set("expressions", [*listed[:at], *inside, *listed[at + 1 :]])
            around.set("field", None)
        else:
            node.replace(slot(name))
    return tuple(names)


def _length_in(name: str, lists: Mapping[str, int]) -> int:
    if not lists[name]:
        raise BadQuery(f"The list :{name} is empty, and IN needs a value.", remedy="Query only when it has one.")
    if lists[name] > MAX_LISTED:
        raise BadQuery(
            f"The list :{name} has {lists[name]} values; IN takes {MAX_LISTED}.", remedy=f"Write = ANY(:{name})."
        )
    return lists[name]


def position_in(original: str, emitted: str, position: int | None) -> tuple[int, int] | None:
    """Line and column (from 1) in what the user wrote, for a position in what was run: by the word that is there."""
    if position is None:
        return None
    found = re.match(r"\"?[\w.]+\"?", emitted[position - 1 :])
    if found is None:
        return None
    word = found.group().strip('"').split(".")[-1]
    nth = len(re.findall(rf"\b{re.escape(word)}\b", emitted[: position - 1], re.IGNORECASE))
    places = [match.start() for match in re.finditer(rf"\b{re.escape(word)}\b", original, re.IGNORECASE)]
    if not places:
        return None
    start = places[min(nth, len(places) - 1)]
    return original.count("\n", 0, start) + 1, start - (original.rfind("\n", 0, start) + 1) + 1
