"""The functions that SQLite has, and how many arguments each takes."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from dataclasses import dataclass

MOST = 6  # arguments of those that take any number
LEAST = {"coalesce": 2}  # arguments, of those that take any number but not one
WINDOW_ALONE = frozenset(
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value".split()
)
# Those that do without tables, files and rights of their own, and are not a part of the grammar; sandbox.py runs them.
PLAIN = frozenset(
    "abs avg ceil ceiling char coalesce count date datetime exp floor group_concat hex ifnull iif instr "
    "julianday length ln log log10 log2 lower ltrim max min mod nullif power pow quote replace "
    "round rtrim sign sqrt strftime substr substring sum time total trim trunc typeof unicode unixepoch upper".split()
)


@dataclass(frozen=True)
class Function:
    """`counts`: the numbers of its arguments. `needs_over`: it must have a window."""

    counts: frozenset[int]
    is_aggregate: bool = False
    needs_over: bool = False
    takes_star: bool = False


@functools.cache
def functions() -> dict[str, Function]:
    """By their names in lower case, as the SQLite of this Python says itself."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute("SELECT name, type, narg FROM pragma_function_list").fetchall()
    kinds: dict[str, list[tuple[str, int]]] = {}
    for name, kind, count in rows:
        if name in PLAIN | WINDOW_ALONE:
            kinds.setdefault(name, []).append((kind, count))
    return {name: _function(name, forms) for name, forms in kinds.items()}


def _function(name: str, forms: list[tuple[str, int]]) -> Function:
    """`forms`: the type of each, s for scalar, and its number of arguments, -1 for any."""
    counts = {count for _, count in forms}
    if -1 in counts:
        counts = set(range(LEAST.get(name, 1), MOST + 1))
    # max and min are aggregates with one argument alone: they stand where aggregates may.
    is_aggregate = any(kind != "s" for kind, _ in forms)
    return Function(frozenset(counts), is_aggregate, name in WINDOW_ALONE, takes_star=name == "count")
