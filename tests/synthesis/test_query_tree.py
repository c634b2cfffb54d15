"""Drawn queries as SQL."""

from dataclasses import replace

import pytest

from sqlora.synthesis.query_tree import (
    COUNT,
    Compared,
    ComparedWithRows,
    Having,
    Link,
    Linked,
    Order,
    Output,
    Place,
    Query,
    Rows,
)

NAME, AGE = Place("singer", "name"), Place("singer", "age")
SALES = Place("song", "total sales")
LINK = Link(Place("song", "singer"), Place("singer", "id"))
SHOWN = (Output(NAME),)


@pytest.mark.parametrize(
    ("query", "sql"),
    [
        (Query("singer", Rows("singer"), SHOWN, distinct=True), "SELECT DISTINCT name FROM singer"),
        (
            Query(
                "singer", Rows("singer", filters=(Compared(NAME, "=", ("O'x", "b")), Compared(AGE, ">", (3.0,)))), SHOWN
            ),
            "SELECT name FROM singer WHERE (name = 'O''x' OR name = 'b') AND age > 3",
        ),
        (
            Query("song", Rows("song", filters=(Compared(SALES, "between", (-1, 2.5)),)), (Output(SALES, "AVG"),)),
            'SELECT AVG("total sales") FROM song WHERE "total sales" BETWEEN -1 AND 2.5',
        ),
        (
            Query("singer", Rows("singer", filters=(Linked(LINK, True),)), (COUNT,)),
            "SELECT COUNT(*) FROM singer WHERE NOT id IN (SELECT singer FROM song)",
        ),
        (
            Query("singer", Rows("singer", filters=(ComparedWithRows(AGE, ">", "AVG"),)), SHOWN),
            "SELECT name FROM singer WHERE age > (SELECT AVG(age) FROM singer)",
        ),
        (
            Query(
                "singer",
                Rows("song", (LINK,)),
                (*SHOWN, COUNT),
                group=LINK.parent,
                having=Having(COUNT, ">", 1),
                order=Order(COUNT, True, 1),
            ),
            "SELECT T2.name, COUNT(*) FROM song AS T1 JOIN singer AS T2 ON T1.singer = T2.id GROUP BY T2.id "
            "HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC LIMIT 1",
        ),
        (
            Query(
                "singer",
                Rows("singer", filters=(Compared(NAME, "contains", ("x",)),)),
                (Output(AGE, "COUNT", distinct=True),),
                second=("EXCEPT", Rows("singer", filters=(Compared(NAME, "starts with", ("y",)),))),
            ),
            "SELECT COUNT(DISTINCT age) FROM singer WHERE name LIKE '%x%' EXCEPT "
            "SELECT COUNT(DISTINCT age) FROM singer WHERE name LIKE 'y%'",
        ),
        (
            Query("singer", Rows("singer"), SHOWN, order=Order(Output(AGE), False)),
            "SELECT name FROM singer ORDER BY age",
        ),
    ],
)
def test_sql(query, sql):
    assert query.sql() == sql


def test_weaker_queries_lack_a_condition_each():
    filters = (Compared(AGE, ">", (3,)), Compared(NAME, "=", ("x",)))
    query = Query("singer", Rows("singer", filters=filters), SHOWN, distinct=True)
    assert [weaker.sql() for weaker in query.weaker()] == [
        "SELECT DISTINCT name FROM singer WHERE name = 'x'",
        "SELECT DISTINCT name FROM singer WHERE age > 3",
        "SELECT name FROM singer WHERE age > 3 AND name = 'x'",
    ]


def test_the_key_of_an_order_is_shown_for_one_row_more():
    query = Query("singer", Rows("singer"), SHOWN, order=Order(Output(AGE), True, 2))
    assert query.with_key().sql() == "SELECT age FROM singer ORDER BY age DESC LIMIT 3"


def test_parts_are_the_columns_and_the_keys():
    query = Query("singer", Rows("song", (LINK,)), SHOWN)
    assert query.parts() == {NAME, LINK, LINK.child, LINK.parent}


def test_parents_with_few_children_and_parents_that_come_twice():
    joined, own = Rows("song", (LINK,)), Rows("singer")
    assert Query("singer", joined, SHOWN).repeats_parents
    assert not Query("singer", joined, SHOWN, distinct=True).repeats_parents
    assert not Query("singer", own, SHOWN).repeats_parents
    grouped = Query("singer", joined, SHOWN, group=LINK.parent)
    assert [replace(grouped, order=Order(COUNT, down, 1)).counts_few for down in (False, True)] == [True, False]
    assert [replace(grouped, having=Having(COUNT, sign, 2)).counts_few for sign in "<>"] == [True, False]
