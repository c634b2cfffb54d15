"""A place between two words of a query that names nothing that its schema lacks: which words may follow, and to which
place each leads.

Columns stand before their tables: what the SELECT list names is remembered, and FROM cannot end before tables that have
it are there.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlglot

from sqlora.sql.schema import PLAIN_NAME, RESERVED, Schema

KEYWORDS = frozenset(
    "ALL AND AS ASC BETWEEN BY CASE CAST COLLATE CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DESC DISTINCT ELSE "
    "END ESCAPE EXCEPT EXISTS FALSE FIRST FROM FULL GLOB GROUP HAVING IN INNER INTERSECT INTERVAL IS ISNULL JOIN LAST "
    "LEFT LIKE LIMIT NATURAL NOCASE NOT NOTNULL NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION RIGHT ROWS SELECT "
    "THEN TRUE UNION USING WHEN WHERE WITH".split()
)
MORE_FUNCTIONS = "TOTAL IIF PRINTF TYPEOF INSTR JULIANDAY STRFTIME DATETIME RANDOM GLOB LIKELY UNICODE HEX ZEROBLOB"
ENDS_FROM = frozenset("WHERE GROUP HAVING ORDER LIMIT UNION INTERSECT EXCEPT".split())
NOT_IN_BRACKETS = ENDS_FROM - {"ORDER", "GROUP"} | {"FROM", "JOIN"}  # but of a query; OVER has an ORDER
SETS = frozenset("UNION INTERSECT EXCEPT".split())
ALIAS = re.compile(r"[a-z]\d{0,2}")  # the aliases that may stand before their tables
VALUES = frozenset(
    "END NULL TRUE FALSE ASC DESC NOCASE CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP ISNULL NOTNULL FIRST LAST".split()
)
ENDED = frozenset({"name", "value", ")"})  # an operand: only a keyword or an operator may follow
OPERANDS = frozenset({"name", "value", ")", "*", "table"}) | VALUES  # what a query may end with


class Names:
    """The tables and columns of a schema, and the functions of a dialect, in lower case."""

    def __init__(self, schema: Schema, dialect: str) -> None:
        self.tables = {
            table.name.lower(): frozenset(column.name.lower() for column in table.columns) for table in schema.tables
        }
        self.table_names = frozenset(self.tables)
        self.columns = frozenset[str]().union(*self.tables.values())
        self.functions = _functions(dialect)


@dataclass(frozen=True)
class Source:
    """A table or subquery of a FROM, by the name that its columns have; `columns` is None where they are not known."""

    alias: str
    columns: frozenset[str] | None
    is_named: bool = False  # by an alias


@dataclass(frozen=True)
class Scope:
    """A SELECT: its sources so far, the (qualifier, column) that were named before them, and its output's aliases."""

    clause: str = "select"  # then from, on, and rest
    sources: tuple[Source, ...] = ()
    wanted: frozenset[tuple[str, str]] = frozenset()
    outputs: frozenset[str] = frozenset()
    merges: bool = False  # columns of the same name, by USING or NATURAL


