"""Samples of columns: frequent values of a table's first rows."""

import pytest

from sqlora.sql.parsing import SqlError, parse_schema
from sqlora.sql.sampling import first_rows, sample

SCHEMA = parse_schema(
    'CREATE TABLE t (id INTEGER PRIMARY KEY, kind TEXT, size REAL, "odd name" BLOB, note TEXT); CREATE TABLE u (a INT)'
)
ROWS = [
    (1, "b", 2.5, b"\0", "x" * 200),
    (2, "a", None, b"\1", ""),
    (3, "a", 2.5, None, None),
    (4, "c", 1.0, None, None),
]


def read(table):
    if table.name == "u":
        raise SqlError("timeout", "late")
    return ROWS


def test_frequent_values_are_shown_and_numbers_of_rows_are_not():
    sampled = sample(SCHEMA, read)
    shown = sampled.schema.table("t")
    assert [column.samples for column in shown.columns] == [(), ("a", "b", "c"), (2.5, 1.0), (), ("x" * 200,)]
    assert "note VARCHAR /* such as '" + "x" * 39 + "…' */" in sampled.schema.ddl("full")
    assert sampled.texts["t", "kind"] == ("a", "b", "c")
    assert sampled.texts["t", "note"] == ()
    assert sampled.unread == ("u",)
    assert sampled.schema == SCHEMA


def test_tables_that_are_not_reached_in_time_have_no_samples():
    sampled = sample(SCHEMA, read, seconds=-1)
    assert sampled.unread == ("t", "u")
    assert sampled.schema.ddl("full") == SCHEMA.ddl("described")


@pytest.mark.parametrize(("dialect", "quote"), [("sqlite", '"'), ("postgres", '"'), ("mysql", "`")])
def test_the_query_names_every_column(dialect, quote):
    text = first_rows(SCHEMA.table("t")).sql(dialect)
    assert text == 'SELECT "id", "kind", "size", "odd name", "note" FROM "t" LIMIT 10000'.replace('"', quote)
