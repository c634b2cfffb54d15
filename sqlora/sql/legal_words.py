"""The order of words in one SELECT, as SQLite reads it: which keywords may follow, and whether an operand may."""

from __future__ import annotations

import functools
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SETS = _words("UNION INTERSECT EXCEPT")
JOINS = _words("JOIN LEFT RIGHT FULL INNER CROSS NATURAL")
STARTS = _words("CASE CAST EXISTS NOT NULL TRUE FALSE CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP")
INFIX = _words("AND OR IS NOT IN LIKE GLOB BETWEEN COLLATE")
CONSTANTS = _words("NULL TRUE FALSE CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP NOCASE")
CLAUSES = ("select", "from", "on", "where", "group", "having", "order", "limit", "offset")  # in their order
FIXED = {  # the only words that may follow
    "": _words("SELECT WITH"),
    "WITH": _words(""),
    "GROUP": _words("BY"),
    "ORDER": _words("BY"),
    "PARTITION": _words("BY"),
    "INNER": _words("JOIN"),
    "CROSS": _words("JOIN"),
    "OUTER": _words("JOIN"),
    "LEFT": _words("OUTER JOIN"),
    "RIGHT": _words("OUTER JOIN"),
    "FULL": _words("OUTER JOIN"),
    "NATURAL": _words("JOIN LEFT RIGHT FULL INNER CROSS"),
    "NULLS": _words("FIRST LAST"),
    "UNION": _words("ALL SELECT"),
    "INTERSECT": _words("SELECT"),
    "EXCEPT": _words("SELECT"),
    "ALL": _words("SELECT"),
    "not": _words("IN LIKE GLOB BETWEEN"),  # behind an operand
    "COLLATE": _words("NOCASE"),
    "EXISTS": _words(""),  # and others that a bracket or a name follows
    "CAST": _words(""),
    "IN": _words(""),
    "OVER": _words(""),
    "USING": _words(""),
    "AS": _words(""),
    "FROM": _words(""),
    "JOIN": _words(""),
    "function": _words(""),
    "window": _words("OVER"),
    ".": _words(""),
}
WANTS = _words(  # an operand
    "SELECT DISTINCT WHERE HAVING AND OR NOT ON BY WHEN THEN ELSE CASE BETWEEN LIKE GLOB IS LIMIT OFFSET "
    "operator unary ( ,"
)
OPERATORS = _words("= == < > <= >= <> != + - * / % || | & << >>")
PARTIAL = _words("!")
OPERANDS = _words("name value ) called")  # what an operand ends with: an operator may follow
ENDED = OPERANDS | _words("star alias sorted placed table aliased joined type")  # and what else a list or a query may
CASES = _words("case when then else")
QUERIES = _words("exists source with")  # brackets that hold nothing else
KEYWORDS = frozenset().union(
    STARTS, INFIX, CONSTANTS, SETS, JOINS, *FIXED.values(), (word for word in (*FIXED, *WANTS) if word.isupper())
) | _words("END ASC DESC FIRST LAST")


class Follow(NamedTuple):
    """What may follow a word."""

    keywords: frozenset[str]
    operand: bool = False


@functools.cache
def follow(before: str, kind: str, clause: str, may_end: bool, takes_on: bool, takes_using: bool) -> Follow:
    """What may follow `before`, in a bracket of a kind or in a clause of a query. `may_end`: its tables have all that
    was named before them; `takes_on`: the last of them is joined to others; `takes_using`: it has columns as they have.
    """
    if kind == "query" and clause == "with":
        return Follow(_words({"name": "AS", ")": "SELECT"}.get(before, "")))
    if before in FIXED:
        return Follow(FIXED[before])
    if before == "(" and kind in QUERIES:
        return Follow(_words("SELECT"))
    if before == "(" and kind == "over":
        return Follow(_words("PARTITION ORDER"))
    if (before == "(" and kind == "using") or (before == "," and clause == "from"):
        return Follow(frozenset())
    if before in WANTS or before in OPERATORS:
        return _operand(before, kind, clause)
    if before not in ENDED:
        return Follow(frozenset())
    if kind != "query":
        return Follow(_in_brackets(before, kind))
    return Follow(_in_query(before, clause, takes_on, takes_using) | (_endings(clause) if may_end else frozenset()))


def _operand(before: str, kind: str, clause: str) -> Follow:
    if kind == "query" and clause in ("limit", "offset"):
        return Follow(frozenset(), True)
    more = ""
    if before == "SELECT" or (before == "(" and kind == "call"):
        more = "DISTINCT"
    elif before == "(" and kind in ("group", "in"):
        more = "SELECT"
    elif before == "CASE":
        more = "WHEN"
    return Follow(STARTS | _words(more), True)


def _in_brackets(before: str, kind: str) -> frozenset[str]:
    if kind == "using":
        return frozenset()
    more = {
        "cast": "AS",
        "partition": "ORDER",
        "sorting": "ASC DESC NULLS",
        "case": "WHEN",
        "when": "THEN",
        "then": "WHEN ELSE END",
        "else": "END",
    }.get(kind, "")
    if before in OPERANDS:
        return _words("AND") if kind == "between" else INFIX | _words(more + " OVER" * (before == "called"))
    return _words("NULLS") if before == "sorted" else frozenset()


def _in_query(before: str, clause: str, takes_on: bool, takes_using: bool) -> frozenset[str]:
    if clause == "from":
        return JOINS | _words("AS" * (before == "table") + " ON" * takes_on + " USING" * takes_using)
    words = INFIX if before in OPERANDS and clause not in ("limit", "offset") else frozenset()
    if clause == "select":
        return words | _words("FROM" + " AS" * (before in OPERANDS) + " OVER" * (before == "called"))
    if clause == "on":
        return words | JOINS
    if clause == "order" and before != "placed":
        return words | _words("NULLS" + " ASC DESC" * (before in OPERANDS) + " OVER" * (before == "called"))
    return words


def _endings(clause: str) -> frozenset[str]:
    """The keywords of the clauses that may follow one."""
    place = CLAUSES.index(clause)
    words = {word for word in _words("WHERE GROUP ORDER LIMIT") if CLAUSES.index(word.lower()) > place}
    words |= _words({"group": "HAVING", "limit": "OFFSET"}.get(clause, ""))
    return frozenset(words) | (SETS if place < CLAUSES.index("order") else frozenset())