@dataclass(frozen=True, eq=False)
class Level:
    """What the text is within: the query, or a bracket, which holds a query once it has a `scope`. `is_source`: the
    bracket stands where a table may. What is found of it is kept, for places that share it.
    """

    known: Names
    parent: Level | None = None
    scope: Scope | None = None
    is_source: bool = False

    @property
    def query(self) -> Scope:
        """The innermost query."""
        if self.scope is not None:
            return self.scope
        assert self.parent is not None
        return self.parent.query

    @functools.cached_property
    def outer(self) -> tuple[Source, ...]:
        """The sources of the queries around the innermost one."""
        if self.parent is None:
            return ()
        return self.parent.outer if self.scope is None else self.parent.sources

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """What may be named here: the innermost query's sources, then those of the ones around it."""
        return (*self.query.sources, *self.outer)

    @functools.cached_property
    def is_complete(self) -> bool:
        """Whether the innermost query's sources have all that was named before them."""
        query = self.query
        for qualifier, column in query.wanted:
            owners = [source for source in self.sources if not qualifier or source.alias == qualifier]
            if not any(source.columns is None or column in source.columns for source in owners):
                return False
            if not qualifier and not query.merges and sum(column in (one.columns or ()) for one in query.sources) > 1:
                return False
        return True

    @functools.cached_property
    def columns(self) -> frozenset[str] | None:
        """Those that may stand here by their name alone; None where any may, since a source's are not known."""
        if self.scope is None:
            assert self.parent is not None
            return self.parent.columns
        if self.scope.clause == "select":
            return self.known.columns
        if any(source.columns is None for source in self.sources):
            return None
        own = Counter(column for source in self.scope.sources for column in source.columns or ())
        names = set(own).union(*(source.columns or () for source in self.outer))
        if not self.scope.merges:
            names -= {column for column, count in own.items() if count > 1}
        return frozenset(names | self.scope.outputs if self.scope.clause == "rest" else names)

    def columns_of(self, qualifier: str) -> frozenset[str] | None:
        """Those that may stand behind `qualifier` and a dot."""
        for source in self.sources:
            if source.alias == qualifier:
                return source.columns
        if qualifier in self.known.tables:
            return self.known.tables[qualifier]
        asked = {column for owner, column in self.query.wanted if owner == qualifier}
        return frozenset[str]().union(*(columns for columns in self.known.tables.values() if asked <= columns))

    def with_scope(self, scope: Scope) -> Level:
        return Level(self.known, self.parent, scope, self.is_source)

    def wanting(self, qualifier: str, column: str) -> Level:
        """The level once the innermost query has named a column before its table."""
        if self.scope is not None:
            return self.with_scope(replace(self.scope, wanted=self.scope.wanted | {(qualifier, column)}))
        assert self.parent is not None
        return replace(self, parent=self.parent.wanting(qualifier, column))


