"""Small synthetic databases on which queries with different meanings return different rows.

Their values come from the queries: each constant, its neighbours (n-1, n, n+1; other case, prefix, texts that just
match a LIKE pattern and that just miss it), so few others that values repeat and joins find rows, and some NULLs.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlglot import exp

from sqlora.evaluation.column_values import Domain, Pool
from sqlora.evaluation.conditions import turning_values
from sqlora.sql.parsing import SqlError, literals, parse_query, to_sqlite
from sqlora.sql.sandbox import Database, Value
from sqlora.sql.schema import Schema, Table, quote_name

Rows = dict[str, list[tuple[Value, ...]]]
Meeting = dict[tuple[str, str], list[Value]]  # values of a column that meet a query's conditions, by table and column
Functions = dict[tuple[str, tuple[Value, ...]], Value]  # the value of a dependent column by its name and its group

SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24)  # rows of a table; the smallest first, so that a difference is easy to read
LARGEST = {1: 40, 2: 24, 3: 12}  # by the number of tables, so that a join without a condition stays small
MOST_IN_GROUP = 120  # rows, for HAVING COUNT(*) > 100
NULL_SHARES = (0.0, 0.15, 0.0, 0.1, 0.0, 0.3)
TESTED_NULL_SHARE = 0.25  # of a column that a query tests for NULL
NEAR_SHARE = 0.55  # of the rows meet the queries' conditions, but for one column as often as not
MEETING_SHARE = 0.8  # of the rows meet all of a query's conditions, in some databases
DEFAULT_SHARE = 0.1  # of the values of a column with a DEFAULT
COPY_SHARE = 0.12  # of the rows are there twice, for DISTINCT and UNION
ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.Sum, exp.Avg, exp.Abs, exp.Round)


@dataclass
class _Plan:
    """How the rows of a table are made in one database; numbers are places in a row.

    pools: None for a column that no query reads. unique: columns in which no value comes twice, `distinct` has them.
    free: of each of `keys` a column that refers to no other table, and so may have a value of its own.
    meeting: values with which most rows are to meet a query's conditions, if they are to.
    first: the values of a row that meets a query's conditions, if there is to be one.
    """

    names: list[str]
    pools: list[Pool | None]
    unique: list[int]
    distinct: dict[int, list[Value]]
    keys: list[list[int]]
    free: list[int | None]
    constrained: list[int]
    meeting: list[tuple[int, list[Value]]]
    groups: list[int]
    dependent: list[tuple[int, str]]
    defaults: list[tuple[int, Value]]
    nullable: list[tuple[int, Domain]]
    first: list[Value]

    def held(self, row: list[Value]) -> list[tuple[Value, ...]]:
        """The values that a row has of each of `keys`."""
        return [tuple(row[i] for i in key) for key in self.keys]


class Synthesiser:
    """Databases for the queries over the schema, the same for the same seed.

    They have the tables of `schema`, an attribute: those that the queries read. Their rows keep the constraints that
    are declared. Without `nulls_anywhere` only columns that a query tests for NULL hold it. `samples` are values of
    real rows, by table and column in lower case, from which others than the queries' constants are drawn.
    """

    def __init__(
        self,
        schema: Schema,
        queries: Sequence[exp.Expr],
        seed: str,
        nulls_anywhere: bool = True,
        samples: Mapping[str, Mapping[str, Sequence[Value]]] = MappingProxyType({}),
    ) -> None:
        used_tables = {table.name.lower() for query in queries for table in query.find_all(exp.Table)}
        used = [table for table in schema.tables if table.name.lower() in used_tables]
        self.schema = Schema(tuple(_parents_first(used)))
        self._tables = self.schema.tables
        checks = {table.name: _checks(table) for table in self._tables}
        self._refusing = {name: [_refusing(check) for check in of_table] for name, of_table in checks.items()}
        queries = [*queries, *itertools.chain(*checks.values())]
        self._nulls_anywhere = nulls_anywhere
        self._random = random.Random(seed.encode("utf-8", "surrogatepass"))
        self._parents: dict[str, str] = {}
        self._domains: dict[str, Domain] = defaultdict(Domain)
        self._counts: list[int] = []  # constants that are compared with no column: how many rows a group should have
        self._dependent: set[str] = set()  # columns outside GROUP BY whose value is one of the group's
        for query in queries:
            self._join_domains(query)
        for reference in (reference for table in self._tables for reference in table.references):
            for name, key in zip(reference.columns, reference.keys, strict=True):
                self._unite(name, key)
        for table in self._tables:
            for column in table.columns:
                domain = self._domain(column.name)
                domain.types.add(column.type)
                domain.samples += samples.get(table.name.lower(), {}).get(column.name.lower(), ())
        types = {column.name.lower(): column.type for table in self._tables for column in table.columns}
        self._turnings = [turning_values(query, types) for query in queries]
        for turning in (turning for turnings in self._turnings for turning in turnings if not turning.is_plain):
            self._domain(turning.column).turnings.append(turning)
        for query in queries:
            self._study(query)
        named = {column.name.lower() for query in queries for column in query.find_all(exp.Column)}
        everything = any(query.find(exp.Star) for query in queries)
        self._idle = set() if everything else {name for table in self._tables for name in _names(table)} - named

    def __iter__(self) -> Iterator[Rows]:
        """One database after the other, without end: {table: [one value a column, ...]}."""
        number = 0
        while True:
            yield self._make(number)
            number += 1

    def _make(self, number: int) -> Rows:
        rng = self._random
        size, largest = SIZES[number % len(SIZES)], LARGEST.get(len(self._tables), 8)
        crowd = rng.choice(self._counts) if self._counts else 0
        size = min(size, largest)
        if crowd and number % 2:
            # As many rows as one, two or three groups have that come near the constant.
            size = max(size, min(rng.choice((1, 2, 3)) * crowd, largest), crowd + 1)
        nulls = NULL_SHARES[number % len(NULL_SHARES)]
        pools = {}
        for root, domain in self._domains.items():
            distinct = rng.choice((size, size // 2, 3)) if domain.is_key else rng.choice((2, 4, 8, 20))
            if domain.is_grouped and crowd and number % 2:
                distinct = max(1, round(size / crowd))
            pools[root] = Pool(domain, distinct, rng)
        # Half of the databases keep a group's other columns the same within a group, as a query that names them
        # expects.
        functions: Functions | None = {} if self._dependent and number % 4 else None
        rows: Rows = {}
        wanted: dict[tuple[str, str], Value] = {}
        meeting: Meeting = {}
        if number % 2:
            meeting = self._meeting()
            wanted = self._wanted(pools, meeting)
        for table in self._tables:
            first = self._first_row(table, pools, wanted) if wanted else None
            count = max(1, size + rng.randint(-1, 2))
            plan = self._plan(table, count, pools, first, meeting if number % 4 == 1 else {})
            rows[table.name] = self._fill(table, count, plan, nulls, functions, rows)
        return rows

    def _meeting(self) -> Meeting:
        """Values that meet all conditions which a SELECT of one query has on a single column."""
        meeting: Meeting = {}
        for turning in self._random.choice(self._turnings or [[]]):
            if turning.is_whole and (fitting := self._domain(turning.column).fitting(turning.meeting)):
                meeting.setdefault((turning.table, turning.column), []).extend(fitting)
        return meeting

    def _wanted(self, pools: dict[str, Pool], meeting: Meeting) -> dict[tuple[str, str], Value]:
        """One of the `meeting` values of each column, by table and column, and by ("", root of the domain)."""
        wanted: dict[tuple[str, str], Value] = {}
        for (table, column), values in meeting.items():
            value = self._random.choice(values)
            wanted[table, column] = value
            wanted["", self._root(column)] = value
        for root, pool in pools.items():
            wanted.setdefault(("", root), pool.any())
        return wanted

    def _first_row(self, table: Table, pools: dict[str, Pool], wanted: dict[tuple[str, str], Value]) -> list[Value]:
        """A row that meets the conditions of a query, and joins the first rows of the other tables."""
        return [
            None if name in self._idle else wanted.get((table.name.lower(), name), wanted["", self._root(name)])
            for name in _names(table)
        ]

    def _fill(
        self,
        table: Table,
        size: int,
        plan: _Plan,
        nulls: float,
        functions: Functions | None,
        others: Rows,
    ) -> list[tuple[Value, ...]]:
        """Rows of a table that keep its constraints, as far as possible with the plan's first among them.

        `others` has those of the tables that it refers to.
        """
        rows: list[tuple[Value, ...]] = []
        taken: list[set[tuple[Value, ...]]] = [set() for _ in plan.keys]  # the values that rows have
        for number in range(size):
            is_first = bool(plan.first) and number == 0
            row = plan.first.copy() if is_first else self._draw(plan)
            for i in plan.unique:
                row[i] = plan.distinct[i][number]
            if not is_first:
                for i, default in plan.defaults:
                    if self._random.random() < DEFAULT_SHARE:
                        row[i] = default
            self._refer(table, plan.names, row, rows, others)
            for i, domain in () if is_first else plan.nullable:
                share = max(nulls * self._nulls_anywhere, TESTED_NULL_SHARE * domain.is_tested)
                if share and self._random.random() < share:
                    row[i] = None
            if functions is not None and plan.groups and not plan.unique:
                group = tuple(row[i] for i in plan.groups)
                for i, name in plan.dependent:
                    row[i] = functions.setdefault((name, group), row[i])
            for values, of_key, own in zip(plan.held(row), taken, plan.free, strict=True):
                if values in of_key and own is not None and (pool := plan.pools[own]):
                    row[own] = pool.spare(number)
            held = plan.held(row)
            if any(values in of_key for values, of_key in zip(held, taken, strict=True)):
                continue
            for values, of_key in zip(held, taken, strict=True):
                if None not in values:
                    of_key.add(values)
            rows.append(tuple(row))
            if not plan.unique and not plan.keys and self._random.random() < COPY_SHARE:
                rows.append(tuple(row))
        self._random.shuffle(rows)  # so that no order of storage can replace one that a query forgot to ask for
        return _passing(table, rows, self._refusing[table.name])

    def _plan(
        self, table: Table, size: int, pools: dict[str, Pool], first: list[Value] | None, meeting: Meeting
    ) -> _Plan:
        names = _names(table)
        pool_of = [pools[self._root(name)] for name in names]
        domains = [self._domain(name) for name in names]
        unique = [names.index(name) for name in self._unique(table, names)]
        distinct = {i: pool_of[i].distinct(size) for i in unique}
        if first is not None:
            first = [  # a key that a LEFT JOIN's query tests for NULL is not NULL itself
                pool.any() if value is None and name in table.required else value
                for name, pool, value in zip(names, pool_of, first, strict=True)
            ]
            distinct = {
                i: [first[i], *(value for value in values if value != first[i])] for i, values in distinct.items()
            }
        found = [meeting.get((table.name.lower(), name), meeting.get(("", name), [])) for name in names]
        fitting = [
            [value for value in values if value is not None or name not in table.required]
            for name, values in zip(names, found, strict=True)
        ]
        foreign = {name for reference in table.references for name in reference.columns}
        places = [[names.index(name) for name in key] for key in table.keys]
        keys = [key for key in places if len(key) > 1 or key[0] not in unique]
        return _Plan(
            names=names,
            pools=[None if name in self._idle else pool for name, pool in zip(names, pool_of, strict=True)],
            unique=unique,
            distinct=distinct,
            keys=keys,
            free=[next((i for i in reversed(key) if names[i] not in foreign), None) for key in keys],
            constrained=[i for i, domain in enumerate(domains) if domain.is_constrained and i not in unique],
            meeting=[(i, values) for i, values in enumerate(fitting) if values and i not in unique],
            groups=[i for i, domain in enumerate(domains) if domain.is_grouped],
            dependent=[(i, name) for i, name in enumerate(names) if name in self._dependent],
            defaults=[(i, c.default) for i, c in enumerate(table.columns) if c.default is not None and i not in unique],
            nullable=[
                (i, domains[i])
                for i, name in enumerate(names)
                if name not in table.required and i not in unique and (table.keys or not _is_identifier(name, table))
            ],
            first=first or [],
        )

    def _draw(self, plan: _Plan) -> list[Value]:
        """A row of drawn values, that often meet the queries' conditions."""
        row = [None if pool is None else pool.any() for pool in plan.pools]
        if plan.meeting and self._random.random() < MEETING_SHARE:
            for i, values in plan.meeting:
                row[i] = self._random.choice(values)
        elif plan.constrained and self._random.random() < NEAR_SHARE:
            other = self._random.choice(plan.constrained) if self._random.random() < 0.5 else None
            for i in plan.constrained:
                pool = plan.pools[i]
                if pool is not None:
                    row[i] = pool.any() if i == other else pool.near()
        return row

    def _refer(
        self, table: Table, names: list[str], row: list[Value], rows: list[tuple[Value, ...]], others: Rows
    ) -> None:
        """Gives a row's foreign keys values that are there: those that it has already, if a row of the other table has
        them.
        """
        for reference in table.references:
            target = next((other for other in self._tables if other.name.lower() == reference.table), None)
            if target is None:  # no query reads it
                continue
            stored = rows if target is table else others[target.name]
            positions = [_names(target).index(key) for key in reference.keys]
            known = [key for other in stored if None not in (key := tuple(other[i] for i in positions))]
            own = [names.index(name) for name in reference.columns]
            if known and tuple(row[i] for i in own) not in known:
                for i, value in zip(own, self._random.choice(known), strict=True):
                    row[i] = value
            elif not known and not table.required.intersection(reference.columns):
                row[own[0]] = None

    def _unique(self, table: Table, names: list[str]) -> list[str]:
        """Columns that are to have no value twice: the declared keys of one column, or one that is drawn."""
        if table.keys:
            foreign = {name for reference in table.references for name in reference.columns}
            return list(dict.fromkeys(key[0] for key in table.keys if len(key) == 1 and key[0] not in foreign))
        key = self._choose_key(table, names)
        return [key] if key else []

    def _choose_key(self, table: Table, names: list[str]) -> str | None:
        """Where no key is declared: mostly the column that looks like the table's key, sometimes none."""
        keys = [name for name in names if _is_identifier(name, table)]
        joined = [name for name in names if self._domain(name).is_key or self._domain(name).is_grouped]
        chance = self._random.random()
        if keys and chance < 0.65:
            return keys[0]
        return self._random.choice(joined) if joined and chance < (0.85 if keys else 0.5) else None

    def _root(self, name: str) -> str:
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def _unite(self, name: str, other: str) -> None:
        self._parents[self._root(name)] = self._root(other)

    def _domain(self, name: str) -> Domain:
        return self._domains[self._root(name.lower())]

    def _join_domains(self, query: exp.Expr) -> None:
        for node in query.find_all(exp.Predicate, exp.In, exp.SetOperation):
            pairs: list[tuple[exp.Expr | None, exp.Expr | None]]
            if isinstance(node, exp.SetOperation):
                pairs = list(zip(_selected(node.left), _selected(node.right), strict=False))
            elif isinstance(node, exp.In) and node.args.get("query"):
                pairs = [(node.this, next(iter(_selected(node.args["query"])), None))]
            else:
                pairs = [(node.this, node.args.get("expression"))]
            for left, right in pairs:
                name, compared = _column_in(left), _column_in(right)
                if name and compared:
                    self._unite(name, compared)

    def _study(self, query: exp.Expr) -> None:
        for constant in literals(query):
            if constant.column is not None and constant.is_wrapped and self._domain(constant.column).turnings:
                continue  # it is no value of the column
            if constant.column is not None:
                self._domain(constant.column).constants.append(constant)
                if not isinstance(constant.value, str):
                    self._domain(constant.column).is_numeric = True
            elif isinstance(constant.value, int) and 1 < constant.value <= MOST_IN_GROUP:
                self._counts.append(constant.value)
        for node in query.find_all(*ARITHMETIC):
            for column in node.find_all(exp.Column):
                self._domain(column.name).is_numeric = True
        for tested in query.find_all(exp.Is, exp.Coalesce, exp.Nullif):
            if not isinstance(tested, exp.Is) or isinstance(tested.expression, exp.Null):
                for column in tested.this.find_all(exp.Column):
                    self._domain(column.name).is_tested = True
        for node in query.find_all(exp.EQ, exp.In):
            name = _column_in(node.this)
            if name and _column_in(node.args.get("expression") or node.args.get("query")):
                self._domain(name).is_key = True
        for group in query.find_all(exp.Group):
            grouped = {name for key in group.expressions if (name := _column_in(key))}
            for name in grouped:
                self._domain(name).is_grouped = True
            self._dependent |= _bare_columns(group.parent) - grouped


