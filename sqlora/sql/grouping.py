"""Groups and aggregates of a SELECT, and the columns of which SQLite takes any row's value."""

from __future__ import annotations

from sqlglot import exp

from sqlora.sql.parsing import numeric_value


def is_grouped(select: exp.Select) -> bool:
    """Whether a SELECT gives a row for each group of rows, or one for all."""
    return bool(select.args.get("group") or aggregates(select, exp.AggFunc))


def aggregates(select: exp.Select, *kinds: type[exp.Expr]) -> list[exp.Expr]:
    """The SELECT's own aggregates of the kinds, without those over a window."""
    return [
        node
        for node in select.find_all(*kinds)
        if node.find_ancestor(exp.Query) is select and not _is_over_window(node)
    ]


def _is_over_window(node: exp.Expr) -> bool:
    while isinstance(node.parent, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        node = node.parent
    return isinstance(node.parent, exp.Window) and node.arg_key == "this"


def bare_columns(select: exp.Select) -> list[exp.Column]:
    """The columns that a SELECT with groups reads outside aggregates and that GROUP BY lacks, as often as it does."""
    if not is_grouped(select):
        return []
    keys = _group_keys(select)
    aliases = {selected.alias.lower() for selected in select.selects if selected.alias}
    columns = []
    for part in (*select.selects, select.args.get("having"), select.args.get("order")):
        for column in part.find_all(exp.Column) if part is not None else ():
            is_output = not column.table and column.name.lower() in aliases and isinstance(part, exp.Having | exp.Order)
            is_key = any(
                _may_be_same(column, key) if isinstance(key, exp.Column) else _within(column, key) for key in keys
            )
            if not is_key and not is_output and column.find_ancestor(exp.AggFunc, exp.Query) is select:
                columns.append(column)
    return columns


def _group_keys(select: exp.Select) -> list[exp.Expr]:
    """The expressions of GROUP BY, with those that it names by number or alias, which may be columns too."""
    group = select.args.get("group")
    keys: list[exp.Expr] = list(group.expressions) if group is not None else []
    for key in list(keys):
        if isinstance(key, exp.Literal) and isinstance(ordinal := numeric_value(key.name), int):
            keys += [selected.unalias() for selected in select.selects[ordinal - 1 : ordinal] if ordinal > 0]
        elif isinstance(key, exp.Column) and not key.table:
            keys += [selected.this for selected in select.selects if selected.alias.lower() == key.name.lower()]
    return keys


def _within(column: exp.Expr, expression: exp.Expr) -> bool:
    """Whether the column is part of a copy of the expression."""
    node: exp.Expr | None = column
    while node is not None and not isinstance(node, exp.Query):
        if node == expression:
            return True
        node = node.parent
    return False


def _may_be_same(column: exp.Column, other: exp.Column) -> bool:
    tables = {table.lower() for table in (column.table, other.table) if table}
    return column.name.lower() == other.name.lower() and len(tables) < 2
