"""The results that a gold query allows on a database, and whether another result is one of them.

Rows are compared as bags. Their order counts where the query's own top level has ORDER BY, and rows that tie there may
come in any order; LIMIT through a tie, or without ORDER BY, may take any of the rows that it has to choose among.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from sqlora.evaluation.storage_order import choosing_each, is_one_choice, may_depend_on_storage, probe_groups, reordered
from sqlora.evaluation.synthetic_databases import Rows
from sqlora.sql.parsing import SqlError, numeric_value, to_sqlite
from sqlora.sql.sandbox import Database, QueryResult, Value
from sqlora.sql.schema import Schema

ResultRow = tuple[Value, ...]
RELATIVE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Choice:
    """Any `count` of the rows, in any order, come next in a result."""

    rows: list[ResultRow]
    count: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the rows come."""
        return self.count == len(self.rows)


@dataclass(frozen=True)
class Allowed:
    choices: list[Choice]

    @property
    def is_empty(self) -> bool:
        return not any(choice.count for choice in self.choices)

    @property
    def says_something(self) -> bool:
        """Whether there is a value in it that a wrong query would not give by itself: not nothing, 0 or NULL."""
        return any(value not in (0, None) for choice in self.choices for row in choice.rows for value in row)

    def accepts(self, rows: list[ResultRow]) -> bool:
        if len(rows) != sum(choice.count for choice in self.choices):
            return False
        start = 0
        for choice in self.choices:
            if not _is_within(rows[start : start + choice.count], choice.rows):
                return False
            start += choice.count
        return True

    def equals(self, other: Allowed) -> bool:
        return len(self.choices) == len(other.choices) and all(
            one.count == two.count and len(one.rows) == len(two.rows) and _is_within(one.rows, two.rows)
            for one, two in zip(self.choices, other.choices, strict=True)
        )


class Gold:
    """A gold query over the tables of a schema, prepared to compute which results it allows on a database."""

    def __init__(self, query: exp.Query, schema: Schema) -> None:
        self.query, self.sql = query, to_sqlite(query)
        tables = (schema.table(table.name) for table in query.find_all(exp.Table))
        self._columns = {column.name.lower() for table in tables if table for column in table.columns}
        bounds = {name: _constant(query.args[name]) for name in ("limit", "offset") if query.args.get(name) is not None}
        self._limit, self._offset = bounds.get("limit"), max(0, bounds.get("offset") or 0)
        self._keys: list[int] = []  # positions of ORDER BY's values in a row, from its end
        self._hidden = 0  # values at the end of a row that only serve to find ties
        order = query.args.get("order")
        whole = query.copy()
        if self._limit is not None:
            whole.set("limit", None)
            whole.set("offset", None)
        self._is_ordered = order is not None and self._expose_keys(whole)
        # An order by what no output shows, or a LIMIT or OFFSET that is computed: the rows as they come are the only
        # ones allowed, and only where they are the same whichever way the rows are stored.
        is_computed = None in bounds.values()
        self._is_literal = is_computed or (order is not None and not self._is_ordered)
        self._whole = self.sql if self._is_literal else to_sqlite(whole, copy=False)
        self._probes = [
            to_sqlite(probe, copy=False)
            for select in query.find_all(exp.Select)
            if (probe := probe_groups(select)) is not None
        ]
        # LIMITs within the query that may go through a tie, which is then SQLite's to break.
        self._limited = [
            Gold(inner.copy(), schema)
            for inner in query.find_all(exp.Select, exp.SetOperation)
            if inner is not query and inner.args.get("limit")
        ]
        # Whether the order in which rows are stored may decide the result on some database.
        self.may_be_undetermined = self._is_literal or may_depend_on_storage(query)

    def allowed(self, database: Database) -> Allowed:
        """The results that are right on this database. Raises SqlError as `Database.run` does."""
        rows = database.run(self._whole).rows
        if self._is_literal:
            return Allowed([Choice([row], 1) for row in rows])
        groups = [rows] if rows else []
        if self._is_ordered:
            groups = [list(group) for _, group in itertools.groupby(rows, lambda row: [row[key] for key in self._keys])]
        if self._hidden:
            groups = [[row[: -self._hidden] for row in group] for group in groups]
        start, end = self._offset, math.inf if self._limit is None or self._limit < 0 else self._offset + self._limit
        choices, row_index = [], 0
        for group in groups:
            taken = min(row_index + len(group), end) - max(row_index, start)
            if taken > 0:
                choices.append(Choice(group, int(taken)))
            row_index += len(group)
        return Allowed(choices)

    def as_stored(self, database: Database) -> Allowed:
        """The rows that SQLite returns as the only ones that are right. Raises SqlError as `Database.run` does."""
        rows = self.result(database).rows
        if self.query.args.get("order") is not None:
            return Allowed([Choice([row], 1) for row in rows])
        return Allowed([Choice(rows, len(rows))] if rows else [])

    def result(self, database: Database) -> QueryResult:
        """The rows that SQLite returns, one of the results that are right."""
        return database.run(self.sql)

    def is_determined(self, database: Database, allowed: Allowed, rows: Rows | None = None) -> bool:
        """Whether the result does not depend on the order in which these rows are stored, as far as can be seen.

        No group may hold two values of a column outside GROUP BY, and reordered copies must give the same result; a
        real database, without `rows`, is not copied.
        """
        if not self.may_be_undetermined:
            return True
        for probe in self._probes:
            with contextlib.suppress(SqlError):  # a correlated subquery, which cannot run alone
                if database.run(probe).rows:
                    return False
        if any(inner.breaks_ties(database) for inner in self._limited):
            return False
        return rows is None or all(allowed.equals(self.allowed(copy)) for copy in reordered(database, rows))

    def may_give(self, database: Database, rows: Rows, is_right: Callable[[Allowed], bool]) -> bool:
        """Whether `is_right` of what the gold may give on `rows` whose order decides that, as far as it is known.

        That is as many rows as in one order or another, any of those that come in some order. Raises SqlError as
        `Database.run` does.
        """
        if not is_one_choice(self.query, rows):
            return True
        seen: Counter[ResultRow] = Counter()
        counts: set[int] = set()
        orders = (self.result(copy).rows for copy in itertools.chain([database], reordered(database, rows)))
        for results in (orders, (database.run(sql).rows for sql in choosing_each(self.query, rows))):
            for result in results:
                seen |= Counter(result)
                counts.add(len(result))
            if any(is_right(Allowed([Choice(list(seen.elements()), count)])) for count in counts):
                return True
        return False

    def breaks_ties(self, database: Database) -> bool:
        """Whether a LIMIT takes some of several rows that tie and differ; False for what cannot run alone."""
        with contextlib.suppress(SqlError):
            choices = self.allowed(database).choices
            return any(not choice.is_whole and len(set(choice.rows)) > 1 for choice in choices)
        return False

    def _expose_keys(self, query: exp.Query) -> bool:
        """Appends ORDER BY's expressions to the outputs where that changes no row, and records their positions."""
        keys = [ordered.this for ordered in query.args["order"].expressions]
        outputs = [selected.unalias() for selected in query.selects]
        names = [selected.alias_or_name.lower() for selected in query.selects]
        is_plain = isinstance(query, exp.Select) and not query.args.get("distinct")
        if query.is_star and (not is_plain or any(isinstance(key, exp.Literal) for key in keys)):
            return False
        for key in keys:
            name = key.name.lower() if isinstance(key, exp.Column) and not key.table else None
            column_index = None
            if (
                isinstance(key, exp.Literal)
                and not key.is_string
                and isinstance(ordinal := numeric_value(key.name), int)
            ):
                if not 1 <= ordinal <= len(outputs):  # SQLite refuses it when it runs
                    return False
                column_index = ordinal - 1
            elif name in names and isinstance(query.selects[names.index(name)], exp.Alias | exp.Column):
                column_index = names.index(name)
            elif key in outputs:
                column_index = outputs.index(key)
            if isinstance(query, exp.Select) and is_plain:
                shown = outputs[column_index] if column_index is not None and not query.is_star else key
                query.select(_without_aliases(shown, query, self._columns), copy=False)
                self._hidden += 1
            elif column_index is None:
                return False
            else:
                self._keys.append(column_index)
        if is_plain:
            self._keys = [-number for number in range(1, self._hidden + 1)]
        return True


