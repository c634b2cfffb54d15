"""A query as it is drawn, of which English can be made as well as SQL: what it shows, of which rows, in what groups and
order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace

from sqlglot import exp

from sqlora.sql.sandbox import Value
from sqlora.sql.schema import quote_name

COMPARISONS: dict[str, type[exp.Binary]] = {
    "=": exp.EQ,
    "<>": exp.NEQ,
    ">": exp.GT,
    "<": exp.LT,
    ">=": exp.GTE,
    "<=": exp.LTE,
}
AGGREGATES = {"COUNT": exp.Count, "AVG": exp.Avg, "SUM": exp.Sum, "MAX": exp.Max, "MIN": exp.Min}
SET_OPERATIONS = {"INTERSECT": exp.Intersect, "EXCEPT": exp.Except, "UNION": exp.Union}


@dataclass(frozen=True)
class Place:
    """A column of a table."""

    table: str
    column: str


@dataclass(frozen=True)
class Link:
    """A foreign key of one column: `child` has values of `parent`."""

    child: Place
    parent: Place


@dataclass(frozen=True)
class Compared:
    """A column compared with constants. operator: one of COMPARISONS, "between", "contains" or "starts with"; several
    values of "=" are alternatives.
    """

    place: Place
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class ComparedWithRows:
    """A column compared with an aggregate of the same column over all rows of its table, or over those that pass."""

    place: Place
    operator: str
    aggregate: str
    filters: tuple[Compared, ...] = ()


@dataclass(frozen=True)
class Linked:
    """Whether rows of the link's child, of which `filters` hold, refer to a row of its parent; or none, if negated."""

    link: Link
    negated: bool
    filters: tuple[Compared, ...] = ()


Filter = Compared | ComparedWithRows | Linked


@dataclass(frozen=True)
class Rows:
    """The rows of a table, joined along `links`, that pass the filters: all of them, or any with `any_of`."""

    table: str
    links: tuple[Link, ...] = ()
    filters: tuple[Filter, ...] = ()
    any_of: bool = False

    @property
    def tables(self) -> list[str]:
        """The table and those that are joined, in this order."""
        return [self.table, *(link.parent.table for link in self.links)]


@dataclass(frozen=True)
class Output:
    """A column, or an aggregate of it; without a place the number of rows."""

    place: Place | None
    aggregate: str = ""
    distinct: bool = False


COUNT = Output(None, "COUNT")


@dataclass(frozen=True)
class Having:
    """A condition of groups."""

    output: Output
    operator: str
    value: Value


@dataclass(frozen=True)
class Order:
    by: Output
    descending: bool
    limit: int | None = None


