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
    """Turns "x" into the string 'x' where no column in scope is called x and a value fits, in place.

    The query was parsed from `sql`; `ctes` are its CTEs by their lower-case names.
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
    parent = node.parent
    while parent:
        if isinstance(parent, exp.Query):
            yield parent
        parent = parent.parent


def _names(query: exp.Query, schema: Schema, ctes: dict[str, exp.CTE]) -> set[str]:
    """The names, in lower case, of the columns of a query's sources and of its own outputs."""
    names = {name.lower() for name in query.named_selects}
    if not isinstance(query, exp.Select):
        return names
    joins = [join.this for join in query.args.get("joins") or []]
    origin = query.args.get("from_")
    for source in [origin.this, *joins] if origin else joins:
        names.update(name.lower() for name in source.alias_column_names)
        if isinstance(source, exp.Table) and source.name.lower() not in ctes:
            if table := schema.table(source.name):
                names.update(column.name.lower() for column in table.columns)
            continue
        cte = ctes[source.name.lower()] if isinstance(source, exp.Table) else source
        names.update(name.lower() for name in cte.alias_column_names)
        inner = cte.this
        # A recursive CTE has the names of its first part.
        while isinstance(inner, exp.SetOperation):
            inner = inner.this
        if inner is not query and isinstance(inner, exp.Query):
            names |= _names(inner, schema, ctes) if inner.is_star else {name.lower() for name in inner.named_selects}
    return names


def _suits_value(column: exp.Column, unknown: dict[int, exp.Column]) -> bool:
    """Whether the syntax around the column allows a string there."""
    child: exp.Expr = column
    parent = column.parent
    while isinstance(parent, exp.Paren | exp.Tuple):
        child, parent = parent, parent.parent
    if isinstance(parent, VALUE_COMPARISONS):
        others = [side for side in parent.iter_expressions() if side is not child]
        # Compared with a column, an aggregate or a query: "x" = 'y' has no other column, so x was meant to be one.
        return any(
            isinstance(node, exp.Column | exp.AggFunc | exp.Query) and id(node) not in unknown
            for side in others
            for node in side.walk()
        )
    return isinstance(parent, exp.Func | exp.DPipe) and not isinstance(parent, exp.AggFunc | exp.Connector)
