"""What the order in which rows are stored decides: every row that may be chosen is chosen once."""

import pytest

from sqlora.evaluation.storage_order import MOST_ROWS, choosing_each, is_one_choice, may_depend_on_storage, reordered
from sqlora.sql.parsing import parse_query, parse_schema
from sqlora.sql.sandbox import Database
from sqlora.sql.schema import Schema

SCHEMA = parse_schema(
    "CREATE TABLE singer (id INT, name TEXT, age INT, country TEXT); "
    "CREATE TABLE song (id INT, singer_id INT, title TEXT)"
)
ROWS = {
    "singer": [(1, "a", 30, "x"), (2, "b", 30, "x"), (3, "c", 30, "x"), (4, "d", 20, "y")],
    "song": [(1, 1, "p"), (2, 2, "q")],
}


def query(sql):
    return parse_query(sql, SCHEMA)


def results(sql):
    with Database(SCHEMA, ROWS) as database:
        return {tuple(database.run(text).rows) for text in choosing_each(query(sql), ROWS)}


@pytest.mark.parametrize(
    ("sql", "chosen"),
    [
        ("SELECT name FROM singer WHERE age > 20 GROUP BY age", {(("a",),), (("b",),), (("c",),)}),
        ("SELECT name FROM singer ORDER BY age DESC LIMIT 1", {(("a",),), (("b",),), (("c",),)}),
        (
            "SELECT name FROM singer WHERE id = (SELECT id FROM singer ORDER BY age DESC LIMIT 1)",
            {(("a",),), (("b",),), (("c",),)},
        ),
        (
            "SELECT singer.name FROM singer JOIN song ON singer.id = song.singer_id GROUP BY singer.id "
            "ORDER BY COUNT(*) LIMIT 1",
            {(("a",),), (("b",),)},
        ),
        ("SELECT name FROM singer LIMIT 1", {(("a",),), (("b",),), (("c",),), (("d",),)}),
    ],
)
def test_each_row_that_may_be_chosen_is_chosen(sql, chosen):
    assert is_one_choice(query(sql), ROWS)
    assert results(sql) == chosen


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM singer",
        "SELECT MAX(age), name FROM singer",
        "SELECT GROUP_CONCAT(name) FROM singer GROUP BY age LIMIT 1",
        "SELECT name FROM singer UNION SELECT title FROM song LIMIT 1",
        "SELECT name FROM singer GROUP BY age UNION SELECT title FROM song GROUP BY singer_id",
    ],
)
def test_several_choices_are_not_known(sql):
    assert not is_one_choice(query(sql), ROWS)


def test_tables_of_many_rows_and_of_none():
    sql = query("SELECT name FROM singer LIMIT 1")
    assert not is_one_choice(sql, {"singer": ROWS["singer"][:1] * (MOST_ROWS + 1)})
    assert list(choosing_each(sql, {"singer": []})) == list(choosing_each(sql, {})) == []


def test_what_may_depend_on_storage():
    for sql, depends in (
        ("SELECT name FROM singer LIMIT 1", False),  # its results are all known
        ("SELECT COUNT(*) FROM singer GROUP BY age", False),
        ("SELECT name FROM singer GROUP BY age", True),
        ("SELECT * FROM singer GROUP BY age", True),
        ("SELECT GROUP_CONCAT(name) FROM singer", True),
        ("SELECT name, SUM(age) OVER (ORDER BY id) FROM singer", True),
        ("SELECT name FROM (SELECT name FROM singer LIMIT 1) AS t", True),
    ):
        assert may_depend_on_storage(query(sql)) == depends, sql


def test_copies_have_the_same_rows_in_other_orders():
    schema = Schema(SCHEMA.tables[:1])
    with Database(schema) as database:
        copies = [copy.run("SELECT * FROM singer").rows for copy in reordered(database, {"singer": ROWS["singer"]})]
    assert all(sorted(rows) == ROWS["singer"] != rows for rows in copies)