@dataclass(frozen=True)
class Query:
    """outputs: what is shown. group: by the first place, of the table `subject` whose rows or columns they are about.
    second: a set operation with the same outputs over other rows.
    """

    subject: str
    rows: Rows
    outputs: tuple[Output, ...]
    distinct: bool = False
    group: Place | None = None
    having: Having | None = None
    order: Order | None = None
    second: tuple[str, Rows] | None = None

    def tree(self) -> exp.Query:
        """The query in SQLite's SQL; several tables are called T1, T2 and so on, as in Spider."""
        query = self._select(self.rows)
        if self.second is None:
            return query
        operation, rows = self.second
        return SET_OPERATIONS[operation](this=query, expression=self._select(rows), distinct=True)

    def sql(self) -> str:
        """The same as text."""
        return self.tree().sql("sqlite")

    def weaker(self) -> Iterator[Query]:
        """The queries without one of its conditions each: what they have no other rows for says nothing."""
        for condition in self.rows.filters:
            filters = tuple(one for one in self.rows.filters if one is not condition)
            yield replace(self, rows=replace(self.rows, filters=filters))
        if self.distinct:
            yield replace(self, distinct=False)
        if self.having:
            yield replace(self, having=None)
        if self.second:
            yield replace(self, second=None)

    def with_key(self) -> Query:
        """What a query with a limit sorts by, of a row more than it gives."""
        assert self.order
        assert self.order.limit is not None
        return replace(self, outputs=(self.order.by,), order=replace(self.order, limit=self.order.limit + 1))

    @property
    def repeats_parents(self) -> bool:
        """Whether it may give a row of a parent once for each of its children."""
        return self.subject != self.rows.table and not (self.distinct or self.group or self.order or self.second)

    @property
    def counts_few(self) -> bool:
        """Whether it looks for the parents with the fewest children, of which those with none would be the first."""
        of_parents = self.group is not None and self.subject != self.rows.table
        has_few = self.having is not None and self.having.output == COUNT and self.having.operator == "<"
        is_least = self.order is not None and self.order.by == COUNT and self.order.limit and not self.order.descending
        return of_parents and bool(has_few or is_least)

    def parts(self) -> set[Place | Link]:
        """The columns that it names and the keys that it follows."""
        return set(_parts(self))

    def _select(self, rows: Rows) -> exp.Select:
        names = {table: f"T{i}" for i, table in enumerate(rows.tables, start=1)} if rows.links else {}
        query = exp.select(*(_output(one, names) for one in self.outputs)).from_(_table(rows.table, names))
        for link in rows.links:
            on = exp.EQ(this=_column(link.child, names), expression=_column(link.parent, names))
            query = query.join(_table(link.parent.table, names), on=on)
        if rows.filters:
            conditions = [_filter(one, names) for one in rows.filters]
            query = query.where((exp.or_ if rows.any_of else exp.and_)(*conditions))
        if self.distinct:
            query = query.distinct()
        if self.group:
            query = query.group_by(_column(self.group, names))
        if self.having:
            output = _output(self.having.output, names)
            query = query.having(COMPARISONS[self.having.operator](this=output, expression=_value(self.having.value)))
        if self.order:
            # As SQLite sorts: sqlglot would write NULLS LAST otherwise.
            down = self.order.descending
            query = query.order_by(
                exp.Ordered(this=_output(self.order.by, names), desc=down or None, nulls_first=not down)
            )
            if self.order.limit is not None:
                query = query.limit(self.order.limit)
        return query


def _parts(node: object) -> Iterator[Place | Link]:
    if isinstance(node, Place | Link):
        yield node
    children = node if isinstance(node, tuple) else vars(node).values() if is_dataclass(node) else ()
    for child in children:
        yield from _parts(child)


def _filter(condition: Filter, names: dict[str, str]) -> exp.Expr:
    if isinstance(condition, Linked):
        child, parent = condition.link.child, condition.link.parent
        inner = exp.select(_column(child, {})).from_(_table(child.table, {}))
        within = exp.In(this=_column(parent, names), query=exp.Subquery(this=_where(inner, condition.filters)))
        return exp.Not(this=within) if condition.negated else within
    column = _column(condition.place, names)
    if isinstance(condition, ComparedWithRows):
        output = _output(Output(condition.place, condition.aggregate), {})
        inner = _where(exp.select(output).from_(_table(condition.place.table, {})), condition.filters)
        return COMPARISONS[condition.operator](this=column, expression=exp.Subquery(this=inner))
    values = [_value(value) for value in condition.values]
    if condition.operator == "between":
        return exp.Between(this=column, low=values[0], high=values[1])
    if condition.operator in ("contains", "starts with"):
        start = "%" if condition.operator == "contains" else ""
        return exp.Like(this=column, expression=exp.Literal.string(f"{start}{condition.values[0]!s}%"))
    compared = [COMPARISONS[condition.operator](this=column.copy(), expression=value) for value in values]
    return compared[0] if len(compared) == 1 else exp.or_(*compared)


def _where(query: exp.Select, filters: tuple[Compared, ...]) -> exp.Select:
    return query.where(*(_filter(one, {}) for one in filters)) if filters else query


def _output(output: Output, names: dict[str, str]) -> exp.Expr:
    column: exp.Expr = _column(output.place, names) if output.place else exp.Star()
    if not output.aggregate:
        return column
    return AGGREGATES[output.aggregate](this=exp.Distinct(expressions=[column]) if output.distinct else column)


def _table(name: str, names: dict[str, str]) -> exp.Expr:
    table = exp.Table(this=_identifier(name))
    return exp.alias_(table, names[name], table=True) if name in names else table


def _column(place: Place, names: dict[str, str]) -> exp.Column:
    return exp.Column(this=_identifier(place.column), table=exp.to_identifier(names.get(place.table)))


def _identifier(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=quote_name(name) != name)


def _value(value: Value) -> exp.Expr:
    return exp.convert(int(value) if isinstance(value, float) and value.is_integer() else value)
