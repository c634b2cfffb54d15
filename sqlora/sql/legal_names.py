"""Which text may continue a query so that it names nothing that its schema lacks: read from left to right, as it is
written.

Only names are held to the schema; the grammar, literals and aliases are free. Columns stand before their tables: what
the SELECT list names is remembered, and FROM cannot end before tables that have it are there. So every beginning that
is allowed can be finished.
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
KEYWORDS_LOWER = frozenset(word.lower() for word in KEYWORDS)
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
PART = re.compile(r"[\w$]+|.", re.DOTALL)
CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]"}


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


@dataclass(frozen=True)
class Level:
    """What a bracket holds: a query, once it has a `scope`. `is_source`: it stands where a table may."""

    scope: Scope | None = None
    is_source: bool = False


@dataclass(frozen=True)
class State:
    """Where the text stands: in a word, in quotes or just behind `closed` ones, behind `before`, within brackets."""

    word: str = ""
    quote: str = ""
    closed: str = ""
    before: str = ""
    qualifier: str = ""
    levels: tuple[Level, ...] = (Level(Scope()),)
    ctes: frozenset[str] = frozenset()
    is_over: bool = False  # behind its semicolon


class NameGuard:
    """The rules for one schema.

    guard = NameGuard(parse_schema(context))
    state = guard.after(guard.start, "SELECT na")   # None if no legal query begins so
    guard.may_end(state)
    """

    start = State()

    def __init__(self, schema: Schema, dialect: str = "sqlite") -> None:
        self.tables = {
            table.name.lower(): frozenset(column.name.lower() for column in table.columns) for table in schema.tables
        }
        self.columns = frozenset[str]().union(*self.tables.values())
        self.functions = _functions(dialect)

    def after(self, state: State, text: str) -> State | None:
        """The state after further text; None if nothing legal begins so."""
        for part in PART.findall(text):
            stepped = self._step(state, part)
            if stepped is None:
                return None
            state = stepped
        return state if self._word_may_grow(state) else None

    def may_end(self, state: State) -> bool:
        """Whether the text so far is a whole query."""
        ended = self._finish_word(state, " ")
        if ended is None or ended.quote or len(ended.levels) > 1:
            return False
        return ended.is_over or (ended.before in OPERANDS and self._is_complete(ended.levels))

    # Characters.

    def _step(self, state: State, char: str) -> State | None:
        """The state after a part of PART: a run of letters and digits, or another character."""
        if state.quote:
            return self._in_quotes(state, char)
        if state.is_over:
            return state if char.isspace() else None
        if len(char) > 1 or char.isalnum() or char in "_$" or (char == "." and state.word[:1].isdigit()):
            return None if state.before == "function" or state.closed else replace(state, word=state.word + char)
        ended = self._finish_word(state, char)
        if ended is None or char.isspace():
            return ended
        if ended.before == "function" and char != "(":
            return None
        if char in CLOSING:
            if ended.before in ("name", "value") and char == "[":
                return None
            return replace(ended, quote=char)
        if char == "(":
            return replace(ended, before="(", levels=(*ended.levels, Level(None, self._wants_table(ended))))
        if char == ")":
            return self._close(ended)
        if char == ".":
            return ended if ended.before == "." else None
        if char == ";":
            return replace(ended, is_over=True) if self.may_end(ended) else None
        if char == ",":
            if ended.before not in OPERANDS:
                return None
            scope = ended.levels[-1].scope
            if scope and scope.clause == "on":
                ended = _with_scope(ended, replace(scope, clause="from"))
            return replace(ended, before=",")
        if char == "*" and ended.before in ("SELECT", "(", ",", ".", "DISTINCT"):
            return replace(ended, before="*")
        if char in "=<>!+-*/%|&~":
            if ended.before == char == "-":
                return None  # a comment
            return replace(ended, before=char if char == "-" else "operator")
        return None

    def _in_quotes(self, state: State, char: str) -> State:
        if char == CLOSING[state.quote]:
            return replace(state, quote="", closed=state.quote)
        return replace(state, word=state.word + char)

    # Words.

    def _word_may_grow(self, state: State) -> bool:
        """Whether the unfinished word, or quoted name, is the beginning of one that may stand here."""
        word = state.word.lower()
        if state.closed:
            return any(self._finish_word(state, char) is not None for char in " .")
        if not word or state.word[0].isdigit():
            return not word or not (self._wants_table(state) or state.before == ".")
        if state.quote:
            if state.quote == "'" or (state.quote == '"' and not self._wants_table(state) and state.before != "."):
                return True
            names = frozenset(self.tables) | state.ctes if self._wants_table(state) else self._names_here(state)
            return names is None or _begins(names, word)
        if self._is_free(state):
            return True
        if state.before == ".":
            names = self._names_here(state)
            return names is None or _begins(_plain(names), word)
        if self._wants_table(state):
            return _begins(_plain(frozenset(self.tables) | state.ctes), word)
        if self._wants_alias(state):
            return self._may_be_alias(state, word) or (state.before == "table" and self._begins_keyword(state, word))
        if state.before in ENDED:
            return self._begins_keyword(state, word)
        if self._begins_keyword(state, word) or _begins(self.functions, word):
            return True
        names = self._names_here(state)
        return names is None or _begins(_plain(names), word) or self._begins_qualifier(state, word)

    def _finish_word(self, state: State, char: str) -> State | None:
        """The state once the word before `char` is complete."""
        if state.closed:
            return self._finish_quotes(state, char)
        if not state.word:
            return state
        word, upper = state.word.lower(), state.word.upper()
        outside = replace(state, word="")
        if word[0].isdigit():
            return replace(outside, before="value") if word[-1] != "." else None
        if self._is_free(state):
            scope = state.levels[-1].scope
            if scope and scope.clause == "with" and state.before in ("WITH", ","):
                return replace(outside, before="name", ctes=state.ctes | {word})
            if state.before == "AS" and scope:
                outside = _with_scope(outside, replace(scope, outputs=scope.outputs | {word}))
            return replace(outside, before="name")
        if char == ".":
            return self._qualify(outside, word)
        wants_name = state.before == "." or self._wants_table(state)
        if not wants_name and upper in KEYWORDS and not (self._wants_alias(state) and state.before == "AS"):
            return self._keyword(outside, upper)
        if state.before in ENDED and not self._wants_alias(state):
            return None
        named = self._name(outside, word)
        if named is not None or wants_name or word not in self.functions:
            return named
        return replace(outside, before="function")

    def _finish_quotes(self, state: State, char: str) -> State | None:
        quote, word = state.closed, state.word.lower()
        outside = replace(state, word="", closed="")
        if quote == "'":
            return replace(outside, before="value")
        if self._is_free(state):
            return replace(outside, before="name")
        if char == ".":
            return self._qualify(outside, word)
        named = self._name(outside, word)
        if named is None and quote == '"' and not self._wants_table(outside) and outside.before not in (".", "AS"):
            return replace(outside, before="value")  # a string, as SQLite reads it
        return named

    def _keyword(self, state: State, word: str) -> State | None:
        level = state.levels[-1]
        if word == "SELECT" and level.scope is None and state.before == "(":
            levels = (*state.levels[:-1], replace(level, scope=Scope()))
            return replace(state, before=word, levels=levels)
        scope = level.scope
        if word == "WITH" and scope == Scope():
            return _with_scope(replace(state, before=word), replace(scope, clause="with"))
        if word == "SELECT":
            if scope is None or state.before not in ("", "ALL", *SETS, *((")",) if scope.clause == "with" else ())):
                return None
            return _with_scope(replace(state, before=word), replace(scope, clause="select"))
        if scope is None:
            return None if word in NOT_IN_BRACKETS else replace(state, before=word)
        if word == "FROM":
            if scope.clause != "select" or state.before not in OPERANDS:
                return None
            return _with_scope(replace(state, before=word), replace(scope, clause="from"))
        if word in ENDS_FROM:
            if state.before not in OPERANDS or not self._is_complete(state.levels):
                return None
            rest = Scope() if word in SETS else replace(scope, clause="rest")
            return _with_scope(replace(state, before=word), rest)
        if word in ("JOIN", "ON", "USING"):
            if scope.clause not in ("from", "on"):
                return None
            merges = scope.merges or word == "USING"
            clause = "from" if word == "JOIN" else "on"
            return _with_scope(replace(state, before=word), replace(scope, clause=clause, merges=merges))
        if word == "NATURAL":
            return _with_scope(replace(state, before=word), replace(scope, merges=True))
        return replace(state, before=word)

    def _name(self, state: State, word: str) -> State | None:
        """The state after a name, with what it binds or asks for."""
        scope = state.levels[-1].scope
        if self._wants_table(state):
            columns = self.tables.get(word)
            if columns is None and word not in state.ctes:
                return None
            assert scope is not None
            source = Source(word, columns)
            return _with_scope(replace(state, before="table"), replace(scope, sources=(*scope.sources, source)))
        if self._wants_alias(state):
            assert scope is not None
            if not self._may_be_alias(state, word):
                return None
            named = replace(scope.sources[-1], alias=word, is_named=True)
            return _with_scope(replace(state, before="name"), replace(scope, sources=(*scope.sources[:-1], named)))
        names = self._names_here(state)
        if names is not None and word not in names:
            return None
        qualifier = state.qualifier if state.before == "." else ""
        place = _query_place(state.levels)
        inner = state.levels[place].scope
        is_early = inner is not None and inner.clause == "select" and word in self.columns
        if is_early and not any(source.alias == qualifier for source in self._outer(state.levels)):
            assert inner is not None
            wanted = replace(state.levels[place], scope=replace(inner, wanted=inner.wanted | {(qualifier, word)}))
            state = replace(state, levels=(*state.levels[:place], wanted, *state.levels[place + 1 :]))
        return replace(state, before="name", qualifier="")

    def _qualify(self, state: State, word: str) -> State | None:
        if self._wants_table(state) or state.before == "." or not self._is_qualifier(state, word):
            return None
        return replace(state, before=".", qualifier=word)

    # What may stand where.

    def _is_free(self, state: State) -> bool:
        """Whether any name may stand here: an output's alias, a type, a CTE's name."""
        level = state.levels[-1]
        if level.scope is not None and level.scope.clause == "with":
            return state.before in ("WITH", ",")
        return state.before == "AS" and (level.scope is None or level.scope.clause == "select")

    def _wants_table(self, state: State) -> bool:
        scope = state.levels[-1].scope
        return scope is not None and scope.clause == "from" and state.before in ("FROM", "JOIN", ",")

    def _wants_alias(self, state: State) -> bool:
        scope = state.levels[-1].scope
        if scope is None or scope.clause != "from" or not scope.sources:
            return False
        return state.before == "table" or (state.before == "AS" and not scope.sources[-1].is_named)

    def _may_be_alias(self, state: State, word: str) -> bool:
        """Whether the last source may be called so: what it was called before it must have its columns."""
        scope = state.levels[-1].scope
        assert scope is not None
        if any(source.alias == word for source in scope.sources[:-1]):
            return False
        columns = scope.sources[-1].columns
        asked = {column for owner, column in scope.wanted if owner == word}
        if state.before == "table" and not asked and not ALIAS.fullmatch(word):
            return False  # without AS it would be a keyword with a letter wrong
        return columns is None or asked <= columns

    def _begins_keyword(self, state: State, word: str) -> bool:
        """Whether a keyword that may stand here begins with the word."""
        outside = replace(state, word="")
        return any(
            keyword.startswith(word) and self._keyword(outside, keyword.upper()) is not None
            for keyword in KEYWORDS_LOWER
        )

    def _names_here(self, state: State) -> frozenset[str] | None:
        """The columns that may stand here; None where any may, since a source's are not known."""
        place = _query_place(state.levels)
        scope = state.levels[place].scope
        assert scope is not None
        outer = self._outer(state.levels)
        if state.before == ".":
            return self._columns_of(state.qualifier, scope, outer)
        if scope.clause == "select":
            return self.columns
        sources = (*scope.sources, *outer)
        if any(source.columns is None for source in sources):
            return None
        own = [column for source in scope.sources for column in source.columns or ()]
        known = frozenset(own).union(*(source.columns or () for source in outer))
        if not scope.merges:
            known -= {column for column, count in Counter(own).items() if count > 1}
        return known | scope.outputs if scope.clause == "rest" else known

    def _columns_of(self, qualifier: str, scope: Scope, outer: tuple[Source, ...]) -> frozenset[str] | None:
        for source in (*scope.sources, *outer):
            if source.alias == qualifier:
                return source.columns
        if qualifier in self.tables:
            return self.tables[qualifier]
        asked = {column for owner, column in scope.wanted if owner == qualifier}
        return frozenset[str]().union(*(columns for columns in self.tables.values() if asked <= columns))

    def _is_qualifier(self, state: State, word: str) -> bool:
        place = _query_place(state.levels)
        scope = state.levels[place].scope
        assert scope is not None
        if any(source.alias == word for source in (*scope.sources, *self._outer(state.levels))):
            return True
        # In ON a table may be named before it is joined; elsewhere behind FROM all are there.
        return scope.clause == "select" and (word in self.tables or word in state.ctes or bool(ALIAS.fullmatch(word)))

    def _begins_qualifier(self, state: State, word: str) -> bool:
        place = _query_place(state.levels)
        scope = state.levels[place].scope
        assert scope is not None
        if any(source.alias.startswith(word) for source in (*scope.sources, *self._outer(state.levels))):
            return True
        return scope.clause == "select" and (
            bool(ALIAS.fullmatch(word)) or _begins(_plain(frozenset(self.tables) | state.ctes), word)
        )

    def _outer(self, levels: tuple[Level, ...]) -> tuple[Source, ...]:
        """The sources of the queries around the innermost one."""
        place = _query_place(levels)
        return tuple(source for level in levels[:place] if level.scope for source in level.scope.sources)

    def _is_complete(self, levels: tuple[Level, ...]) -> bool:
        """Whether the innermost query's sources have all that was named before them."""
        scope = levels[_query_place(levels)].scope
        assert scope is not None
        sources = (*scope.sources, *self._outer(levels))
        for qualifier, column in scope.wanted:
            owners = [source for source in sources if not qualifier or source.alias == qualifier]
            if not any(source.columns is None or column in source.columns for source in owners):
                return False
            if (
                not qualifier
                and not scope.merges
                and sum(column in (source.columns or ()) for source in scope.sources) > 1
            ):
                return False
        return True

    def _close(self, state: State) -> State | None:
        level = state.levels[-1]
        if len(state.levels) == 1:
            return None
        if level.scope is not None and (state.before not in OPERANDS or not self._is_complete(state.levels)):
            return None
        if state.before not in OPERANDS | {"("}:
            return None
        closed = replace(state, before=")", levels=state.levels[:-1])
        if level.is_source and level.scope is not None:
            scope = closed.levels[-1].scope
            assert scope is not None
            source = Source("", None)
            return _with_scope(replace(closed, before="table"), replace(scope, sources=(*scope.sources, source)))
        return closed


def _query_place(levels: tuple[Level, ...]) -> int:
    """The place of the innermost query among the brackets."""
    return next(place for place in range(len(levels) - 1, -1, -1) if levels[place].scope is not None)


def _with_scope(state: State, scope: Scope) -> State:
    return replace(state, levels=(*state.levels[:-1], replace(state.levels[-1], scope=scope)))


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
