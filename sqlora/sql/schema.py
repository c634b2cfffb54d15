"""The schema of a database: its tables and columns, and the spelling of their names."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

SPELLING = {"text": "VARCHAR", "other": "VARCHAR"}  # in DDL; every other type has its own name
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# names that SQLite or most other databases take for keywords unless they are quoted
RESERVED = frozenset(
    "ADD ALL ALTER AND AS AUTOINCREMENT BETWEEN BY CASE CAST CHECK COLLATE COMMIT CONSTRAINT CREATE CROSS "
    "CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DEFAULT DEFERRABLE DELETE DESC DISTINCT DROP ELSE END ESCAPE "
    "EXCEPT EXISTS FALSE FOREIGN FROM FULL GROUP HAVING IF IN INDEX INNER INSERT INTERSECT INTO IS ISNULL JOIN "
    "LEFT LIKE LIMIT NATURAL NOT NOTHING NOTNULL NULL ON OR ORDER OUTER PRIMARY RAISE REFERENCES RETURNING RIGHT "
    "SELECT SET TABLE THEN TO TRANSACTION TRUE UNION UNIQUE UPDATE USING VALUES WHEN WHERE WITH".split()
)


@dataclass(frozen=True)
class Column:
    name: str
    type: str  # text, integer, real, date, time, timestamp or boolean; other is what a live database alone has
    default: str | int | float | None = None

    def __str__(self) -> str:
        """As CREATE TABLE has it."""
        return f"{quote_name(self.name)} {SPELLING.get(self.type, self.type.upper())}"


@dataclass(frozen=True)
class Reference:
    """A foreign key: `columns` have values that `keys`, as many columns of `table`, have; names are in lower case."""

    columns: tuple[str, ...]
    table: str
    keys: tuple[str, ...]

    def fits(self, own: Set[str], target: Set[str]) -> bool:
        """Whether it is between columns of the table that has it and as many of the other."""
        return len(self.columns) == len(self.keys) and own >= set(self.columns) and target >= set(self.keys)


@dataclass(frozen=True)
class Table:
    """A table and its constraints, in which names are in lower case.

    keys: columns whose values together occur once (PRIMARY KEY, the first, and UNIQUE). required: columns that are NOT
    NULL. checks: conditions of each row, in SQLite's SQL.
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    required: frozenset[str] = frozenset()
    references: tuple[Reference, ...] = ()
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """Tables in the order of their first CREATE TABLE; `merged` has the names of those created more than once."""

    tables: tuple[Table, ...]
    merged: tuple[str, ...] = ()

    def ddl(self, has_keys: bool = False) -> str:
        """CREATE TABLE text, a statement per table, in the style of sql-create-context; names are quoted where
        needed. With `has_keys` also PRIMARY KEY, UNIQUE, NOT NULL and FOREIGN KEY.
        """
        return "; ".join(self.statements(has_keys))

    def statements(self, has_keys: bool = False) -> list[str]:
        """The statements of `ddl`."""
        return [
            f"CREATE TABLE {quote_name(table.name)} ({', '.join(parts)})"
            for table in self.tables
            for parts in [self._definitions(table) if has_keys else map(str, table.columns)]
        ]

    def _definitions(self, table: Table) -> list[str]:
        """What stands between the brackets of CREATE TABLE."""
        spelled = {column.name.lower(): quote_name(column.name) for column in table.columns}
        primary = next((key for key in table.keys if table.required.issuperset(key)), ())
        parts = []
        for column in table.columns:
            part, name = str(column), column.name.lower()
            if primary == (name,):
                part += " PRIMARY KEY"
            elif name in table.required and name not in primary:
                part += " NOT NULL"
            parts.append(part)
        for key in table.keys:
            if key != primary or len(key) > 1:
                kind = "PRIMARY KEY" if key == primary else "UNIQUE"
                parts.append(f"{kind} ({', '.join(spelled[name] for name in key)})")
        for reference in table.references:
            if target := self.table(reference.table):
                theirs = {column.name.lower(): quote_name(column.name) for column in target.columns}
                own, keys = (
                    ", ".join(spelled[n] for n in reference.columns),
                    ", ".join(theirs[n] for n in reference.keys),
                )
                parts.append(f"FOREIGN KEY ({own}) REFERENCES {quote_name(target.name)} ({keys})")
        return parts

    @property
    def links(self) -> list[tuple[str, str]]:
        """Pairs of tables that a foreign key joins."""
        references = [(table, reference) for table in self.tables for reference in table.references]
        return [(table.name, other.name) for table, one in references if (other := self.table(one.table))]

    def table(self, name: str) -> Table | None:
        return next((table for table in self.tables if table.name.lower() == name.lower()), None)


def quote_name(name: str) -> str:
    plain = PLAIN_NAME.fullmatch(name) and name.upper() not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'
