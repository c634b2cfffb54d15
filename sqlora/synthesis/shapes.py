"""The shape of a query: how many tables, which clauses; and the shares that shapes have among people's queries."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from sqlglot import exp

from sqlora.sql.parsing import own_tables

MOST_TABLES = 3  # that are told apart
# Shares in percent of the shapes of 3,048 of Spider's queries, in sql-create-context's spelling, counted in November
# 2026; those below 0.2 % are left out.
SPIDER = {
    "1 where": 11.0,
    "1 aggregate": 9.3,
    "2 where": 6.9,
    "1 order": 4.8,
    "1 aggregate group": 4.6,
    "1 where aggregate": 4.5,
    "1 order limit": 4.0,
    "1 where nested": 3.9,
    "1": 3.8,
    "2 group order limit": 3.7,
    "1 group order limit": 3.3,
    "2 where aggregate": 3.1,
    "2 aggregate group": 2.9,
    "3 where": 2.5,
    "2 group having": 2.2,
    "1 group having": 2.1,
    "1 except": 1.9,
    "1 distinct": 1.9,
    "2": 1.7,
    "1 where nested aggregate": 1.5,
    "2 where distinct": 1.3,
    "1 where intersect": 1.3,
    "2 order limit": 1.2,
    "2 where intersect": 1.1,
    "1 where distinct": 0.8,
    "1 where aggregate group": 0.7,
    "3": 0.7,
    "3 where intersect": 0.7,
    "3 where aggregate": 0.6,
    "1 where order": 0.6,
    "1 aggregate group order limit": 0.6,
    "2 where nested": 0.6,
    "2 order": 0.6,
    "2 aggregate group order limit": 0.5,
    "3 where distinct": 0.5,
    "3 order": 0.4,
    "2 distinct": 0.4,
    "1 order distinct": 0.4,
    "3 group order limit": 0.4,
    "2 where group order limit": 0.3,
    "1 aggregate group order": 0.3,
    "1 where group order limit": 0.3,
    "3 aggregate group": 0.3,
    "3 order limit": 0.3,
    "1 aggregate group having": 0.3,
    "1 where union": 0.3,
    "1 where except": 0.3,
    "2 where aggregate group": 0.3,
    "2 where order": 0.2,
    "3 group having": 0.2,
    "1 where order limit": 0.2,
    "1 where group having": 0.2,
    "2 aggregate group having": 0.2,
    "1 union": 0.2,
    "3 where nested": 0.2,
    "2 where group having": 0.2,
    "3 where except": 0.2,
    "1 where nested distinct": 0.2,
    "2 aggregate group order": 0.2,
}


def shape_of(query: exp.Query) -> str:
    """The number of tables and the clauses of a query, such as "2 where order limit"; of a set operation those of its
    first part, with its own name.

    >>> shape_of(sqlglot.parse_one("SELECT a FROM t WHERE b = 1 UNION SELECT c FROM u"))
    '1 where union'
    """
    first: exp.Expr = query
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    where = first.args.get("where")
    has = {
        "where": where is not None,
        "nested": where is not None and where.find(exp.Query) is not None,
        "aggregate": any(one.find(exp.AggFunc) for one in getattr(first, "selects", ())),
        "group": first.args.get("group") is not None,
        "having": first.args.get("having") is not None,
        "order": query.args.get("order") is not None,
        "limit": query.args.get("limit") is not None,
        "distinct": first.args.get("distinct") is not None,
    }
    words = [str(min(len(own_tables(first)), MOST_TABLES)), *(name for name, is_there in has.items() if is_there)]
    return " ".join([*words, type(query).__name__.lower()] if isinstance(query, exp.SetOperation) else words)


def learned_shares(queries: Iterable[exp.Query]) -> dict[str, float]:
    """The share in percent of each shape among some queries, the most frequent first."""
    counted = Counter(map(shape_of, queries))
    return {shape: 100 * count / counted.total() for shape, count in counted.most_common()}


def held_out_shapes(shares: Mapping[str, float], share: float, generator: random.Random) -> set[str]:
    """Shapes drawn by `generator` that have about `share` of 100 percent together, none of them one of the larger."""
    held: set[str] = set()
    wanted = share * sum(shares.values())
    rare = [shape for shape, of_all in shares.items() if of_all <= wanted / 2]
    for shape in generator.sample(rare, len(rare)):
        if sum(shares[one] for one in held) + shares[shape] <= wanted:
            held.add(shape)
    return held
