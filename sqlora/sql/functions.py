"""The functions that a dialect has, and how many arguments each takes."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

MOST = 6  # arguments of those that take any number
LEAST = {"coalesce": 2}  # arguments, of those that take any number but not one
# Of SQLite's pragma: aggregates are among its window functions, and these are no aggregates.
WINDOW_ALONE = frozenset(
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value".split()
)
# Those that do without tables, files and rights of their own.
PLAIN = frozenset(
    "abs avg ceil ceiling char coalesce count date datetime exp floor format group_concat hex ifnull iif instr "
    "julianday length like ln log log10 log2 lower ltrim max min mod nullif power pow printf quote random replace "
    "round rtrim sign sqrt strftime substr substring sum time total trim trunc typeof unicode unixepoch upper".split()
)


@dataclass(frozen=True)
class Function:
    """`counts`: the numbers of its arguments, None where they are not known. `needs_over`: it must have a window."""

    counts: frozenset[int] | None = None
    is_aggregate: bool = False
    needs_over: bool = False
    takes_star: bool = False

    def takes(self, count: int) -> bool:
        """Whether it may have so many arguments."""
        return self.counts is None or count in self.counts

    def takes_more_than(self, count: int) -> bool:
        return self.counts is None or any(other > count for other in self.counts)


@functools.cache
def functions_of(dialect: str) -> dict[str, Function]:
    """By their names in lower case: those that SQLite has, as it says itself; of another dialect those that sqlglot
    knows, with any number of arguments.
    """
    if dialect != "sqlite":
        known = sqlglot.Dialect.get_or_raise(dialect).parser_class.FUNCTIONS
        aggregates = {name for kind in exp.ALL_FUNCTIONS if issubclass(kind, exp.AggFunc) for name in kind.sql_names()}
        return {
            name.lower(): Function(is_aggregate=name in aggregates, takes_star=name == "COUNT") for name in known
        }
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute("SELECT name, type, narg FROM pragma_function_list").fetchall()
    kinds: dict[str, list[tuple[str, int]]] = {}
    for name, kind, count in rows:
        if name in PLAIN | WINDOW_ALONE:
            kinds.setdefault(name, []).append((kind, count))
    return {name: _function(name, found) for name, found in kinds.items()}


def _function(name: str, kinds: list[tuple[str, int]]) -> Function:
    """`kinds`: the type of each of its forms, s for scalar, and its number of arguments, -1 for any."""
    counts = {count for _, count in kinds}
    if -1 in counts:
        counts = set(range(LEAST.get(name, 1), MOST + 1))
    # max and min with one argument are aggregates, and with more they are none: they stand where aggregates may.
    is_window = any(kind != "s" for kind, _ in kinds)
    needs_over = name in WINDOW_ALONE
    return Function(frozenset(counts), is_window, needs_over, takes_star=name == "count")
