"""Upper bounds for a query, from its syntax tree: how long its texts can grow, and how much work a row can be.

A server checks its deadline between rows, not within a function: MariaDB 10.11 continues for half an hour with a
REPLACE over 16 MB after it was killed, PostgreSQL 15 with the numerics or the position of one text in another. So every
expression has an upper bound here, and what could be too much is refused. Rules are for what grows; all else is as long
as its longest part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlglot import exp

from sqlora.sql.parsing import SqlError
from sqlora.sql.schema import Column
from sqlora.sql.scopes import Scopes

# bytes of a value, at which the server itself stops
LONGEST = {"postgres": 2**30, "mysql": 2**24, "sqlite": 10_000_000}
MOST_GROUPED = 2**20  # bytes of GROUP_CONCAT on MySQL and MariaDB, which is set in the session
MOST_TEXT = 2**22  # bytes of what functions make of literals and columns
TEXT_COLUMN, COLUMN = 1000, 40  # bytes of a cell, as long as nobody knows better
SHORT_CELL = 8  # of one that is looked for: its content is not the query's, so it is no text that makes searching slow
DIGITS = {"postgres": 150_000}  # of a number
OTHER_DIGITS = 400
# bytes that a column of a recursive query grows to before the deadline, if not by more than MOST_STEP each
STEP_TEXT = 2**23
MOST_STEP = 2**14
# Units of about 0.6 ns, measured on an Intel Xeon: one is a comparison of two bytes.
MOST_WORK = 2_200_000_000  # of a row: about 1.5 s
LIKE_UNITS = 15  # of a byte of the text and one of the pattern: 6 to 10 ns in MariaDB, 3 in PostgreSQL
WORK_OF_A_NODE = 10_000  # servers write queries in FROM into the ones around them, and plan each node
BYTES_A_UNIT = 8  # of texts that are copied or read once
DIGITS_A_UNIT = 4  # products of digits of PostgreSQL's numerics
MOVES_A_UNIT = 3  # bytes that MariaDB's REPLACE moves, for each position, to make space

PATTERNS = (exp.Like, exp.ILike, exp.Glob, exp.SimilarTo, exp.RegexpLike)
SEARCHES: dict[type, tuple[str, str]] = {  # functions that search a text in another, in time of the product of both
    exp.Replace: ("this", "expression"),
    exp.StrPosition: ("this", "substr"),
    exp.SplitPart: ("this", "delimiter"),
    exp.SubstringIndex: ("this", "delimiter"),
    exp.Trim: ("this", "expression"),
    **dict.fromkeys(PATTERNS, ("this", "expression")),
}
PRODUCTS = (exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Pow, exp.Sqrt, exp.Cbrt)
ARITHMETIC = (*PRODUCTS, exp.Add, exp.Sub, exp.Neg, exp.Sum, exp.Avg, exp.Round, exp.Trunc)
# short ones
COUNTS = (exp.Predicate, exp.Connector, exp.Not, exp.Length, exp.StrPosition, exp.Count, exp.RowNumber, exp.Extract)
CONCATENATIONS = (exp.Concat, exp.ConcatWs, exp.DPipe)
FORMATS = (exp.TimeToStr, exp.ToChar)
FORMATTED = 20  # bytes that one of a format can become
CASES = (exp.Lower, exp.Upper, exp.Initcap)
EXPONENT = re.compile(r"\s*[-+]?[\d.]+e[-+]?(\d+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Size:
    """Bounds for an expression: bytes of its text, the same for cells of SHORT_CELL, and units of work for a row."""

    length: int
    short: int
    work: int


class Lengths:
    """Computes the sizes of the expressions of one query."""

    def __init__(self, scopes: Scopes, known: set[type], longest: int = 0, most_work: int = MOST_WORK) -> None:
        """`known` are the functions whose growth is bounded here; others give a text of `longest` bytes, or the
        server's limit.
        """
        self.scopes = scopes
        self.dialect = scopes.dialect
        self.known = known
        self.longest = longest or LONGEST.get(self.dialect, 2**24)
        self.most_work = most_work
        self.digits = DIGITS.get(self.dialect, OTHER_DIGITS)
        self._done: dict[int, Size] = {}
        self._open: dict[int, bool] = {}  # what is being measured, and whether it was met again in the meantime

    def size(self, node: exp.Expr) -> Size:
        """Raises SqlError("too large") for what would not end in time, or take too much memory."""
        if id(node) not in self._done:
            self._open[id(node)] = False
            size = self._measured(node)
            if self._open.pop(id(node)) and size.length > STEP_TEXT + MOST_STEP:
                raise SqlError(
                    "too large", f"a text of the recursive query grows by more than {MOST_STEP:,} bytes a step"
                )
            self._done[id(node)] = size
        return self._done[id(node)]

    def _measured(self, node: exp.Expr) -> Size:
        if isinstance(node, exp.Column):
            return self._column(node)
        parts = {id(part): self.size(part) for part in node.iter_expressions()}
        lengths = [part.length for part in parts.values()] or [0]

        def of(argument: str, measure: str = "length") -> int:
            part = node.args.get(argument)
            return getattr(parts[id(part)], measure) if isinstance(part, exp.Expr) else 0

        length = min(self._length(node, lengths, of), self.longest)
        if length - max(lengths) > MOST_TEXT and not isinstance(node, exp.GroupConcat):
            raise SqlError("too large", f"{node.key.upper()} could make a text of {length:,} bytes")
        shorts = [part.short for part in parts.values()] or [0]
        short = min(self._length(node, shorts, partial(of, measure="short")), length)
        work = WORK_OF_A_NODE + (length + sum(lengths)) // BYTES_A_UNIT + self._searched(node, lengths, of, length)
        return self._affordable(Size(length, short, work + sum(part.work for part in parts.values())))

    def _affordable(self, size: Size) -> Size:
        if size.work > self.most_work:
            raise SqlError(
                "too large", "a row of the query could take too long: texts, numbers or queries in it multiply"
            )
        return size

    def _column(self, column: exp.Column) -> Size:
        if column.is_star:
            return Size(0, 0, WORK_OF_A_NODE)
        length, short, work = 0, 0, WORK_OF_A_NODE
        origins = self.scopes.origins(column)
        for origin in origins:
            if isinstance(origin, Column):
                length, short = (
                    max(length, TEXT_COLUMN if origin.type in ("text", "other") else COLUMN),
                    max(short, SHORT_CELL),
                )
            elif id(origin) in self._open:  # of a recursive query, which is made once for each step
                self._open[id(origin)] = True
                length = short = STEP_TEXT
            else:
                size = self.size(origin)
                length, short, work = max(length, size.length), max(short, size.short), work + size.work
        if not origins:  # in PostgreSQL it may be a whole row
            length = short = TEXT_COLUMN * max((len(table.columns) for table in self.scopes.schema.tables), default=1)
        return self._affordable(Size(length, short, work))

    def _length(self, node: exp.Expr, lengths: list[int], of: Callable[[str], int]) -> int:
        longest = max(lengths)
        if isinstance(node, exp.Literal | exp.National | exp.HexString):
            return _literal(str(node.this))
        if isinstance(node, exp.GroupConcat):
            return MOST_GROUPED if self.dialect == "mysql" else self.longest
        if isinstance(node, exp.Replace):
            return max(of("this"), self._places(node, of) * of("replacement"))
        if isinstance(node, exp.ConcatWs):
            return sum(lengths) + len(lengths) * lengths[0]
        if isinstance(node, CONCATENATIONS):
            return sum(lengths)
        if isinstance(node, exp.Tuple):  # a row as text, with quotes in it doubled
            return 2 * sum(lengths) + len(lengths)
        if isinstance(node, FORMATS):
            return FORMATTED * sum(lengths)
        if isinstance(node, CASES):
            return 2 * of("this")
        if isinstance(node, exp.Cast):
            return self._cast(node, of("this"))
        if isinstance(node, COUNTS):
            return COLUMN
        if isinstance(node, ARITHMETIC):
            return min(self._number(node, lengths), self.digits)
        if isinstance(node, exp.Func) and type(node) not in self.known:
            return self.longest
        return longest

    def _places(self, node: exp.Replace, of: Callable[[str], int]) -> int:
        """Where REPLACE can find what it looks for, at most."""
        wanted = node.expression
        return of("this") // max(
            1, len(wanted.name.encode("utf-8", "replace")) if isinstance(wanted, exp.Literal) else 1
        )

    def _cast(self, node: exp.Cast, length: int) -> int:
        """CHAR(9), BIT(9) and NUMERIC(9) are filled up; a numeric made of text can have as many digits as there are."""
        given = [_literal(part.name, as_number=True) for part in node.to.find_all(exp.Literal)]
        if given:
            return max(length, *given)
        is_number = node.to.this in exp.DataType.NUMERIC_TYPES
        return self.digits if is_number and node.this.find(*CONCATENATIONS, exp.Replace) else length

    def _number(self, node: exp.Expr, lengths: list[int]) -> int:
        digits = self._digits(lengths)
        if isinstance(node, exp.Pow):
            power = node.expression
            return digits[0] * (_literal(power.name, as_number=True) if isinstance(power, exp.Literal) else 100)
        return (sum(digits) if isinstance(node, PRODUCTS) else max(digits)) + COLUMN

    def _digits(self, lengths: list[int]) -> list[int]:
        return [TEXT_COLUMN if length > self.digits else length for length in lengths]  # no text that long is a number

    def _searched(self, node: exp.Expr, lengths: list[int], of: Callable[..., int], length: int) -> int:
        """The work beyond reading each argument once."""
        if isinstance(node, PRODUCTS):
            return max(length, *self._digits(lengths)) ** 2 // DIGITS_A_UNIT
        if type(node) not in SEARCHES:
            return 0
        where, what = of(SEARCHES[type(node)][0]), of(SEARCHES[type(node)][1], "short")
        if isinstance(node, PATTERNS):
            return LIKE_UNITS * where * what
        if isinstance(node, exp.Replace) and self.dialect == "mysql" and of("expression") != of("replacement"):
            return where * what + self._places(node, of) * length // MOVES_A_UNIT
        return where * what


def _literal(text: str, as_number: bool = False) -> int:
    """Bytes of a constant, or its digits, of which 9e5000 has more than characters; `as_number` its value up to
    10**9.
    """
    if as_number:
        return int(text) if text.isdecimal() and len(text) < 10 else 10**9
    exponent = EXPONENT.fullmatch(text)
    return len(text.encode("utf-8", "replace")) + (int(exponent[1][:9]) if exponent else 0)
