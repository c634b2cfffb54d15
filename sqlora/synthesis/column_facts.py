"""What the columns of a database hold, from the first rows of its tables: which can be grouped, compared, averaged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlora.sql.sandbox import Value
from sqlora.sql.schema import Column, Schema, Table
from sqlora.synthesis.query_tree import Place

NUMBERS = ("integer", "real")
DATES = ("date", "timestamp")
LONGEST = 40  # characters of a value in a question
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?(\.\d+)?)?")
ID = re.compile(r"(^|_|[a-z])(id|Id|ID)$")
CODE = re.compile(r"(?i)(code|zip|phone|fax|number|ssn|no)$|date|time")
FLAG = re.compile(r"(?i:is|has|if|was|can)([_ ]|(?=[A-Z][a-z]))")
YEARS = range(1000, 2101)
MOST_GROUPS = 0.5  # distinct values, as a share of the rows, of a column that is grouped by
# What would not survive a prompt, or an answer's code fence.
UNUSABLE = re.compile(
    r"[^\S ]|[\0-\x1f\x7f-\x9f]|###|```|[\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udfff]|^\s|\s$|  "
)


@dataclass(frozen=True)
class Facts:
    """values: usable ones, the most frequent first. rows: that were read. filled: of them without NULL. distinct:
    different values. is_code: whether its name says that it neither counts nor calls anything. is_number, is_date:
    whether all values are. keeps_order: whether the database sorts them as numbers. is_flag: whether its name asks, as
    is_open does.
    """

    place: Place
    values: tuple[Value, ...]
    rows: int
    filled: int
    distinct: int
    is_key: bool
    is_code: bool
    is_number: bool
    keeps_order: bool
    is_date: bool
    is_year: bool
    is_flag: bool

    @property
    def is_category(self) -> bool:
        """Whether its values are shared by rows, so that groups of them say something."""
        is_other = self.is_measure or self.is_key or self.is_flag
        return not is_other and 1 < self.distinct <= max(2, MOST_GROUPS * self.filled)

    @property
    def is_name(self) -> bool:
        """Whether its texts tell rows apart, as names and titles do."""
        return (
            not (self.is_number or self.is_date or self.is_key or self.is_flag)
            and self.distinct > MOST_GROUPS * self.filled
        )

    @property
    def is_unique(self) -> bool:
        """Whether each row has a value of its own."""
        return self.distinct == self.rows

    @property
    def is_measure(self) -> bool:
        """Whether sums and averages of it mean something."""
        return self.is_number and not (self.is_year or self.is_key or self.is_code) and self.distinct > 2

    @property
    def is_ordered(self) -> bool:
        """Whether its values can be more or less, earlier or later."""
        return (self.is_measure and self.keeps_order) or self.is_date or (self.is_year and self.distinct > 1)


def facts_of(schema: Schema, rows: Mapping[str, Sequence[Sequence[object]]]) -> dict[Place, Facts]:
    """The facts on each column that is not empty in the `rows` of the tables, in the order of their columns."""
    found = {}
    for table in schema.tables:
        if not (read := rows.get(table.name)):
            continue
        for column, cells in zip(table.columns, zip(*read, strict=True), strict=True):
            facts = _facts(table, column, cells)
            if facts.filled:
                found[facts.place] = facts
    return found


def _facts(table: Table, column: Column, cells: Sequence[object]) -> Facts:
    counted = Counter(cell for cell in cells if isinstance(cell, str | int | float) and cell != "")
    every, name = list(counted), column.name.lower()
    foreign = {name for reference in table.references for name in reference.columns}
    is_number = bool(every) and column.type not in DATES and all(map(_is_number, every))
    keeps_order = is_number and _keeps_order(every)
    return Facts(
        Place(table.name, column.name),
        tuple(value for value, _ in counted.most_common() if is_usable(value)),
        rows=len(cells),
        filled=counted.total(),
        distinct=len(counted),
        is_key=name in foreign or (name,) in table.keys or bool(ID.search(column.name)),
        is_code=bool(CODE.search(column.name)),
        is_number=is_number,
        keeps_order=keeps_order,
        is_date=bool(every) and all(isinstance(value, str) and ISO_DATE.fullmatch(value) for value in every),
        is_year=keeps_order and "year" in name and all(float(value) in YEARS for value in every),
        is_flag=bool(FLAG.match(column.name)),
    )


def is_usable(value: object) -> bool:
    """Whether a question can have the value: a number, or a short text that a prompt shows as it is."""
    return not isinstance(value, str) or (0 < len(value) <= LONGEST and not UNUSABLE.search(value))


def _is_number(value: Value) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"-?\d+(\.\d+)?", value))


def _keeps_order(values: Sequence[Value]) -> bool:
    """Whether a database that compares texts finds the order of the numbers."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return True
    return len(texts) == len(values) and sorted(texts) == sorted(texts, key=float)