def _names(table: Table) -> list[str]:
    return [column.name.lower() for column in table.columns]


def _parents_first(tables: list[Table]) -> list[Table]:
    """The tables, each after those that it refers to, as far as they do not refer to one another."""
    waiting, ordered = list(tables), []
    while waiting:
        left = {table.name.lower() for table in waiting}
        free = [t for t in waiting if not {r.table for r in t.references if r.table != t.name.lower()} & left]
        ordered.append((free or waiting)[0])
        waiting.remove(ordered[-1])
    return ordered


def _checks(table: Table) -> list[exp.Query]:
    """A query over the table for each CHECK, which has its condition."""
    known = Schema((table,))
    queries = []
    for check in table.checks:
        with contextlib.suppress(SqlError):
            queries.append(parse_query(f"SELECT 1 FROM {quote_name(table.name)} WHERE {check}", known))
    return queries


def _refusing(check: exp.Query) -> str:
    """The SQL that gives the numbers of the rows that a CHECK's query does not find."""
    query = check.copy()
    where = query.args["where"]
    where.set("this", exp.Not(this=exp.Paren(this=where.this)))
    query.set("expressions", [exp.column("rowid")])
    return to_sqlite(query)


def _passing(table: Table, rows: list[tuple[Value, ...]], refusing: list[str]) -> list[tuple[Value, ...]]:
    """The rows that no CHECK refuses; one that SQLite cannot compute refuses none."""
    if not refusing:
        return rows
    refused: set[Value] = set()
    with Database(Schema((table,)), {table.name: rows}) as database:
        for sql in refusing:
            with contextlib.suppress(SqlError):
                refused |= {number for (number,) in database.run(sql).rows}
    return [row for number, row in enumerate(rows, start=1) if number not in refused]