def _without_aliases(key: exp.Expr, query: exp.Select, columns: set[str]) -> exp.Expr:
    """A copy of the ORDER BY expression with what the query's aliases in it mean, since no output may name them.

    Within an expression SQLite takes a name for one of the `columns` first, in lower case.
    """
    aliased = {
        selected.alias.lower(): selected.this
        for selected in query.selects
        if isinstance(selected, exp.Alias) and selected.alias.lower() not in columns
    }

    def replaced(node: exp.Expr) -> exp.Expr:
        is_alias = isinstance(node, exp.Column) and not node.table and node.name.lower() in aliased
        return exp.Paren(this=aliased[node.name.lower()].copy()) if is_alias else node

    return key.copy() if isinstance(key, exp.Column) else key.copy().transform(replaced)


def _is_within(rows: list[ResultRow], among: list[ResultRow]) -> bool:
    """Whether the bag `rows` is part of the bag `among`; floats may differ by the tolerance."""
    left = Counter(rows)
    right = Counter(among)
    missing = left - right
    if not missing:
        return True
    spare = list((right - left).elements())
    for row in missing.elements():
        close = next((row_index for row_index, other in enumerate(spare) if _are_close(row, other)), None)
        if close is None:
            return False
        spare.pop(close)
    return True


def _are_close(row: ResultRow, other: ResultRow) -> bool:
    return len(row) == len(other) and all(
        one == two
        or (
            isinstance(one, float | int)
            and isinstance(two, float | int)
            and math.isclose(one, two, rel_tol=RELATIVE_TOLERANCE)
        )
        for one, two in zip(row, other, strict=True)
    )


def _constant(node: exp.Expr | None) -> int | None:
    inner = node.args.get("expression") if node is not None else None
    literal = inner.this if isinstance(inner, exp.Neg) else inner
    value = numeric_value(literal.name) if isinstance(literal, exp.Literal) and not literal.is_string else None
    if not isinstance(value, int):
        return None
    return -value if isinstance(inner, exp.Neg) else value
