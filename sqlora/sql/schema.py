"""The schema of a database: its tables and columns, and the spelling of their names."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, field, replace

STYLES = ("plain", "described", "full")  # of a schema's text: each shows what the one before does, and more
MOST_SAMPLES = 3  # values of a column
LONGEST_SAMPLE = 40  # characters that are shown of one
LONGEST_COMMENT = 200  # characters, as it is read from where a database is described
LONGEST_NOTE = 400  # of a comment in a schema's text, with its samples
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
    """comment: what it means, in words. samples: some of its values. Both are for the reader: columns are the same
    without.
    """

    name: str
    type: str  # text, integer, real, date, time, timestamp or boolean; other is what a live database alone has
    default: str | int | float | None = None
    comment: str = field(default="", compare=False)
    samples: tuple[str | int | float, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        """As CREATE TABLE has it."""
        return f"{quote_name(self.name)} {SPELLING.get(self.type, self.type.upper())}"

    def note(self, style: str) -> str:
        """The comment that follows it in a style."""
        said = [self.comment] if self.comment else []
        if style == "full" and self.samples:
            said.append(f"such as {', '.join(map(shown_value, self.samples[:MOST_SAMPLES]))}")
        return sql_comment("; ".join(said))


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
    NULL. checks: conditions of each row, in SQLite's SQL. comment: what it holds, in words. qualifier: the schema that
    `name` begins with, as in sales.orders, where other tables have the same name. place: the schema and name that it
    has in its database, if that is not `name` in the default schema. is_partial: whether it has hidden columns.
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    required: frozenset[str] = frozenset()
    references: tuple[Reference, ...] = ()
    checks: tuple[str, ...] = ()
    comment: str = field(default="", compare=False)
    qualifier: str = ""
    place: tuple[str, str] | None = None
    is_partial: bool = False

    def __str__(self) -> str:
        """Its name as SQL has it."""
        if not self.qualifier:
            return quote_name(self.name)
        return f"{quote_name(self.qualifier)}.{quote_name(self.name.removeprefix(self.qualifier + '.'))}"


@dataclass(frozen=True)
class Schema:
    """Tables in the order of their first CREATE TABLE; `merged` has the names of those created more than once."""

    tables: tuple[Table, ...]
    merged: tuple[str, ...] = ()

    def ddl(self, style: str = "plain") -> str:
        """CREATE TABLE text, a statement per table, in the style of sql-create-context; names are quoted where needed.

        described has also PRIMARY KEY, UNIQUE, NOT NULL, FOREIGN KEY, and comments after what they are about; full has
        sample values in these.
        """
        return "; ".join(self.statements(style))

    def statements(self, style: str = "plain") -> list[str]:
        """The statements of `ddl`."""
        if style == "plain":
            return [f"CREATE TABLE {table} ({', '.join(map(str, table.columns))})" for table in self.tables]
        return [
            f"CREATE TABLE {table}{sql_comment(table.comment)} ({', '.join(self._definitions(table, style))})"
            for table in self.tables
        ]

    def _definitions(self, table: Table, style: str) -> list[str]:
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
            parts.append(part + column.note(style))
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
                parts.append(f"FOREIGN KEY ({own}) REFERENCES {target} ({keys})")
        return parts

    def consistent(self) -> Schema:
        """The schema without foreign keys of or to columns that it does not have."""
        names = {table.name.lower(): {column.name.lower() for column in table.columns} for table in self.tables}

        def fits(table: Table, reference: Reference) -> bool:
            return reference.fits(names[table.name.lower()], names.get(reference.table, set()))

        tables = (replace(t, references=tuple(r for r in t.references if fits(t, r))) for t in self.tables)
        return replace(self, tables=tuple(tables))

    @property
    def is_described(self) -> bool:
        """Whether there is more to show than names and types."""
        return any(
            table.keys or table.required or table.references or table.comment or any(c.comment for c in table.columns)
            for table in self.tables
        )

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


def sql_comment(text: str) -> str:
    """A comment of SQL, with a blank before it, on one line and of at most LONGEST_NOTE characters; "" of nothing."""
    text = " ".join(text.replace("*/", "* /").replace("/*", "/ *").split())
    return f" /* {shortened(text, LONGEST_NOTE)} */" if text else ""


def shown_value(value: str | int | float) -> str:
    """A value as SQL writes it; of a long text the beginning."""
    if not isinstance(value, str):
        return str(value)
    return "'" + shortened(re.sub(r"\s", " ", value), LONGEST_SAMPLE).replace("'", "''") + "'"


def shortened(text: str, most: int) -> str:
    """The text, or its first characters and an ellipsis, `most` together."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
