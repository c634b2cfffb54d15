"""One-edit mutants of a query: near misses, from which databases that are to judge its answers must tell it apart.

An edit whose mutant would provably mean the same (DISTINCT in an IN list or beside UNION, say) is not made.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

from sqlglot import exp

from sqlora.evaluation.conditions import operands
from sqlora.sql.parsing import numeric_value, own_tables
from sqlora.sql.schema import Schema, Table

Edit = Callable[[], object]  # changes the query that it was made for
MOST_OF_A_KIND = 3  # mutants of a query, where not all are asked for

SLIPS: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LTE),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GTE),
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
}
OTHER_AGGREGATE: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.Max: exp.Min,
    exp.Min: exp.Max,
    exp.Avg: exp.Sum,
    exp.Sum: exp.Avg,
    exp.Count: exp.Max,
}


def mutants(query: exp.Query, schema: Schema, most: int | None = MOST_OF_A_KIND) -> Iterator[tuple[str, exp.Query]]:
    """(kind, mutant) for each edit of KINDS that fits the query, at most so many of a kind."""
    for kind, edits in KINDS.items():
        for number in range(len(edits(query, schema)[:most])):
            edited = query.copy()
            edits(edited, schema)[number]()
            yield kind, edited


def literal_mutants(query: exp.Query) -> Iterator[tuple[str, exp.Query]]:
    """(value, mutant in which it is another) for each constant of the query."""
    for number, literal in enumerate(_literals_that_count(query)):
        edited = query.copy()
        node = _literals_that_count(edited)[number]
        _replace(node, _other_literal(node))
        yield literal.name, edited


def _comparisons(query: exp.Query, schema: Schema) -> list[Edit]:
    return [
        functools.partial(_become, node, slip)
        for node in query.find_all(*SLIPS)
        if not node.find_ancestor(exp.Join)
        for slip in SLIPS[type(node)]
    ]


def _connectors(query: exp.Query, schema: Schema) -> list[Edit]:
    return [
        functools.partial(_become, node, exp.Or if isinstance(node, exp.And) else exp.And)
        for node in query.find_all(exp.And, exp.Or)
    ]


def _aggregates(query: exp.Query, schema: Schema) -> list[Edit]:
    return [
        functools.partial(_become, node, OTHER_AGGREGATE[type(node)])
        for node in query.find_all(*OTHER_AGGREGATE)
        if isinstance(node.this, exp.Column)
    ]


def _orders(query: exp.Query, schema: Schema) -> list[Edit]:
    def flip(node: exp.Ordered) -> None:
        node.set("desc", not node.args.get("desc"))
        node.set("nulls_first", not node.args["desc"])  # what sqlglot wrote down for the old direction

    return [
        functools.partial(flip, node)
        for node in query.find_all(exp.Ordered)
        if node.parent is not None and (select := node.parent.parent) is not None
        if select is query or select.args.get("limit")
    ]


def _distincts(query: exp.Query, schema: Schema) -> list[Edit]:
    def change(select: exp.Select) -> None:
        select.set("distinct", None if select.args.get("distinct") else exp.Distinct())

    def change_count(count: exp.Count) -> None:
        inner = count.this
        count.set(
            "this", inner.expressions[0] if isinstance(inner, exp.Distinct) else exp.Distinct(expressions=[inner])
        )

    counts = [
        functools.partial(change_count, node)
        for node in query.find_all(exp.Count)
        if isinstance(node.this, exp.Column | exp.Distinct) and not _is_unique(node.this, node, schema)
    ]
    selects = [
        functools.partial(change, node) for node in query.find_all(exp.Select) if _counts_duplicates(node, schema)
    ]
    return [*counts, *selects]


def _columns(query: exp.Query, schema: Schema) -> list[Edit]:
    columns = query.find_all(exp.Column)
    return _other_columns((c for c in columns if not c.find_ancestor(exp.Join) and not _is_only_counted(c)), schema)


def _join_keys(query: exp.Query, schema: Schema) -> list[Edit]:
    return _other_columns((node for join in query.find_all(exp.Join) for node in join.find_all(exp.Column)), schema)


def _group_keys(query: exp.Query, schema: Schema) -> list[Edit]:
    """Grouped by a column that is shown: its name for a thing's number, say."""
    return [
        functools.partial(key.replace, shown.copy())
        for group in query.find_all(exp.Group)
        for key in group.expressions
        for shown in (selected.unalias() for selected in getattr(group.parent, "selects", ()))
        if isinstance(key, exp.Column) and isinstance(shown, exp.Column) and shown.name.lower() != key.name.lower()
    ]


def _literals(query: exp.Query, schema: Schema) -> list[Edit]:
    return [functools.partial(_replace, node, _other_literal(node)) for node in _literals_that_count(query)]


def _literals_that_count(query: exp.Query) -> list[exp.Literal]:
    return [
        node
        for node in query.find_all(exp.Literal)
        if not (_is_limit_of_a_value(node) or _is_only_counted(node) or isinstance(node.parent, exp.TimeToStr))
    ]


def _dropped_conditions(query: exp.Query, schema: Schema) -> list[Edit]:
    edits: list[Edit] = []
    for clause in query.find_all(exp.Where, exp.Having):
        connected = list(clause.find_all(exp.And))
        if not isinstance(clause.this, exp.And):
            edits.append(clause.pop)
        edits += [
            functools.partial(_replace, node, side) for node in connected for side in (node.this, node.expression)
        ]
    return edits