@dataclass(frozen=True, eq=False)
class Place:
    """Between two words: behind `before`, a keyword or a kind of word, within `level`."""

    before: str
    level: Level
    qualifier: str = ""
    ctes: frozenset[str] = frozenset()

    # What may stand here.

    @property
    def is_free(self) -> bool:
        """Whether any name may: an output's alias, a type, a CTE's name."""
        scope = self.level.scope
        if scope is not None and scope.clause == "with":
            return self.before in ("WITH", ",")
        return self.before == "AS" and (scope is None or scope.clause == "select")

    @property
    def wants_table(self) -> bool:
        scope = self.level.scope
        return scope is not None and scope.clause == "from" and self.before in ("FROM", "JOIN", ",")

    @property
    def wants_alias(self) -> bool:
        scope = self.level.scope
        if scope is None or scope.clause != "from" or not scope.sources:
            return False
        return self.before == "table" or (self.before == "AS" and not scope.sources[-1].is_named)

    @property
    def wants_name(self) -> bool:
        """Whether nothing but a table's or a column's name may."""
        return self.wants_table or self.before == "."

    @functools.cached_property
    def names(self) -> frozenset[str] | None:
        """The tables and CTEs, or the columns, that may; None for any."""
        if self.wants_table:
            return self.level.known.table_names | self.ctes
        return self.level.columns_of(self.qualifier) if self.before == "." else self.level.columns

    @functools.cached_property
    def keywords(self) -> frozenset[str]:
        scope, before = self.level.scope, self.before
        # Only what ends an operand can depend on the tables.
        is_complete = scope is not None and before in OPERANDS and self.level.is_complete
        return _keywords(before, scope.clause if scope else None, is_complete)

    @property
    def may_end(self) -> bool:
        return self.level.parent is None and self.before in OPERANDS and self.level.is_complete

    def begins(self, word: str) -> bool:
        """Whether the beginning of something that may stand here without quotes is `word`, in lower case."""
        if self.is_free:
            return True
        if self.wants_name:
            return self.names is None or _begins(_plain(self.names), word)
        if self.wants_alias:
            return self._may_be_alias(word) or (self.before == "table" and _begins(self.keywords, word.upper()))
        if _begins(self.keywords, word.upper()):
            return True
        if self.before in ENDED:
            return False
        if _begins(self.level.known.functions, word) or self.names is None or _begins(_plain(self.names), word):
            return True
        return self._begins_qualifier(word)

    def begins_quoted(self, quote: str, word: str) -> bool:
        """Whether the beginning of something that may stand here within quotes is `word`, in lower case."""
        if quote == "'" or (quote == '"' and not self.wants_name):
            return not self.wants_name  # a string
        return self.is_free or self.names is None or _begins(self.names, word)

    def _begins_qualifier(self, word: str) -> bool:
        if any(source.alias.startswith(word) for source in self.level.sources):
            return True
        return self.level.query.clause == "select" and (
            bool(ALIAS.fullmatch(word)) or _begins(_plain(self.level.known.table_names | self.ctes), word)
        )

    def _is_qualifier(self, word: str) -> bool:
        if any(source.alias == word for source in self.level.sources):
            return True
        # In ON a table may be named before it is joined; elsewhere behind FROM all are there.
        return self.level.query.clause == "select" and (
            word in self.level.known.tables or word in self.ctes or bool(ALIAS.fullmatch(word))
        )

    def _may_be_alias(self, word: str) -> bool:
        """Whether the last source may be called so: what it was called before it must have its columns."""
        scope = self.level.query
        if any(source.alias == word for source in scope.sources[:-1]):
            return False
        asked = {column for owner, column in scope.wanted if owner == word}
        if self.before == "table" and not asked and not ALIAS.fullmatch(word):
            return False  # without AS it would be a keyword with a letter wrong
        columns = scope.sources[-1].columns
        return columns is None or asked <= columns

    # Where it leads.

    def behind(self, before: str) -> Place:
        """Behind a sign, or a word that binds nothing."""
        return Place(before, self.level, self.qualifier if before == "." else "", self.ctes)

    def word(self, word: str) -> Place | None:
        """Behind an unquoted word, in lower case, or None if it may not stand here."""
        if self.is_free:
            return self._free(word)
        if not self.wants_name:
            upper = word.upper()
            if upper in KEYWORDS and not (self.wants_alias and self.before == "AS"):
                return self._keyword(upper)
            if self.before in ENDED and not self.wants_alias:
                return None
        named = self._name(word)
        if named is not None or self.wants_name or word not in self.level.known.functions:
            return named
        return self.behind("function")

    def quoted(self, quote: str, word: str) -> Place | None:
        """Behind a quoted word, in lower case."""
        if quote == "'":
            return None if self.wants_name else self.behind("value")
        if self.is_free:
            return self.behind("name")
        named = self._name(word)
        if named is None and quote == '"' and not self.wants_name and self.before != "AS":
            return self.behind("value")  # a string, as SQLite reads it
        return named

    def qualify(self, word: str) -> Place | None:
        """Behind a name, in lower case, and a dot."""
        if self.wants_name or not self._is_qualifier(word):
            return None
        return Place(".", self.level, word, self.ctes)

    def open(self) -> Place:
        """Behind an opening bracket."""
        return Place("(", Level(self.level.known, self.level, None, self.wants_table), "", self.ctes)

    def close(self) -> Place | None:
        """Behind a closing bracket."""
        level = self.level
        if level.parent is None or self.before not in OPERANDS | {"("}:
            return None
        if level.scope is not None and (self.before not in OPERANDS or not level.is_complete):
            return None
        if level.is_source and level.scope is not None:
            outside = level.parent.scope
            assert outside is not None
            source = Source("", None)
            return Place(
                "table",
                level.parent.with_scope(replace(outside, sources=(*outside.sources, source))),
                "",
                self.ctes,
            )
        return Place(")", level.parent, "", self.ctes)

    def comma(self) -> Place | None:
        if self.before not in OPERANDS:
            return None
        scope = self.level.scope
        if scope and scope.clause == "on":
            return self._within(",", replace(scope, clause="from"))
        return self.behind(",")

    def _within(self, before: str, scope: Scope) -> Place:
        return Place(before, self.level.with_scope(scope), "", self.ctes)

    def _free(self, word: str) -> Place:
        scope = self.level.scope
        if scope is None:
            return self.behind("name")
        if self.before == "AS":
            return self._within("name", replace(scope, outputs=scope.outputs | {word}))
        return Place("name", self.level, "", self.ctes | {word})

    def _keyword(self, word: str) -> Place | None:
        if word not in self.keywords:
            return None
        scope = self.level.scope
        if scope is None:
            return self._within(word, Scope()) if word == "SELECT" else self.behind(word)
        if word in ("SELECT", "WITH", "FROM"):
            return self._within(word, replace(scope, clause=word.lower()))
        if word in SETS:
            return self._within(word, Scope())
        if word in ENDS_FROM:
            return self._within(word, replace(scope, clause="rest"))
        if word in ("JOIN", "ON", "USING"):
            clause = "from" if word == "JOIN" else "on"
            return self._within(word, replace(scope, clause=clause, merges=scope.merges or word == "USING"))
        if word == "NATURAL":
            return self._within(word, replace(scope, merges=True))
        return self.behind(word)

    def _name(self, word: str) -> Place | None:
        """Behind a name, with what it binds or asks for."""
        level, scope = self.level, self.level.query
        if self.wants_table:
            columns = level.known.tables.get(word)
            if columns is None and word not in self.ctes:
                return None
            return self._within("table", replace(scope, sources=(*scope.sources, Source(word, columns))))
        if self.wants_alias:
            if not self._may_be_alias(word):
                return None
            named = replace(scope.sources[-1], alias=word, is_named=True)
            return self._within("name", replace(scope, sources=(*scope.sources[:-1], named)))
        if self.names is not None and word not in self.names:
            return None
        qualifier = self.qualifier if self.before == "." else ""
        is_early = scope.clause == "select" and word in level.known.columns
        if is_early and not any(source.alias == qualifier for source in level.outer):
            level = level.wanting(qualifier, word)
        return Place("name", level, "", self.ctes)


