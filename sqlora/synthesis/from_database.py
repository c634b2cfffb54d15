"""Pairs of a query and questions about a live database: drawn, run, and kept where the result says something."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlora.databases.dialect import translate
from sqlora.databases.live import LiveDatabase
from sqlora.sql.parsing import SqlError, normalise_sql, parse_query
from sqlora.sql.sampling import Sampled, sample
from sqlora.sql.sandbox import Value
from sqlora.sql.schema import Table
from sqlora.synthesis import english
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.found_keys import with_found_keys
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import Names
from sqlora.synthesis.query_grammar import Grammar
from sqlora.synthesis.query_tree import COUNT, Link, Linked, Place, Query, Rows
from sqlora.synthesis.shapes import shape_of
from sqlora.system.errors import UserError

SECONDS = 2.0  # for a query
MOST_ROWS = 5_000  # of a result
MOST_ALIKE = 5  # queries that differ only in their values
MOST_DRAWN = 2_000  # queries that are drawn without a new one of a shape before it is given up
MOST_WAITING = 100  # of each other shape that came up meanwhile
CONSTANT = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")


@dataclass(frozen=True)
class Pair:
    """A query with several questions, each of which it answers."""

    query: Query
    sql: str
    shape: str
    questions: tuple[str, ...]


class Synthesis:
    """Pairs about a database, in these shares of shapes, by a seed.

    sampled: the schema with sample values. graph: the keys along which queries join. dropped: counts the queries that
    were drawn and left out, by reason. parts: counts the columns and keys that the pairs use. Raises UserError if no
    table has a row.

        with open_database("shop.sqlite", SECONDS) as live:
            pairs = itertools.islice(Synthesis(live, SPIDER, seed=0), 100)
    """

    def __init__(self, live: LiveDatabase, shares: Mapping[str, float], seed: int) -> None:
        self._live, self._shares = live, shares
        rows: dict[str, list[tuple[Value, ...]]] = {}

        def read(table: Table) -> list[tuple[Value, ...]]:
            rows[table.name] = live.first_rows(table)
            return rows[table.name]

        self.sampled: Sampled = sample(live.schema, read)
        schema = with_found_keys(live.schema, rows)
        self.graph = KeyGraph(schema)
        self._facts = facts_of(schema, rows)
        if not self._facts:
            raise UserError(
                "DATABASE (--database): no table has a row that can be read, and questions are made from rows; "
                "name a database that is filled"
            )
        self._names = Names(schema)
        self._generator = random.Random(seed)
        self._grammar = Grammar(schema, self.graph, self._facts, self._generator)
        self._childless: dict[Link, bool] = {}
        self.dropped: Counter[str] = Counter()
        self.parts: Counter[Place | Link] = Counter()

    def __iter__(self) -> Iterator[Pair]:
        """The pairs, until no shape has a new one. Raises UserError if the connection fails."""
        alike: Counter[str] = Counter()
        asked: set[str] = set()
        for query, sql, shape in self._drawn():
            form = CONSTANT.sub("?", normalise_sql(sql))
            if alike[form] == MOST_ALIKE:
                self.dropped["differ from others only in values"] += 1
                continue
            if fault := self._fault(query, sql):
                self.dropped[fault] += 1
                continue
            alike[form] += 1
            texts = english.questions(query, self._names, self.graph, self._facts, self._generator)
            if not (new := tuple(text for text in texts if text not in asked)):
                self.dropped["asked like another"] += 1
                continue
            asked.update(new)
            self.parts.update(query.parts())
            yield Pair(query, sql, shape, new)

    def _drawn(self) -> Iterator[tuple[Query, str, str]]:
        """Different queries in the shares of their shapes; one that the grammar does not draw any more is given up."""
        seen: set[Query] = set()
        waiting: dict[str, list[tuple[Query, str]]] = {shape: [] for shape in self._shares}
        drawn, last = 0, dict.fromkeys(self._shares, 0)  # queries in all, and until the last new one of a shape
        while waiting:
            (shape,) = self._generator.choices(list(waiting), [self._shares[one] for one in waiting])
            while not waiting[shape] and drawn - last[shape] < MOST_DRAWN:
                drawn += 1
                if (query := self._grammar.draw()) is None or query in seen:
                    continue
                other = shape_of(query.tree())
                last[other] = drawn
                if other in waiting and len(waiting[other]) < MOST_WAITING:
                    seen.add(query)
                    waiting[other].append((query, query.sql()))
            if waiting[shape]:
                yield *waiting[shape].pop(), shape
            else:
                del waiting[shape]

    def _fault(self, query: Query, sql: str) -> str | None:
        """Why a query is no good example, or None."""
        try:
            rows, has_more = self.run(sql)
            if has_more:
                return "huge result"
            if not any(value not in (0, None) for row in rows for value in row):
                return "empty result"
            if query.repeats_parents and len(set(rows)) < len(rows):
                return "rows that come twice"
            if query.counts_few and self._has_childless(query.rows.links[0]):
                return "rows that no other refers to"
            if query.group and any(None in row for row in rows):
                return "a missing value in a group"
            if query.group and len(rows) == 1 and not (query.having or query.order):
                return "one group only"
            found = Counter(rows)
            if any(Counter(self.run(weaker.sql())[0]) == found for weaker in query.weaker()):
                return "a condition that changes nothing"
            if query.order and query.order.limit is None and len(rows) == 1:
                return "a condition that changes nothing"
            if query.order and query.order.limit is not None:
                return self._fault_of_limit(query, query.order.limit)
        except SqlError as error:
            return {"timeout": "too slow", "too large": "huge result"}.get(error.kind, "does not run")
        return None

    def _has_childless(self, link: Link) -> bool:
        """Whether there are parents without children, which have the fewest but are not among joined rows."""
        if link not in self._childless:
            childless = Rows(link.parent.table, filters=(Linked(link, negated=True),))
            self._childless[link] = bool(self.run(Query(link.parent.table, childless, (COUNT,)).sql())[0][0][0])
        return self._childless[link]

    def _fault_of_limit(self, query: Query, limit: int) -> str | None:
        """Why the rows within a limit say little, or None."""
        keys = [row[-1] for row in self.run(query.with_key().sql())[0]]
        if len(keys) <= limit:
            return "a condition that changes nothing"
        if None in keys:
            return "a missing value that comes first"
        return "a tie at the limit" if keys[-1] == keys[-2] else None

    def run(self, sql: str) -> tuple[list[tuple[Value, ...]], bool]:
        """The first MOST_ROWS rows of a query in SQLite's SQL, and whether there are more. Raises SqlError."""
        reflected = self._live.reflected
        if reflected.dialect != "sqlite":
            query = parse_query(sql, reflected.schema)
            sql = translate(query, reflected.schema, reflected.dialect, reflected.quoted)
        result, has_more = self._live.run(sql, MOST_ROWS)
        return result.rows, has_more