def _bare_columns(query: exp.Expr | None) -> set[str]:
    """Lower-case names of a SELECT's columns outside aggregates; one that GROUP BY lacks has no single value in a
    group.
    """
    if not isinstance(query, exp.Select):
        return set()
    parts = [*query.expressions, query.args.get("having"), query.args.get("order")]
    return {
        column.name.lower()
        for part in parts
        if part is not None
        for column in part.find_all(exp.Column)
        if column.find_ancestor(exp.AggFunc, exp.Query) is query
    }


def _selected(query: exp.Expr) -> list[exp.Expr]:
    inner = query.unnest() if isinstance(query, exp.Subquery) else query
    return list(inner.selects) if isinstance(inner, exp.Query) else []


def _column_in(node: exp.Expr | None) -> str | None:
    """The column, in lower case, whose values an operand has: itself, or what a subquery or MIN or MAX takes of it."""
    if isinstance(node, exp.Subquery | exp.Query):
        return next((_column_in(selected) for selected in _selected(node)), None)
    while isinstance(node, exp.Alias | exp.Paren | exp.Min | exp.Max | exp.Distinct):
        node = node.this
    return node.name.lower() if isinstance(node, exp.Column) else None


def _is_identifier(name: str, table: Table) -> bool:
    own = table.name.lower()
    return name in {"id", f"{own}_id", f"{own}id", f"{own.rstrip('s')}_id", f"{own.rstrip('s')}id", f"{own[:-2]}_id"}
