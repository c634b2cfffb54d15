"""Differences: as few rows as show them, and SQL that shows them anywhere."""

import sqlite3

from concert import CONTEXT

from sqlora.evaluation import differences
from sqlora.evaluation.judge import judge_prediction
from sqlora.sql.parsing import parse_schema
from sqlora.sql.sandbox import QueryResult

SCHEMA = parse_schema(CONTEXT)


def test_rows_that_the_difference_does_not_need_are_left_out():
    rows = {"singer": [(i, f"n{i}", i, None) for i in range(20)], "song": [(i, i, "t") for i in range(20)]}
    found = differences.shrink(rows, SCHEMA, lambda fewer: any(row[0] == 7 for row in fewer["song"]))
    assert found == {"singer": [(7, "n7", 7, None)], "song": [(7, 7, "t")]}  # its foreign key stays
    assert len(rows["song"]) == 20


def test_a_difference_that_needs_all_rows_keeps_them():
    rows = {"singer": [(1, "a", 1, None), (2, "b", 2, None)], "song": []}
    assert differences.shrink(rows, SCHEMA, lambda fewer: len(fewer["singer"]) == 2) == rows


def test_the_script_shows_the_difference_in_any_sqlite():
    gold, prediction = "SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age >= 30"
    found = judge_prediction(CONTEXT, gold, prediction)
    assert len(found.difference.database["singer"]["rows"]) == 1
    connection = sqlite3.connect(":memory:")
    connection.executescript(found.difference.script)
    assert connection.execute(gold).fetchall() == found.difference.expected == []
    assert connection.execute(prediction).fetchall() == found.difference.predicted
    connection.close()


def test_the_script_compares_as_the_scorer_does():
    context, gold = "CREATE TABLE t (code VARCHAR)", "SELECT COUNT(*) FROM t WHERE code > 9"
    found = judge_prediction(context, gold, "SELECT COUNT(*) FROM t WHERE code >= 9")
    connection = sqlite3.connect(":memory:")
    connection.executescript(found.difference.script)
    assert connection.execute(gold).fetchall() == found.difference.expected
    connection.close()


def test_values_of_every_kind_are_written_as_sql():
    rows = {"singer": [(1, "O'Hara", 2.5, None), (2, b"\x00\xff", -3, "x")], "song": []}
    result = QueryResult(("a",), [(1,)])
    found = differences.mismatch(result, QueryResult(("a",), [(2,)]), "a synthetic database", SCHEMA, rows)
    connection = sqlite3.connect(":memory:")
    connection.executescript(found.difference.script)
    assert connection.execute("SELECT * FROM singer").fetchall() == rows["singer"]
    connection.close()
    assert found.why == "on a synthetic database it returns other rows"
    assert found.difference.database["singer"]["rows"][1][1] == str(b"\x00\xff")


def test_the_line_says_what_differs():
    one, two, turned = (QueryResult(("a",), rows) for rows in ([(1,)], [(1,), (2,)], [(2,), (1,)]))
    wide = QueryResult(("a", "b"), [(1, 2)])
    for expected, result, why in (
        (one, wide, "it returns 2 columns instead of 1"),
        (one, two, "on x it returns 2 rows instead of 1"),
        (two, turned, "on x it returns the right rows in the wrong order"),
    ):
        assert differences.mismatch(expected, result, "x").why == why
