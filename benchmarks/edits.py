"""Edits of a query: mutants that mean something else, and rewrites that mean the same. Each gives a copy or None.

An edit whose mutant would provably mean the same (DISTINCT in an IN list or beside UNION, say) is not made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from sqlglot import exp

from sqlora.sql.schema import Schema

Edit = Callable[[exp.Expression, Schema, random.Random], exp.Expression | None]
SLIPS = {
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LTE),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GTE),
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
}
MIRROR = {exp.GT: exp.LT, exp.LT: exp.GT, exp.GTE: exp.LTE, exp.LTE: exp.GTE, exp.EQ: exp.EQ, exp.NEQ: exp.NEQ}
OTHER_AGGREGATE = {exp.Max: exp.Min, exp.Min: exp.Max, exp.Avg: exp.Sum, exp.Sum: exp.Avg, exp.Count: exp.Max}


def _pick(nodes: Iterable[exp.Expression], rng: random.Random) -> exp.Expression | None:
    found = list(nodes)
    return rng.choice(found) if found else None


def change_comparison(query, schema, rng):
    node = _pick((n for n in query.find_all(*SLIPS) if not n.find_ancestor(exp.Join)), rng)
    return node and _replace(query, node, rng.choice(SLIPS[type(node)])(this=node.this, expression=node.expression))


def swap_and_or(query, schema, rng):
    node = _pick(query.find_all(exp.And, exp.Or), rng)
    other = exp.Or if isinstance(node, exp.And) else exp.And
    return node and _replace(query, node, other(this=node.this, expression=node.expression))


def change_aggregate(query, schema, rng):
    fitting = (n for n in query.find_all(*OTHER_AGGREGATE) if isinstance(n.this, exp.Column))
    node = _pick(fitting, rng)
    return node and _replace(query, node, OTHER_AGGREGATE[type(node)](this=node.this))


def flip_order(query, schema, rng):
    node = _pick(
        (n for n in query.find_all(exp.Ordered) if n.parent.parent is query or n.parent.parent.args.get("limit")), rng
    )
    if node is None:
        return None
    node.set("desc", not node.args.get("desc"))
    # What sqlglot wrote down for the old direction.
    node.set("nulls_first", not node.args["desc"])
    return query


def change_distinct(query, schema, rng):
    nodes = [n for n in query.find_all(exp.Count) if isinstance(n.this, exp.Column | exp.Distinct)]
    nodes += [n for n in query.find_all(exp.Select) if _counts_duplicates(n)]
    node = _pick(nodes, rng)
    if node is None:
        return None
    if isinstance(node, exp.Select):
        node.set("distinct", None if node.args.get("distinct") else exp.Distinct())
    elif isinstance(node.this, exp.Distinct):
        node.set("this", node.this.expressions[0])
    else:
        node.set("this", exp.Distinct(expressions=[node.this]))
    return query


def change_column(query, schema, rng):
    return _other_column(query, (n for n in query.find_all(exp.Column) if not n.find_ancestor(exp.Join)), schema, rng)


def change_join_key(query, schema, rng):
    return _other_column(
        query, (c for join in query.find_all(exp.Join) for c in join.find_all(exp.Column)), schema, rng
    )


def change_literal(query, schema, rng):
    node = _pick(query.find_all(exp.Literal), rng)
    if node is None:
        return None
    if node.is_string:
        core = node.name.strip("%")
        return _replace(
            query, node, exp.Literal.string(node.name.replace(core, core + "x") if core else node.name + "x")
        )
    return _replace(
        query, node, exp.Literal.number(f"{float(node.name) + 1:g}" if "." in node.name else int(node.name) + 1)
    )


def drop_condition(query, schema, rng):
    node = _pick((n for where in query.find_all(exp.Where, exp.Having) for n in [where, *where.find_all(exp.And)]), rng)
    if node is None:
        return None
    if isinstance(node, exp.And):
        return _replace(query, node, rng.choice((node.this, node.expression)))
    if isinstance(node.this, exp.And):
        return None
    node.pop()
    return query


def reorder_and(query, schema, rng):
    node = _pick(query.find_all(exp.And), rng)
    return node and _replace(query, node, exp.And(this=node.expression, expression=node.this))


def rename_aliases(query, schema, rng):
    tables = [table for table in query.find_all(exp.Table) if table.alias]
    if not tables:
        return None
    names = {table.alias.lower(): f"q{number}" for number, table in enumerate(tables)}
    for table in tables:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(names[table.alias.lower()])))
    for column in query.find_all(exp.Column):
        if column.table.lower() in names:
            column.set("table", exp.to_identifier(names[column.table.lower()]))
    return query


def mirror_comparison(query, schema, rng):
    node = _pick((n for n in query.find_all(*MIRROR) if not n.find_ancestor(exp.Join)), rng)
    return node and _replace(query, node, MIRROR[type(node)](this=node.expression, expression=node.this))


def in_for_or(query, schema, rng):
    node = _pick(
        (
            n
            for n in query.find_all(exp.Or)
            if isinstance(n.this, exp.EQ)
            and isinstance(n.expression, exp.EQ)
            and n.this.this == n.expression.this
            and isinstance(n.this.expression, exp.Literal)
            and isinstance(n.expression.expression, exp.Literal)
        ),
        rng,
    )
    if node is None:
        return None
    return _replace(
        query, node, exp.In(this=node.this.this, expressions=[node.this.expression, node.expression.expression])
    )


def exists_for_in(query, schema, rng):
    node = _pick((n for n in query.find_all(exp.In) if _is_plain_in(n, schema)), rng)
    if node is None:
        return None
    inner, table = node.args["query"].unnest().copy(), node.parent_select.args["from_"].this
    source = inner.args["from_"].this
    for column in inner.find_all(exp.Column):
        column.set("table", exp.to_identifier("q9"))
    equal = exp.EQ(
        this=inner.selects[0].unalias().copy(), expression=exp.column(node.this.name, table=table.alias_or_name)
    )
    source.set("alias", exp.TableAlias(this=exp.to_identifier("q9")))
    inner.set("expressions", [exp.Literal.number(1)])
    return _replace(query, node, exp.Exists(this=inner.where(equal)))


def swap_join(query, schema, rng):
    fitting = (
        n
        for n in query.find_all(exp.Select)
        if len(n.args.get("joins") or []) == 1
        and not n.is_star
        and not n.args["joins"][0].side
        and n.args["joins"][0].args.get("on")
    )
    node = _pick(fitting, rng)
    if node is None:
        return None
    origin, join = node.args["from_"], node.args["joins"][0]
    first, second = origin.this.copy(), join.this.copy()
    origin.set("this", second)
    join.set("this", first)
    return query


def add_parentheses(query, schema, rng):
    node = _pick(query.find_all(*MIRROR), rng)
    return node and _replace(query, node, exp.Paren(this=exp.Paren(this=node.copy())))


def quote_identifiers(query, schema, rng):
    for identifier in query.find_all(exp.Identifier):
        identifier.set("quoted", True)
    return query


def _replace(query: exp.Expression, node: exp.Expression, other: exp.Expression) -> exp.Expression:
    if node is query:
        return other.copy()
    # In parentheses where it binds less than what it stands in.
    inside = isinstance(other, exp.And | exp.Or) and isinstance(node.parent, exp.And | exp.Or | exp.Not)
    node.replace(exp.Paren(this=other.copy()) if inside else other.copy())
    return query


def _counts_duplicates(select: exp.Select) -> bool:
    """Whether DISTINCT can make a difference to the rows of this SELECT and they to the answer."""
    if isinstance(select.parent, exp.In | exp.Exists) or select.find_ancestor(exp.SetOperation, exp.In):
        return False
    group = select.args.get("group")
    outputs = [selected.unalias() for selected in select.selects]
    if group is None:
        return not select.find(exp.AggFunc) and not select.args.get("limit")
    return not all(key in outputs for key in group.expressions) and not select.args.get("limit")


def _other_column(query, columns, schema, rng):
    column = _pick(columns, rng)
    if column is None:
        return None
    sources = {t.alias_or_name.lower(): t.name for t in column.parent_select.find_all(exp.Table)}
    names = (
        [sources[column.table.lower()]]
        if column.table.lower() in sources
        else []
        if column.table
        else list(sources.values())
    )
    tables = [table for name in names if (table := schema.table(name))]
    table = next((t for t in tables if column.name.lower() in {known.name.lower() for known in t.columns}), None)
    other = table and _pick([known for known in table.columns if known.name.lower() != column.name.lower()], rng)
    if not other or (not column.table and len(tables) > 1):
        return None
    column.set("this", exp.to_identifier(other.name))
    return query


def _is_plain_in(node: exp.In, schema: Schema) -> bool:
    inner = node.args.get("query")
    inner = inner.unnest() if inner is not None else None
    outer = node.parent_select
    return (
        isinstance(inner, exp.Select)
        and isinstance(node.this, exp.Column)
        and not outer.args.get("joins")
        and isinstance(outer.args["from_"].this, exp.Table)
        and not isinstance(node.parent, exp.Not)
        and not any(inner.args.get(part) for part in ("joins", "group", "having", "limit", "distinct"))
        and isinstance(inner.args["from_"].this, exp.Table)
        and isinstance(inner.selects[0].unalias(), exp.Column)
        and not inner.find(exp.AggFunc)
        and inner.find(exp.Subquery) is None
        and len(list(inner.find_all(exp.Select))) == 1
    )


MUTANTS: dict[str, Edit] = {
    "comparison": change_comparison,
    "AND/OR": swap_and_or,
    "aggregate": change_aggregate,
    "DESC/ASC": flip_order,
    "DISTINCT": change_distinct,
    "column": change_column,
    "literal": change_literal,
    "join key": change_join_key,
    "dropped condition": drop_condition,
}
REWRITES: dict[str, Edit] = {
    "reordered AND": reorder_and,
    "aliases": rename_aliases,
    "5 < a for a > 5": mirror_comparison,
    "IN for OR": in_for_or,
    "EXISTS for IN": exists_for_in,
    "JOIN order": swap_join,
    "parentheses": add_parentheses,
    "quoted identifiers": quote_identifiers,
}