KINDS: dict[str, Callable[[exp.Query, Schema], list[Edit]]] = {
    "literal": _literals,
    "comparison": _comparisons,
    "dropped condition": _dropped_conditions,
    "column": _columns,
    "aggregate": _aggregates,
    "join key": _join_keys,
    "group key": _group_keys,
    "DISTINCT": _distincts,
    "AND/OR": _connectors,
    "DESC/ASC": _orders,
}


def _become(node: exp.Expr, kind: type[exp.Expr]) -> None:
    _replace(node, kind(**{name: part.copy() for name, part in node.args.items() if isinstance(part, exp.Expr)}))


def _replace(node: exp.Expr, other: exp.Expr) -> None:
    # In parentheses where it binds less than what it stands in.
    inside = isinstance(other, exp.And | exp.Or) and isinstance(node.parent, exp.And | exp.Or | exp.Not)
    node.replace(exp.Paren(this=other.copy()) if inside else other.copy())


def _other_literal(node: exp.Literal) -> exp.Expr:
    """A little more than a number, also one in quotes, a little longer than another text."""
    if node.is_string and node.name.isdecimal():
        return exp.Literal.string(str(int(node.name) + 1).zfill(len(node.name)))
    if node.is_string:
        core = node.name.strip("%")
        return exp.Literal.string(node.name.replace(core, core + "x") if core else node.name + "x")
    value = numeric_value(node.name)
    return exp.Literal.number(
        f"{value + 1:g}" if isinstance(value, float) else f"{value}x" if isinstance(value, str) else value + 1
    )


def _is_limit_of_a_value(node: exp.Expr) -> bool:
    """Whether it is the LIMIT of a subquery whose first row alone is read."""
    limit = node.parent
    if not isinstance(limit, exp.Limit) or limit.parent is None or not isinstance(limit.parent.parent, exp.Subquery):
        return False
    return isinstance(limit.parent.parent.parent, exp.Binary | exp.Select)


def _is_only_counted(node: exp.Expr) -> bool:
    """Whether nothing but its being NULL matters: COUNT(x), COUNT(CASE WHEN ... THEN x END)."""
    parent = node.parent
    while isinstance(parent, exp.Paren) or (
        isinstance(parent, exp.If | exp.Case) and node.arg_key in ("true", "false", "default", "ifs")
    ):
        node, parent = parent, parent.parent
    return isinstance(parent, exp.Count)


def _counts_duplicates(select: exp.Select, schema: Schema) -> bool:
    """Whether DISTINCT can make a difference to the rows of this SELECT and they to the answer."""
    if isinstance(select.parent, exp.In | exp.Exists) or select.find_ancestor(exp.SetOperation, exp.In):
        return False
    group = select.args.get("group")
    outputs = [selected.unalias() for selected in select.selects]
    if any(_is_unique(output, select, schema) for output in outputs) or _has_one_row(select, schema):
        return False
    if group is None:
        return not select.find(exp.AggFunc) and not select.args.get("limit")
    return not all(key in outputs for key in group.expressions) and not select.args.get("limit")


def _is_unique(node: exp.Expr, within: exp.Expr, schema: Schema) -> bool:
    """Whether it is a column in which no two rows of the query's only table have the same value."""
    select = within if isinstance(within, exp.Select) else within.parent_select
    sources = own_tables(select)
    table = schema.table(sources[0].name) if len(sources) == 1 else None
    column = node.expressions[0] if isinstance(node, exp.Distinct) and len(node.expressions) == 1 else node
    return table is not None and isinstance(column, exp.Column) and (column.name.lower(),) in table.keys


def _has_one_row(select: exp.Select, schema: Schema) -> bool:
    """Whether its condition has a constant for the key of its only table."""
    where = select.args.get("where")
    return where is not None and any(
        isinstance(part, exp.EQ) and _is_unique(part.this, select, schema) and isinstance(part.expression, exp.Literal)
        for part in operands(where.this, exp.And)
    )


def _other_columns(columns: Iterable[exp.Column], schema: Schema) -> list[Edit]:
    """For each column each of the others of its table, the next ones first."""
    edits: list[list[Edit]] = []
    for column in columns:
        table = _table_of(column, schema)
        names = [known.name for known in table.columns] if table else []
        place = next((i for i, name in enumerate(names) if name.lower() == column.name.lower()), 0)
        others = [*names[place + 1 :], *names[:place]]
        edits.append([functools.partial(column.set, "this", exp.to_identifier(name)) for name in others])
    # One of each column first, where only some mutants are asked for.
    return [edit for round in itertools.zip_longest(*edits) for edit in round if edit is not None]


def _table_of(column: exp.Column, schema: Schema) -> Table | None:
    select = column.parent_select
    sources = {table.alias_or_name.lower(): table.name for table in select.find_all(exp.Table)} if select else {}
    if column.table:
        names = [sources[column.table.lower()]] if column.table.lower() in sources else []
    else:
        names = list(sources.values()) if len(sources) == 1 else []
    tables = (table for name in names if (table := schema.table(name)))
    return next((t for t in tables if column.name.lower() in {known.name.lower() for known in t.columns}), None)
