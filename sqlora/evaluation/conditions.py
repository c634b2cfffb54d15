"""Values on which a query's conditions turn: SQLite itself says which of many candidates meet a condition.

So conditions on functions of a column find rows: STRFTIME('%Y', day) = '2012', SUBSTR(id, -1) = '4', LENGTH(code) = 7.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from sqlora.sql.parsing import SqlError, numeric_value, own_tables, to_sqlite
from sqlora.sql.sandbox import Database, Value
from sqlora.sql.schema import Column, Schema, Table

MOST_CANDIDATES = 400
MOST_SHOWN = 4  # values that meet a condition, and as many that do not
LONGEST = 40  # characters of a text that is made for a length
FILLER = "kestrelbramblequartzvioletmonsoonhazeltinder"
YEAR, MONTH, DAY = re.compile(r"[12]\d{3}"), re.compile(r"[12]\d{3}-[01]\d"), re.compile(r"[12]\d{3}-[01]\d-[0-3]\d")
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# what values of these types look like
SHAPES = {
    "date": ISO_DATE,
    "timestamp": re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?"),
    "time": re.compile(r"\d\d:\d\d(:\d\d)?"),
}
# comparisons whose constants are values of the column
PLAIN = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)


@dataclass(frozen=True)
class Turning:
    """Values of a column that meet a condition on it, and values that do not.

    table: in lower case, as is column; "" where the query does not say. is_whole: of all conditions that a SELECT has
    on the column. is_plain: whether these are comparisons with constants, which are values of the column.
    """

    table: str
    column: str
    meeting: tuple[Value, ...]
    failing: tuple[Value, ...]
    is_whole: bool
    is_plain: bool


def turning_values(query: exp.Expr, types: dict[str, str]) -> list[Turning]:
    """Of each column of `types` {name in lower case: type} with a condition in the query that a candidate meets."""
    return [
        turning
        for (_, table, name), conditions in _by_column(query).items()
        if name in types
        for turning in _turnings(table, name, types[name], conditions)
    ]


def _by_column(query: exp.Expr) -> dict[tuple[int, str, str], list[exp.Expr]]:
    """The conditions that have one column each, by SELECT, table and column."""
    grouped: dict[tuple[int, str, str], list[exp.Expr]] = defaultdict(list)
    for clause in query.find_all(exp.Where, exp.Join):
        whole = clause.this if isinstance(clause, exp.Where) else clause.args.get("on")
        select = clause.find_ancestor(exp.Select)
        tables = {source.alias_or_name.lower(): source.name.lower() for source in own_tables(select)}
        only = next(iter(tables.values())) if len(tables) == 1 else ""
        for condition in operands(whole, exp.And):
            if condition.find(exp.Query, exp.AggFunc, exp.Window):
                continue
            for part in [condition] if len(_columns(condition)) == 1 else operands(condition, exp.Or):
                if len(columns := _columns(part)) == 1:
                    alias, name = columns.pop()
                    grouped[id(select), tables.get(alias, only), name].append(part)
    return grouped


def _columns(condition: exp.Expr) -> set[tuple[str, str]]:
    return {(column.table.lower(), column.name.lower()) for column in condition.find_all(exp.Column)}


def operands(condition: exp.Expr | None, connector: type[exp.Connector]) -> Iterator[exp.Expr]:
    """What AND, or OR, connects, in brackets too."""
    if isinstance(condition, connector):
        yield from itertools.chain(operands(condition.left, connector), operands(condition.right, connector))
    elif isinstance(condition, exp.Paren):
        yield from operands(condition.this, connector)
    elif condition is not None:
        yield condition


def _is_plain(condition: exp.Expr) -> bool:
    return isinstance(condition, PLAIN) and isinstance(condition.this, exp.Column) and not condition.find(exp.Func)


def _turnings(table: str, name: str, kind: str, conditions: list[exp.Expr]) -> Iterator[Turning]:
    candidates = list(dict.fromkeys(_candidates(kind, conditions)))[:MOST_CANDIDATES]
    if kind in SHAPES and any(isinstance(value, str) and SHAPES[kind].fullmatch(value) for value in candidates):
        candidates = [value for value in candidates if value is None or SHAPES[kind].fullmatch(str(value))]
    plain = [_is_plain(condition) for condition in conditions]
    whole = (exp.and_(*conditions), True, all(plain))
    parts = [(each, False, False) for each, is_plain in zip(conditions, plain, strict=True) if not is_plain]
    for condition, is_whole, is_plain in [whole, *(parts if len(conditions) > 1 else [])]:
        with contextlib.suppress(SqlError):
            meeting = _meeting(condition, kind, candidates)
            met = set(meeting)
            failing = [value for value in candidates if value not in met]
            if meeting:
                yield Turning(table, name, meeting[:MOST_SHOWN], tuple(failing[:MOST_SHOWN]), is_whole, is_plain)


def _meeting(condition: exp.Expr, kind: str, candidates: list[Value]) -> tuple[Value, ...]:
    """Those that SQLite finds. Raises SqlError for a condition that it cannot compute."""
    where = condition.copy()
    for column in where.find_all(exp.Column):
        column.replace(exp.column("c"))
    return _found(
        to_sqlite(exp.select("rowid").from_("t").where(where, copy=False), copy=False), kind, tuple(candidates)
    )


@functools.lru_cache(maxsize=64)  # each rule asks for the same
def _found(query: str, kind: str, candidates: tuple[Value, ...]) -> tuple[Value, ...]:
    """Those in the rows of table t whose numbers the query gives; column c, of this type, has them."""
    with Database(Schema((Table("t", (Column("c", kind),)),)), {"t": [(value,) for value in candidates]}) as database:
        numbers = {number for (number,) in database.run(query).rows}
    return tuple(value for number, value in enumerate(candidates, start=1) if number in numbers)


def _candidates(kind: str, conditions: list[exp.Expr]) -> Iterator[Value]:
    """Values near the constants of the conditions, as the functions in them may want them."""
    constants = [literal for condition in conditions for literal in condition.find_all(exp.Literal)]
    texts = [literal.name for literal in constants if literal.is_string and not literal.name.startswith("%")]
    patterns = [literal.name for literal in constants if literal.is_string and re.search(r"[%_*?]", literal.name)]
    numbers = [value for c in constants if not c.is_string and not isinstance(value := numeric_value(c.name), str)]
    functions = [function for condition in conditions for function in condition.find_all(exp.Func)]
    if any(isinstance(function, exp.Cast | exp.Anonymous) for function in functions) or not functions:
        texts += [str(number) for number in numbers]
    if kind in ("date", "timestamp", "time") or any(_is_temporal(function) for function in functions):
        yield from _moments(kind, [*texts, *map(str, numbers), *(pattern.strip("%_") for pattern in patterns)])
    cores = [*texts, *(re.sub(r"[%_*?]", "", pattern) for pattern in patterns)]
    for pattern in patterns:
        yield from (
            pattern.replace("%", filler).replace("*", filler).replace("_", "q") for filler in ("", "ab", " zu ")
        )
    for core in dict.fromkeys(cores):
        yield from (core, core + "x", "x" + core, f"x{core}y", f"Ada {core}", f"{core} Roe", f" {core} ")
        yield from (core.upper(), core.lower(), core.swapcase())
    sizes = [number for number in numbers if isinstance(number, int) and 0 < number <= LONGEST]
    for size in dict.fromkeys(near for exact in sizes for near in (exact, exact - 1, exact + 1)):
        yield FILLER[:size]
        for core in cores:
            fill = FILLER[: max(0, size - len(core))]
            yield from (fill + core, core + fill, FILLER[: max(0, size - 1)] + core, FILLER[:size] + core)
    for number in numbers:
        yield from (number, number - 1, number + 1, -number, -number - 1, number + 0.5, number - 0.004, number + 0.004)
        for factor in (2, 3, 10, 12, 100, 365, 1000):
            yield from (number * factor, number * factor + 1, number / factor, number / factor + 1)
    yield from (0, 1, -1, 0.5, None, "", "x", "no such value")


def _is_temporal(function: exp.Expr) -> bool:
    return isinstance(function, exp.TimeToStr | exp.Date | exp.TsOrDsToTimestamp | exp.Datetime | exp.Time) or (
        isinstance(function, exp.Anonymous) and function.name.lower() in ("julianday", "unixepoch", "timediff")
    )


def _moments(kind: str, texts: list[str]) -> Iterator[str]:
    """Dates, and times of day, in which one of these years, months, days or hours occurs."""
    years = [text for text in texts if YEAR.fullmatch(text)]
    months = [text for text in texts if MONTH.fullmatch(text)]
    parts = [text.zfill(2) for text in texts if re.fullmatch(r"\d{1,2}", text)]
    days = [text[:10] for text in texts if DAY.match(text)]
    for year in dict.fromkeys(int(exact) + step for exact in years for step in (0, -1, 1)):
        months += [f"{year}-{part}" for part in parts if 1 <= int(part) <= 12]
        days += [f"{year}-06-15", f"{year}-01-01", f"{year}-12-31"]
    months += [f"2011-{part}" for part in parts if 1 <= int(part) <= 12]
    for month in dict.fromkeys(months):
        days += [f"{month}-{part}" for part in parts if 1 <= int(part) <= 28] + [f"{month}-01", f"{month}-15"]
    days += [f"2011-05-{part}" for part in parts if 1 <= int(part) <= 28]
    days += [f"{int(day[:4]) + step}{day[4:]}" for day in days for step in (-1, 1)]
    if kind != "time":
        yield from dict.fromkeys(days)
    if kind != "date":
        clocks = [text for text in texts if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text)]
        clocks += [f"{part}:30:15" for part in parts if int(part) < 24]
        yield from clocks if kind == "time" else (f"{day} {clock}" for day in days for clock in (*clocks, "10:20:30"))
