"""What of a query's result depends on the order in which rows are stored, and what it may be in other orders.

SQLite chooses among rows where a group has several values of a column outside GROUP BY, and where LIMIT goes through a
tie.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from sqlglot import exp

from sqlora.evaluation.synthetic_databases import Rows
from sqlora.sql.parsing import numeric_value, own_tables, to_sqlite
from sqlora.sql.sandbox import Database
from sqlora.sql.schema import quote_name

# expressions whose value may depend on the order of storage, like bare columns and inner LIMITs
PLACE_DEPENDENT = (exp.GroupConcat, exp.Window)
MOST_ROWS = 12  # of a table whose rows are all tried as the one that is chosen


def may_depend_on_storage(query: exp.Expr) -> bool:
    """Whether the order in which rows are stored may decide the result on some database."""
    if any(limit.parent is not query for limit in query.find_all(exp.Limit)) or query.find(*PLACE_DEPENDENT):
        return True
    selects = query.find_all(exp.Select)
    return any(_outside_group(select) or (select.is_star and _is_grouped(select)) for select in selects)


def reordered(database: Database, rows: Rows) -> Iterator[Database]:
    """Copies of a database of these rows, which store them in other orders."""
    rng = random.Random(0)
    # Reversed and rotated by half: a tie of three rows with equal ends is still found.
    orders: tuple[Callable[[list], list], ...] = (
        lambda stored: stored[::-1],
        lambda stored: stored[len(stored) // 2 :] + stored[: len(stored) // 2],
        lambda stored: rng.sample(stored, len(stored)),
    )
    with Database(database.schema) as copy:
        for reorder in orders:
            copy.refill({table: reorder(stored) for table, stored in rows.items()})
            yield copy


def is_one_choice(query: exp.Query, rows: Rows) -> bool:
    """Whether `choosing_each` knows all that the query may choose: in one SELECT, and among MOST_ROWS of a table."""
    selects = _choosing(query)
    of_both = any(both.args.get("limit") for both in query.find_all(exp.SetOperation))
    if (
        len(selects) != 1
        or of_both
        or query.find(*PLACE_DEPENDENT)
        or max(map(len, rows.values()), default=0) > MOST_ROWS
    ):
        return False
    # With one MIN or MAX, the choice is among the rows that have it.
    return not (_outside_group(selects[0]) and _aggregates(selects[0], exp.Min, exp.Max))


def choosing_each(query: exp.Query, rows: Rows) -> Iterator[str]:
    """The SQL of the query when it chooses each row of a table, or pair of rows of two, that it has to choose among."""
    most = max(map(len, rows.values()), default=0)
    query = query.copy()
    (select,) = _choosing(query)
    tables, bare = own_tables(select), _outside_group(select)
    owners = {column.partition(".")[0].strip('"').lower() for column in bare if "." in column}
    chosen = [table for table in tables if table.alias_or_name.lower() in owners] or tables
    having, order = select.args.get("having"), select.args.get("order")
    for shifts in itertools.product(range(most), repeat=min(2, len(chosen))):
        number = " + ".join(
            f"(COALESCE({quote_name(table.alias_or_name)}.rowid, 0) + {shift}) % {most} * {most**place}"
            for place, (table, shift) in enumerate(zip(chosen, shifts, strict=False))
        )
        for part, before in (("having", having), ("order", order)):
            select.set(part, before.copy() if before is not None else None)
        if bare:  # with one MAX, SQLite takes the columns outside GROUP BY from its row
            select.having(f"MAX({number}) IS NOT NULL", dialect="sqlite", copy=False)
        if select.args.get("limit"):
            last = f"MAX({number}) DESC" if _is_grouped(select) else f"{number} DESC"
            select.order_by(last, dialect="sqlite", copy=False)
        yield to_sqlite(query)


def _choosing(query: exp.Query) -> list[exp.Select]:
    """The SELECTs that may have to choose among rows."""
    return [select for select in query.find_all(exp.Select) if select.args.get("limit") or _outside_group(select)]


def _is_grouped(select: exp.Select) -> bool:
    return bool(select.args.get("group") or _aggregates(select, exp.AggFunc))


def _aggregates(select: exp.Select, *kinds: type[exp.Expr]) -> list[exp.Expr]:
    """The SELECT's own aggregates of the kinds."""
    return [node for node in select.find_all(*kinds) if node.find_ancestor(exp.Query) is select]


def probe_groups(select: exp.Select) -> exp.Select | None:
    """A query for groups in which a column outside GROUP BY has several values; None if the SELECT has no such
    column.
    """
    group, aggregates = select.args.get("group"), list(select.find_all(exp.AggFunc))
    # With one MIN or MAX, SQLite takes the other columns from its row.
    if group is None or (len(aggregates) == 1 and isinstance(aggregates[0], exp.Min | exp.Max)):
        return None
    columns = _outside_group(select)
    if not columns:
        return None
    probe = select.copy()
    for part in ("order", "limit", "offset", "distinct"):
        probe.set(part, None)
    probe.set("expressions", [exp.Literal.number(1)])
    mixed = (f"COUNT(DISTINCT {name}) > 1 OR (COUNT({name}) BETWEEN 1 AND COUNT(*) - 1)" for name in sorted(columns))
    return probe.having(" OR ".join(mixed), dialect="sqlite", copy=False)


def _outside_group(select: exp.Select) -> set[str]:
    """The columns, as SQLite's text, that a SELECT with groups reads outside aggregates, and that GROUP BY lacks."""
    if not _is_grouped(select):
        return set()
    keys = _group_keys(select)
    aliases = {selected.alias.lower() for selected in select.selects if selected.alias}
    columns = set()
    for part in (*select.selects, select.args.get("having"), select.args.get("order")):
        for column in part.find_all(exp.Column) if part is not None else ():
            is_output = not column.table and column.name.lower() in aliases and isinstance(part, exp.Having | exp.Order)
            is_key = any(
                _may_be_same(column, key) if isinstance(key, exp.Column) else _within(column, key) for key in keys
            )
            if not is_key and not is_output and column.find_ancestor(exp.AggFunc, exp.Query) is select:
                columns.add(column.sql("sqlite"))
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
