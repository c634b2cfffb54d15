"""What the SELECTs of a query, as far as it is written, have named, and which names may follow.

Columns stand before their tables: what the SELECT list names is remembered, and FROM cannot end before tables that have
it are there.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlora.sql.functions import Function
from sqlora.sql.schema import Schema


class Names:
    """The tables and columns of a schema, in lower case.

    `strict`: aggregates and window functions stand where they may, and queries that are combined have as many columns.
    """

    def __init__(self, schema: Schema, strict: bool) -> None:
        self.strict = strict
        self.tables = {
            table.name.lower(): frozenset(column.name.lower() for column in table.columns) for table in schema.tables
        }
        self.table_names = frozenset(self.tables)
        self.columns = frozenset[str]().union(*self.tables.values())


@dataclass(frozen=True)
class Source:
    """A table or subquery of a FROM, by the name that its columns have, or what WITH calls a query."""

    alias: str
    columns: frozenset[str]
    merged: frozenset[str] = frozenset()  # with columns of sources before it, by NATURAL or USING


def columns_of(sources: Sequence[Source]) -> frozenset[str]:
    """The columns of all of the sources."""
    return frozenset[str]().union(*(source.columns for source in sources))


def ambiguous(sources: Sequence[Source]) -> frozenset[str]:
    """The columns that several of the sources have, and no join merged."""
    counts = Counter(column for source in sources for column in source.columns - source.merged)
    return frozenset(column for column, count in counts.items() if count > 1)


@dataclass(frozen=True)
class Scope:
    """A SELECT: its sources so far, the (qualifier, column) that were named before them, with the column * for all of
    them, and what it gives.
    """

    clause: str = "select"  # or with, or another of CLAUSES
    sources: tuple[Source, ...] = ()
    wanted: frozenset[tuple[str, str]] = frozenset()
    outputs: frozenset[str] = frozenset()  # aliases
    given: frozenset[str] = frozenset()  # the names of its columns, but for *
    width: int = 1  # columns so far
    due: int = 0  # columns that it must have; 0: any number
    is_natural: bool = False  # the last join
    has_groups: bool = False  # or aggregates


@dataclass(frozen=True, eq=False)
class Level:
    """What the text is within: a query, or a bracket of a kind, or a CASE or BETWEEN. What is found of it is kept, for
    places that share it.
    """

    known: Names
    kind: str = "query"
    parent: Level | None = None
    scope: Scope | None = None  # of a query
    outside: str = ""  # of a query: the kind of its bracket
    function: Function | None = None  # of a call
    arguments: int = 1  # of a call so far
    name: str = ""  # of a query that WITH calls so

    @property
    def clause(self) -> str:
        """Of a query."""
        return self.scope.clause if self.scope is not None else ""

    @property
    def query(self) -> Scope:
        """The innermost query."""
        level: Level | None = self
        while level is not None and level.scope is None:
            level = level.parent
        assert level is not None
        assert level.scope is not None
        return level.scope

    @functools.cached_property
    def outer(self) -> tuple[Source, ...]:
        """The sources of the queries around the innermost one."""
        if self.parent is None or self.outside == "with":
            return ()
        return self.parent.outer if self.scope is None or self.outside == "source" else self.parent.sources

    @functools.cached_property
    def outer_columns(self) -> frozenset[str]:
        """What these have, by their name alone."""
        if self.parent is None or self.outside == "with":
            return frozenset()
        is_apart = self.scope is None or self.outside == "source" or self.parent.query.clause == "select"
        return self.parent.outer_columns if is_apart else self.parent.columns

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """What may be named here: the innermost query's sources, then those of the ones around it."""
        return (*self.query.sources, *self.outer)

    @functools.cached_property
    def is_complete(self) -> bool:
        """Whether the innermost query may end after its sources: they have all that was named before them."""
        query = self.query
        if self.clashes or self.unmerged or (self.known.strict and query.due and query.width != query.due):
            return False
        if self.known.strict and query.has_groups and not query.sources and self.parent is not None:
            return False  # the aggregate would be the outer query's
        return not self.missing

    @functools.cached_property
    def missing(self) -> frozenset[tuple[str, str]]:
        """What the innermost query named and its sources so far lack."""
        return frozenset(
            (qualifier, column) for qualifier, column in self.query.wanted if not self._has(qualifier, column)
        )

    def _has(self, qualifier: str, column: str) -> bool:
        if column == "*":
            return any(not qualifier or source.alias == qualifier for source in self.query.sources)
        if not qualifier:
            return column in self.joined or column in self.outer_columns
        return any(source.alias == qualifier and column in source.columns for source in self.sources)

    @property
    def width(self) -> int:
        """The number of columns that the query gives."""
        query = self.query
        starred = [owner for owner, column in query.wanted if column == "*"]
        stars = [len(source.columns) for owner in starred for source in query.sources if owner in ("", source.alias)]
        return query.width - len(starred) + sum(stars)

    @functools.cached_property
    def clashes(self) -> bool:
        """Whether the last source is called as another one, so that it needs an alias."""
        *others, last = self.query.sources or (Source("", frozenset()),)
        return bool(last.alias) and any(source.alias == last.alias for source in others)

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """Those that may stand here by their name alone."""
        if self.scope is None:
            assert self.parent is not None
            return self.parent.columns
        if self.scope.clause == "select":
            return self.known.columns
        names = set(self.joined | self.outer_columns) - self.ambiguous
        if self.scope.clause in ("having", "order") or (self.scope.clause != "on" and not self.scope.has_groups):
            names |= self.scope.outputs
        return frozenset(names)

    def columns_of(self, qualifier: str) -> frozenset[str]:
        """Those that may stand behind `qualifier` and a dot."""
        for source in self.sources:
            if source.alias == qualifier:
                return source.columns
        if qualifier in self.known.tables:
            return self.known.tables[qualifier]
        asked = {column for owner, column in self.query.wanted if owner == qualifier} - {"*"}
        return frozenset[str]().union(*(columns for columns in self.known.tables.values() if asked <= columns))

    @functools.cached_property
    def ambiguous(self) -> frozenset[str]:
        """The columns that several of the innermost query's sources have, so that they need a qualifier."""
        return ambiguous(self.query.sources)

    def may_join(self, columns: frozenset[str], is_listed: bool = False) -> bool:
        """Whether a source with these columns may be the next: USING can merge one that was named alone, but where it
        `is_listed` behind a comma; NATURAL merges all, but not with several others.
        """
        if self.query.is_natural:
            return not columns & self.ambiguous
        return len(self.clashing(columns)) <= (0 if is_listed else 1)

    @functools.cached_property
    def joined(self) -> frozenset[str]:
        """The columns of the innermost query's sources so far."""
        return columns_of(self.query.sources)

    def joining(self, source: Source) -> Level:
        """The level with a source more."""
        if self.query.is_natural:
            source = replace(source, merged=self.joined & source.columns)
        return self.changed(sources=(*self.query.sources, source))

    def clashing(self, columns: frozenset[str]) -> frozenset[str]:
        """Those among a source's columns that were named alone and are there already."""
        if self.query.is_natural:
            return frozenset()
        return frozenset(column for owner, column in self.query.wanted if not owner and column in columns & self.joined)

    @functools.cached_property
    def mergeable(self) -> frozenset[str]:
        """The columns that USING may name for the last source."""
        *others, last = self.query.sources
        return columns_of(others) & last.columns - ambiguous(others)

    @functools.cached_property
    def unmerged(self) -> frozenset[str]:
        """The columns that USING must merge for the last source: they were named alone and are there twice."""
        *others, last = self.query.sources or (Source("", frozenset()),)
        again = (last.columns - last.merged) & columns_of(others)
        return frozenset(column for owner, column in self.query.wanted if not owner and column in again)

    def given(self, last: frozenset[str]) -> frozenset[str]:
        """The names of the columns that the query gives, with `last`, that of its last item, if it has one."""
        query = self.query
        starred = [owner for owner, column in query.wanted if column == "*"]
        stars = (one.columns for one in query.sources if "" in starred or one.alias in starred)
        return query.given.union(*stars, last)

    @property
    def in_aggregate(self) -> bool:
        """Whether an aggregate's bracket is open within the innermost query."""
        return any(level.function is not None and level.function.is_aggregate for level in self._open)

    @property
    def in_window(self) -> bool:
        """Whether a bracket behind OVER is."""
        return any(level.kind in ("over", "partition", "sorting") for level in self._open)

    @property
    def _open(self) -> Iterator[Level]:
        """The levels within the innermost query."""
        level: Level | None = self
        while level is not None and level.scope is None:
            yield level
            level = level.parent

    def inside(self, kind: str, function: Function | None = None) -> Level:
        return Level(self.known, kind, self, function=function)

    def changed(self, **changes) -> Level:
        """The level with another scope."""
        assert self.scope is not None
        return replace(self, scope=replace(self.scope, **changes))

    def querying(self, **changes) -> Level:
        """The level with another scope of the innermost query."""
        if self.scope is not None:
            return self.changed(**changes)
        assert self.parent is not None
        return replace(self, parent=self.parent.querying(**changes))
