"""What a double-quoted "x" of a query is: a column, as the standard has it, or the string that many authors mean."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from sqlora.sql.schema import Schema

VALUE_COMPARISONS = (
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.Is,
    exp.Like,
    exp.Glob,
    exp.Between,
    exp.In,
    exp.Escape,
)


def resolve_double_quotes(query: exp.Expr, sql: str, schema: Schema, ctes: dict[str, exp.CTE]) -> None:
    """Turns "x" of the query, parsed from `sql`, into the string 'x' where no column in scope is called x and a value
    suits.

    It works in place. `ctes` are the query's, by their lower-case names.
    """
    unknown = {
        id(column): column
        for column in query.find_all(exp.Column)
        if isinstance(column.this, exp.Identifier)
        and not column.table
        and sql[column.this.meta.get("start", 0)] == '"'
        and not any(column.name.lower() in _names(scope, schema, ctes) for scope in _scopes(column))
    }
    for column in unknown.values():
        if _suits_value(column, unknown):
            column.replace(exp.Literal.string(column.name))


def _scopes(node: exp.Expr) -> Iterator[exp.Query]:
    while node := node.parent:
        if isinstance(node, exp.Query):
            yield node


def _names(query: exp.Expr, schema: Schema, ctes: dict[str, exp.CTE]) -> set[str]:
    """Names of columns, in lower case, that a query's sources have, and the names of its own outputs."""
    names = {name.lower() for name in query.named_selects}
    if not isinstance(query, exp.Select):
        return names
    joins = [join.this for join in query.args.get("joins") or []]
    origin = query.args.get("from_")
    for source in [origin.this, *joins] if origin else joins:
        names.update(name.lower() for name in source.alias_column_names)
        if isinstance(source, exp.Table) and source.name.lower() not in ctes:
            table = schema.table(source.name)
            names.update(column.name.lower() for column in table.columns if table)
            continue
        cte = ctes.get(source.name.lower()) if isinstance(source, exp.Table) else source
        names.update(name.lower() for name in cte.alias_column_names)
        inner = cte.this
        # A CTE may read itself, and its names are then those of its first part.
        while isinstance(inner, exp.SetOperation):
            inner = inner.this
        if inner is not query and isinstance(inner, exp.Query):
            names |= _names(inner, schema, ctes) if inner.is_star else {name.lower() for name in inner.named_selects}
    return names


def _suits_value(column: exp.Column, unknown: dict[int, exp.Column]) -> bool:
    child, parent = column, column.parent
    while isinstance(parent, exp.Paren | exp.Tuple):
        child, parent = parent, parent.parent
    if isinstance(parent, VALUE_COMPARISONS):
        others = [side for side in parent.iter_expressions() if side is not child]
        # Compared with a column, an aggregate or a query: "x" = 'y' has no column at all, so its x was meant to be one.
        return any(
            isinstance(node, exp.Column | exp.AggFunc | exp.Query) and id(node) not in unknown
            for side in others
            for node in side.walk()
        )
    return isinstance(parent, exp.Func | exp.DPipe) and not isinstance(parent, exp.AggFunc | exp.Connector)
