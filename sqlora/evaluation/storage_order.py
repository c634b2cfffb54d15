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
from sqlora.sql.grouping import aggregates, bare_columns, is_grouped
from sqlora.sql.parsing import own_tables, to_sqlite
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
    return any(bare_columns(select) or (select.is_star and is_grouped(select)) for select in selects)


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
    is_elsewhere = any(both.args.get("limit") for both in query.find_all(exp.SetOperation))
    if len(selects) != 1 or is_elsewhere or query.find(*PLACE_DEPENDENT) or _most(rows) > MOST_ROWS:
        return False
    # With one MIN or MAX, the choice is among the rows that have it.
    return not (bare_columns(selects[0]) and aggregates(selects[0], exp.Min, exp.Max))


def choosing_each(query: exp.Query, rows: Rows) -> Iterator[str]:
    """The SQL of the query when it chooses each row of a table, or pair of rows of two, that it has to choose among."""
    most = _most(rows)
    query = query.copy()
    (select,) = _choosing(query)
    tables, bare = own_tables(select), bare_columns(select)
    owners = {column.table.lower() for column in bare if column.table}
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
            last = f"MAX({number}) DESC" if is_grouped(select) else f"{number} DESC"
            select.order_by(last, dialect="sqlite", copy=False)
        yield to_sqlite(query)


def _most(rows: Rows) -> int:
    """The rows of the largest table."""
    return max(map(len, rows.values()), default=0)


def _choosing(query: exp.Query) -> list[exp.Select]:
    """The SELECTs that may have to choose among rows."""
    return [select for select in query.find_all(exp.Select) if select.args.get("limit") or bare_columns(select)]


def probe_groups(select: exp.Select) -> exp.Select | None:
    """A query for groups in which a column outside GROUP BY has several values; None if the SELECT has no such
    column.
    """
    group, called = select.args.get("group"), list(select.find_all(exp.AggFunc))
    # With one MIN or MAX, SQLite takes the other columns from its row.
    if group is None or (len(called) == 1 and isinstance(called[0], exp.Min | exp.Max)):
        return None
    columns = {column.sql("sqlite") for column in bare_columns(select)}
    if not columns:
        return None
    probe = select.copy()
    for part in ("order", "limit", "offset", "distinct"):
        probe.set(part, None)
    probe.set("expressions", [exp.Literal.number(1)])
    mixed = (f"COUNT(DISTINCT {name}) > 1 OR (COUNT({name}) BETWEEN 1 AND COUNT(*) - 1)" for name in sorted(columns))
    return probe.having(" OR ".join(mixed), dialect="sqlite", copy=False)
