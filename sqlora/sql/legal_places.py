"""A place between two words of a query that names nothing that its schema lacks: which words may follow, and to which
place each leads.
"""

from __future__ import annotations

import bisect
import functools
import re
from dataclasses import dataclass, replace

from sqlora.sql.functions import functions
from sqlora.sql.legal_scopes import Level, Scope, Source
from sqlora.sql.legal_words import (
    CASES,
    CONSTANTS,
    ENDED,
    JOINS,
    KEYWORDS,
    OPERANDS,
    OPERATORS,
    PARTIAL,
    QUERIES,
    SETS,
    Follow,
    follow,
)
from sqlora.sql.schema import PLAIN_NAME, RESERVED

# The same sets for all schemas, so that they are put in order once.
ALL_FUNCTIONS = frozenset(functions())
PLAIN_FUNCTIONS = frozenset(name for name, function in functions().items() if not function.needs_over)
SCALAR_FUNCTIONS = frozenset(name for name, function in functions().items() if not function.is_aggregate)
NUMBER, WHOLE = re.compile(r"[0-9]+(\.[0-9]*)?"), re.compile(r"[0-9]+")
ALIAS = re.compile(r"[a-z][0-9]{0,2}")  # the aliases that may stand before their tables
CLAUSE_WORDS = SETS | {"SELECT", "WITH", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET"}
ARITHMETIC = frozenset("+-*/%|&")
NO_ALIASES = KEYWORDS | RESERVED | {"ISNULL", "NOTNULL"}
ITEM_STARTS = ("SELECT", "DISTINCT", ",")


@dataclass(frozen=True, eq=False)
class Place:
    """Between two words: behind `before`, a keyword or a kind of word, within `level`."""

    before: str
    level: Level
    named: str = ""  # the qualifier before a dot, the function before its bracket, the CTE before its
    ctes: tuple[Source, ...] = ()
    is_item: bool = False  # all of a SELECT's item so far is this name

    # What may stand here.

    @property
    def is_free(self) -> bool:
        """Whether any name may: an output's alias, a type, a CTE's name."""
        if self.level.clause == "with":
            return self.before in ("WITH", ",")
        return self.before == "AS" and (self.level.clause == "select" or self.level.kind == "cast")

    @property
    def wants_table(self) -> bool:
        return self.level.clause == "from" and self.before in ("FROM", "JOIN", ",")

    @property
    def wants_alias(self) -> bool:
        return self.level.clause == "from" and self.before in ("table", "AS")

    @property
    def wants_name(self) -> bool:
        """Whether nothing but a table's or a column's name may."""
        return self.wants_table or self.before == "." or (self.level.kind == "using" and self.before == "(")

    @property
    def wants_number(self) -> bool:
        """Whether nothing but a number may."""
        return self.level.clause in ("limit", "offset")

    @functools.cached_property
    def follow(self) -> Follow:
        level, before = self.level, self.before
        # Only what ends an operand can depend on the tables.
        may_end = level.scope is not None and before in ENDED and level.is_complete
        takes_on = level.scope is not None and len(level.scope.sources) > 1 and not level.scope.is_natural
        takes_using = takes_on and bool(level.mergeable)
        if before == "table" and level.clashes:
            return Follow(frozenset({"AS"}))
        if before == "(" and level.function is not None and max(level.function.counts) == 0:
            return Follow(frozenset())
        if before in ("table", "aliased") and level.unmerged:
            return Follow(frozenset({"USING", "AS"} if before == "table" else {"USING"}))
        found = follow(before, level.kind, level.clause, may_end, takes_on, takes_using)
        if found.keywords & JOINS:
            return found._replace(keywords=found.keywords - self._impossible_joins)
        return found

    @property
    def _impossible_joins(self) -> frozenset[str]:
        """The words behind which no table could be joined."""
        level, words = self.level, frozenset[str]()
        if level.ambiguous and not self._could_join(level.changed(is_natural=True)):
            words |= {"NATURAL"}
        if not self._could_join(level.changed(is_natural=False)):
            words |= JOINS - {"NATURAL"}
        return words

    def _could_join(self, level: Level) -> bool:
        return any(map(level.may_join, (*level.known.tables.values(), *(cte.columns for cte in self.ctes))))

    @property
    def wants_operand(self) -> bool:
        """Whether any expression may, and not a number alone."""
        return self.follow.operand and not self.wants_number

    @functools.cached_property
    def tables(self) -> dict[str, frozenset[str]]:
        """The columns of each table and CTE that may stand here."""
        there = self.level.known.tables | {cte.alias: cte.columns for cte in self.ctes}
        return {name: columns for name, columns in there.items() if self.level.may_join(columns, self.before == ",")}

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The tables and CTEs, or the columns, that may."""
        if self.wants_table:
            return frozenset(self.tables)
        if self.before == ".":
            return self.level.columns_of(self.named)
        if self.level.kind == "using":
            return self.level.unmerged or self.level.mergeable
        return self.level.columns if self.wants_operand else frozenset()

    @property
    def functions(self) -> frozenset[str]:
        if not self.wants_operand:
            return frozenset()
        known, query = self.level.known, self.level.query
        if not known.strict:
            return ALL_FUNCTIONS
        may_count = query.clause in ("select", "having") or (query.clause == "order" and query.has_groups)
        if not may_count or self.level.in_aggregate:
            return SCALAR_FUNCTIONS
        return PLAIN_FUNCTIONS if self.level.in_window else ALL_FUNCTIONS

    @property
    def may_end(self) -> bool:
        level = self.level
        return level.parent is None and level.clause != "with" and self.before in ENDED and level.is_complete

    @property
    def may_be_number(self) -> bool:
        """Whether a number may stand here; in a list of ORDER BY it would be a column's place."""
        is_place = self.level.clause in ("group", "order") and self.before in ("BY", ",")
        return self.follow.operand and not (is_place and self.level.known.strict)

    def begins(self, word: str) -> bool:
        """Whether the beginning of something that may stand here without quotes is `word`, in lower case."""
        if self.is_free:
            return True
        if self.wants_name:
            return _begins(_plain(self.names), word)
        if _begins(self.follow.keywords, word.upper()):
            return True
        if self.wants_alias:
            owners = {owner for owner, _ in self.level.query.wanted if owner.startswith(word)}
            return any(map(self._may_be_alias, owners | {word}))
        if not self.wants_operand:
            return False
        if _begins(self.functions, word) or _begins(_plain(self.names), word):
            return True
        return self._begins_qualifier(word)

    def begins_quoted(self, quote: str, word: str) -> bool:
        """Whether the beginning of something that may stand here within quotes is `word`, in lower case."""
        if self.is_free or (self.wants_alias and self.before == "AS"):
            return quote != "'"
        if quote == "'" or (quote == '"' and not self.wants_name):  # a string
            return self.wants_operand
        return (self.wants_name or self.wants_operand) and _begins(self.names, word)

    def _begins_qualifier(self, word: str) -> bool:
        if any(source.alias.startswith(word) for source in self.level.sources):
            return True
        return self.level.query.clause == "select" and (
            bool(ALIAS.fullmatch(word))
            or _begins(_plain(self.level.known.table_names), word)
            or any(cte.alias.startswith(word) for cte in self.ctes)
        )

    def _is_qualifier(self, word: str) -> bool:
        if not self.wants_operand:
            return False
        if any(source.alias == word for source in self.level.sources):
            return True
        # In ON a table may be named before it is joined; elsewhere behind FROM all are there.
        return self.level.query.clause == "select" and (
            word in self.level.known.tables
            or bool(ALIAS.fullmatch(word))
            or any(word == cte.alias for cte in self.ctes)
        )

    def _may_be_alias(self, word: str) -> bool:
        """Whether the last source may be called so: what it was called before it must have its columns."""
        query = self.level.query
        *others, last = query.sources
        if any(source.alias == word for source in others):
            return False
        asked = {column for owner, column in query.wanted if owner == word} - {"*"}
        if self.before == "table" and not asked and not ALIAS.fullmatch(word):
            return False  # without AS it would be a keyword with a letter wrong
        return asked <= last.columns

    # Where it leads.

    def behind(self, before: str, level: Level | None = None, named: str = "") -> Place:
        return Place(before, level or self.level, named, self.ctes)

    def word(self, word: str, is_call: bool) -> Place | None:
        """Behind an unquoted word, in lower case, or None if it may not stand here. `is_call`: a bracket follows."""
        upper = word.upper()
        if self.is_free:
            return None if upper in NO_ALIASES or word[0] == "$" else self._free(word)
        if not self.wants_name and upper in self.follow.keywords:
            return self._keyword(upper)
        is_function = not self.wants_name and word in self.functions
        if is_function and is_call:  # also where a column has its name
            return self.behind("function", named=word)
        if upper in (NO_ALIASES if self.wants_alias else RESERVED):
            return None
        named = self._name(word)
        return self.behind("function", named=word) if named is None and is_function else named

    def quoted(self, quote: str, word: str) -> Place | None:
        """Behind a quoted word, in lower case."""
        if not self.begins_quoted(quote, word):
            return None
        if quote == "'":
            return self.behind("value")
        if self.is_free:
            return self._free(word)
        named = self._name(word)
        if named is None and quote == '"' and self.begins_quoted("'", ""):
            return self.behind("value")  # a string, as SQLite reads it
        return named

    def qualify(self, word: str) -> Place | None:
        """Behind a name, in lower case, and a dot."""
        if self.wants_name or not self._is_qualifier(word):
            return None
        return replace(self.behind(".", named=word), is_item=self.before in ITEM_STARTS)

    def number(self, word: str) -> Place | None:
        return self.behind("value") if self.begins_number(word) and word[-1] != "." else None

    def begins_number(self, word: str) -> bool:
        """Whether the beginning of a number that may stand here is `word`; LIMIT takes whole ones."""
        return self.may_be_number and bool((WHOLE if self.wants_number else NUMBER).fullmatch(word))

    def space(self) -> Place | None:
        """Behind white space, which ends an operator. None stands behind a dot, where it would go on for ever."""
        if self.before in PARTIAL or self.before == ".":
            return None
        return self.behind("operator") if self.before in OPERATORS else self

    def operator(self, char: str) -> Place | None:
        """Behind a character of an operator."""
        if char == "*" and self._may_be_star():
            level = self.level
            if level.kind == "query":
                scope = level.query
                wanted = scope.wanted | {(self.named if self.before == "." else "", "*")}
                level = level.changed(wanted=wanted)
            return self.behind("star", level)
        longer = self.before + char
        if self.before in OPERATORS | PARTIAL and longer in OPERATORS:
            return self.behind(longer)
        if self.before in OPERANDS and char in (ARITHMETIC if self.level.kind == "between" else OPERATORS | PARTIAL):
            return self.behind(char) if "AND" in self.follow.keywords else None
        may_be_unary = char in "+-~" and self.wants_operand and self.may_be_number
        if may_be_unary and self.before not in ("unary", "-", "+"):  # -- is a comment
            return self.behind("unary")
        return None

    def _may_be_star(self) -> bool:
        level = self.level
        if level.kind == "call":
            return self.before == "(" and level.function is not None and level.function.takes_star
        if level.clause != "select" or (level.known.strict and level.query.due):
            return False
        return self.before in ITEM_STARTS or (self.before == "." and self.is_item)

    def open(self) -> Place | None:
        """Behind an opening bracket."""
        before, level = self.before, self.level
        if before == "function":
            function = functions()[self.named]
            if function.is_aggregate:
                level = level.querying(has_groups=True)
            return self.behind("(", level.inside("call", function))
        if before in ("CAST", "IN", "EXISTS", "OVER", "USING"):
            return self.behind("(", level.inside(before.lower()))
        if level.clause == "with" and before == "AS":
            return self.behind("(", replace(level.inside("with"), name=self.named))
        if self.wants_table:
            return self.behind("(", level.inside("source"))
        return self.behind("(", level.inside("group")) if self.wants_operand else None

    def close(self) -> Place | None:
        """Behind a closing bracket."""
        level, before = self.level, self.before
        parent = level.parent
        if parent is None or level.kind in (*CASES, "between", "cast", *QUERIES):
            return None
        if level.kind == "call":
            return self._close_call(parent)
        if level.kind == "over":
            return self.behind("value", parent) if before == "(" else None
        if before not in ENDED:
            return None
        if level.scope is None:
            if level.kind == "using":
                return self.behind("joined", parent) if before == "name" else None
            return self.behind("value" if level.kind in ("partition", "sorting") else ")", parent)
        if not level.is_complete:
            return None
        if level.outside == "source":
            source = Source("", level.given(self._item))
            if not parent.may_join(source.columns, is_listed=True):
                return None
            return self.behind("table", parent.joining(source))
        if level.outside == "with":
            return Place(")", parent, "", (*self.ctes, Source(level.name, level.given(self._item))))
        return self.behind(")", parent)

    def _close_call(self, parent: Level) -> Place | None:
        function = self.level.function
        assert function is not None
        if self.before == "(":
            count = 0
        elif self.before in OPERANDS or self.before == "star":
            count = self.level.arguments
        else:
            return None
        if self.before != "star" and count not in function.counts:
            return None
        if function.needs_over:
            return self.behind("window", parent)
        return self.behind("called" if function.is_aggregate else ")", parent)

    def comma(self) -> Place | None:
        level, before = self.level, self.before
        if before not in ENDED:
            return None
        if level.kind == "call":
            assert level.function is not None
            if level.arguments >= max(level.function.counts):
                return None
            return self.behind(",", replace(level, arguments=level.arguments + 1)) if before in OPERANDS else None
        if level.kind in ("in", "partition", "sorting"):
            return self.behind(",")
        if level.scope is None:
            return None
        if level.clause == "select":
            if level.known.strict and level.scope.due == level.scope.width:
                return None
            given = level.scope.given | self._item
            return self.behind(",", level.changed(width=level.scope.width + 1, given=given))
        if level.clause in ("from", "on") and before != "sorted":
            if level.clashes or level.unmerged:
                return None
            return self.behind(",", level.changed(clause="from", is_natural=False))
        if level.clause == "with":
            return self.behind(",") if before == ")" else None
        if level.clause == "limit":
            return self.behind(",", level.changed(clause="offset"))
        return self.behind(",") if level.clause in ("group", "order") else None

    @property
    def _item(self) -> frozenset[str]:
        """The name of the item that has just ended, if it has one."""
        is_named = (self.is_item and self.before == "name") or self.before == "alias"
        return frozenset({self.named} if is_named and self.level.clause == "select" else ())

    def _free(self, word: str) -> Place | None:
        scope = self.level.scope
        if scope is None:
            return self.behind("type", replace(self.level, kind="type"))
        if self.before == "AS":
            return self.behind("alias", self.level.changed(outputs=scope.outputs | {word}), named=word)
        if word in self.level.known.tables or any(word == cte.alias for cte in self.ctes):
            return None
        return self.behind("name", named=word)

    def _keyword(self, word: str) -> Place:
        level, scope = self.level, self.level.scope
        if word in CONSTANTS:
            return self.behind("value")
        if word == "NOT" and self.before in OPERANDS:
            return self.behind("not")
        if word in ("CASE", "BETWEEN"):
            return self.behind(word, level.inside(word.lower()))
        if word == "END" or (word == "AND" and level.kind == "between"):
            return self.behind(")" if word == "END" else word, level.parent)
        if word in ("WHEN", "THEN", "ELSE"):
            return self.behind(word, replace(level, kind=word.lower()))
        if level.kind in ("over", "partition") and word in ("PARTITION", "ORDER"):
            return self.behind(word, replace(level, kind="sorting" if word == "ORDER" else "partition"))
        if word in ("ASC", "DESC", "FIRST", "LAST"):
            return self.behind("sorted" if word in ("ASC", "DESC") else "placed")
        if scope is None:
            if word != "SELECT":
                return self.behind(word)
            due = 1 if level.kind in ("in", "group") else 0
            return self.behind(word, replace(level, kind="query", outside=level.kind, scope=Scope(due=due)))
        if word in SETS:
            return self.behind(word, replace(level, scope=Scope(due=level.width)))
        if word in CLAUSE_WORDS:
            given = scope.given | self._item
            groups = scope.has_groups or word == "GROUP"
            return self.behind(word, level.changed(clause=word.lower(), given=given, has_groups=groups))
        if word in JOINS and self.before in ENDED:
            level = level.changed(is_natural=word == "NATURAL")
        if word in ("JOIN", "ON", "USING"):
            level = level.changed(clause="from" if word == "JOIN" else "on")
        elif word == "AS" and level.clause == "with":
            return self.behind(word, named=self.named)
        return self.behind(word, level)

    def _name(self, word: str) -> Place | None:
        """Behind a name, with what it binds or asks for."""
        level, query = self.level, self.level.query
        if self.wants_table:
            if word not in self.tables:
                return None
            return self.behind("table", level.joining(Source(word, self.tables[word])))
        if self.wants_alias:
            if not self._may_be_alias(word):
                return None
            named = replace(query.sources[-1], alias=word)
            return self.behind("aliased", level.changed(sources=(*query.sources[:-1], named)))
        if not (self.wants_name or self.wants_operand) or word not in self.names:
            return None
        qualifier = self.named if self.before == "." else ""
        # What ON names, too, must not be in a table that is joined later.
        if query.clause in ("select", "on") and not any(source.alias == qualifier for source in level.outer):
            level = level.querying(wanted=query.wanted | {(qualifier, word)})
        if level.kind == "using":
            *others, last = query.sources
            level = level.querying(sources=(*others, replace(last, merged=last.merged | {word})))
        is_item = self.before in ITEM_STARTS or self.is_item
        return replace(self.behind("name", level, word), is_item=is_item)


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