@functools.cache
def _keywords(before: str, clause: str | None, is_complete: bool) -> frozenset[str]:
    """Those that may follow in a clause, None for a bracket that holds no query. `is_complete`: an operand is before,
    and FROM may end.
    """

    def may_follow(word: str) -> bool:
        if word == "SELECT":
            if clause is None:
                return before == "("
            return before in ("", "ALL", *SETS) or (before == ")" and clause == "with")
        if word == "WITH":
            return before == ""
        if clause is None:
            return word not in NOT_IN_BRACKETS
        if word == "FROM":
            return clause == "select" and before in OPERANDS
        if word in ENDS_FROM:
            return is_complete
        return word not in ("JOIN", "ON", "USING") or clause in ("from", "on")

    return frozenset(filter(may_follow, KEYWORDS))


def _begins(names: frozenset[str], word: str) -> bool:
    """Whether a name begins with the word."""
    ordered = _ordered(names)
    place = bisect.bisect_left(ordered, word)
    return place < len(ordered) and ordered[place].startswith(word)


@functools.lru_cache(maxsize=4096)
def _ordered(names: frozenset[str]) -> list[str]:
    return sorted(names)


@functools.lru_cache(maxsize=4096)
def _plain(names: frozenset[str]) -> frozenset[str]:
    """The names that need no quotes."""
    return frozenset(name for name in names if PLAIN_NAME.fullmatch(name) and name.upper() not in RESERVED)


@functools.cache
def _functions(dialect: str) -> frozenset[str]:
    known: Iterable[str] = sqlglot.Dialect.get_or_raise(dialect).parser_class.FUNCTIONS
    return frozenset(name.lower() for name in (*known, *MORE_FUNCTIONS.split()))
