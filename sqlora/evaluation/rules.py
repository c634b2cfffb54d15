"""The rules by which a predicted result counts as right, beside our own those of two published evaluators.

strict: the same rows, each as often, columns in their order. test-suite: as test-suite-sql-eval compares them (Zhong et
al. 2020, arXiv:2010.02840), with columns in any order and DISTINCT ignored, unless it is to be kept. bird: the same set
of rows (Li et al. 2023, arXiv:2305.03111). The databases of the last two have NULL only in columns that a query tests
for it, since real rows seldom have it elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sqlglot import exp

from sqlora.evaluation.gold_results import Allowed, Choice, ResultRow
from sqlora.evaluation.mutants import mutants
from sqlora.sql.parsing import SqlError, to_sqlite
from sqlora.sql.sandbox import Database, QueryResult
from sqlora.sql.schema import Schema

Query = TypeVar("Query", bound=exp.Expr)
MOST_STEPS = 5_000  # in which orders of columns are tried


@dataclass(frozen=True)
class Rule:
    """Which results a gold's allowed ones accept, and on which databases.

    nulls_anywhere: whether any column that may be NULL is NULL in some rows; else those that a query tests for it.
    counts_rows: whether it matters how often a row comes.
    """

    name: str
    accepts: Callable[[Allowed, QueryResult], bool]
    forgives_distinct: bool = False
    nulls_anywhere: bool = True
    counts_rows: bool = True

    def mutants(self, query: exp.Query, schema: Schema) -> dict[str, str]:
        """The query's one-edit mutants that the rule must tell from it, {SQL: kind}."""
        return {
            to_sqlite(mutant, copy=False): kind
            for kind, mutant in mutants(query, schema)
            if kind != "DISTINCT" or (self.counts_rows and not self.forgives_distinct)
        }

    def passes(self, mutant: str, allowed: Allowed, database: Database) -> bool:
        """Whether a mutant's result is one that the gold allows on the database."""
        try:
            return self.accepts(allowed, database.run(mutant))
        except SqlError:
            return False


def _same_rows(allowed: Allowed, result: QueryResult) -> bool:
    return allowed.accepts(result.rows)


def _same_rows_in_any_columns(allowed: Allowed, result: QueryResult) -> bool:
    return any(
        allowed.accepts([tuple(row[i] for i in order) for row in result.rows])
        for order in _orders(allowed, result.rows)
    )


def _orders(allowed: Allowed, rows: list[ResultRow]) -> Iterator[tuple[int, ...]]:
    """The orders of the result's columns in which each can have the values of the gold's column there."""
    expected = [row for choice in allowed.choices for row in choice.rows]
    if not expected or not rows or len(expected[0]) != len(rows[0]):
        yield tuple(range(len(rows[0]))) if rows else ()
        return
    has_floats = any(isinstance(value, float) for row in (*expected, *rows) for value in row)

    def values(table: list[ResultRow], i: int) -> set[object]:
        """Numbers are alike where floats are compared, which may differ a little."""
        return {"number" if has_floats and isinstance(row[i], int | float) else row[i] for row in table}

    given = [values(rows, i) for i in range(len(rows[0]))]
    fitting = [[i for i, own in enumerate(given) if own <= values(expected, j)] for j in range(len(expected[0]))]
    steps = 0

    def extend(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        nonlocal steps
        steps += 1
        if len(order) == len(fitting):
            yield order
            return
        for i in fitting[len(order)]:
            if i not in order and steps < MOST_STEPS:
                yield from extend((*order, i))

    if all(fitting):
        yield from extend(())


def _same_set(allowed: Allowed, result: QueryResult) -> bool:
    """Whether the rows, each once, are those of a result that the gold allows."""
    rows = list(dict.fromkeys(result.rows))
    whole = list(dict.fromkeys(row for choice in allowed.choices if choice.is_whole for row in choice.rows))
    parts = [choice for choice in allowed.choices if not choice.is_whole]
    if not parts:
        return Allowed([Choice(whole, len(whole))]).accepts(rows)
    free = [row for row in rows if row not in whole]
    offered = {row for choice in parts for row in choice.rows}
    return set(whole) <= set(rows) and len(free) <= sum(choice.count for choice in parts) and offered.issuperset(free)


def without_distinct(query: Query) -> Query:
    """A copy of the query in which no SELECT and no aggregate is DISTINCT."""
    query = query.copy()
    for select in query.find_all(exp.Select):
        select.set("distinct", None)
    for distinct in list(query.find_all(exp.Distinct)):
        if len(distinct.expressions) == 1:
            distinct.replace(distinct.expressions[0].copy())
    return query


STRICT = Rule("strict", _same_rows)
PUBLISHED = (
    Rule("test-suite", _same_rows_in_any_columns, forgives_distinct=True, nulls_anywhere=False),
    Rule("bird", _same_set, nulls_anywhere=False, counts_rows=False),
)
RULES = (STRICT, *PUBLISHED)


def rule_of(name: str) -> Rule:
    """The rule of that name. Raises KeyError."""
    return {rule.name: rule for rule in RULES}[name]
