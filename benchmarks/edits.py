"""Edits of a query: mutants that mean something else, and rewrites that mean the same. Each gives the query or None."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from sqlglot import exp

from sqlora.evaluation.mutants import KINDS
from sqlora.sql.schema import Schema

Edit = Callable[[exp.Expression, Schema, random.Random], exp.Expression | None]
MIRROR = {exp.GT: exp.LT, exp.LT: exp.GT, exp.GTE: exp.LTE, exp.LTE: exp.GTE, exp.EQ: exp.EQ, exp.NEQ: exp.NEQ}


def _pick(nodes: Iterable[exp.Expression], rng: random.Random) -> exp.Expression | None:
    found = list(nodes)
    return rng.choice(found) if found else None


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


def _any_of(kind: Callable) -> Edit:
    """One of the mutants of a kind."""

    def edit(query, schema, rng):
        edits = kind(query, schema)
        if not edits:
            return None
        rng.choice(edits)()
        return query

    return edit


MUTANTS: dict[str, Edit] = {name: _any_of(kind) for name, kind in KINDS.items()}
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
