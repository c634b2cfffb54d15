"""Noun phrases and the conditions after them."""

import random

import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import Names
from sqlora.synthesis.phrases import Phrases
from sqlora.synthesis.query_tree import Compared, Link, Linked, Place, Rows

SCHEMA = parse_schema(
    "CREATE TABLE airport (code TEXT PRIMARY KEY, name TEXT, city TEXT, opened DATE, year INT);"
    "CREATE TABLE flight (id INT PRIMARY KEY, source_airport TEXT REFERENCES airport (code), price INT);"
    "CREATE TABLE crew (id INT PRIMARY KEY, airport TEXT REFERENCES airport (code), hometown TEXT)"
)
ROWS = {
    "airport": [("A", "Ann", "Rome", "2001-02-03", 1999), ("B", "Bo", "Rome", "2002-02-03", 2000)],
    "flight": [(1, "A", 10), (2, "A", 20), (3, "B", 30)],
    "crew": [(1, "A", "Rome"), (2, "A", "Oslo")],
}
GRAPH = KeyGraph(SCHEMA)
FROM_SOURCE, FROM_CREW = GRAPH.links


@pytest.fixture
def phrases():
    return Phrases(Names(SCHEMA), GRAPH, facts_of(SCHEMA, ROWS), random.Random(0))


def every(phrases, say):
    """What is said in many questions."""

    def once():
        phrases.new_question()
        return say()

    return {once() for _ in range(300)}


def airport(column, operator, *values):
    return Compared(Place("airport", column), operator, values)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (airport("name", "=", "Ann"), {"named Ann", "called 'Ann'", 'with the name "Ann"'}),
        (airport("city", "=", "Rome"), {"in Rome", "whose city is 'Rome'"}),
        (airport("city", "<>", "Rome"), {"whose city is not Rome", "with city other than Rome"}),
        (airport("city", "=", "Rome", "Oslo"), {"whose city is Rome or Oslo"}),
        (airport("year", "=", 1999), {"in 1999"}),
        (airport("year", ">", 1999), {"whose year is after 1999", "with year later than 1999"}),
        (airport("opened", ">=", "2001-02-03"), {"whose opened date is on or after 2001-02-03"}),
        (airport("name", "contains", "An"), {"whose name contains 'An'", 'with "An" in the name'}),
        (airport("name", "starts with", "A"), {"whose name starts with 'A'"}),
        (airport("year", "between", 1, 2), {"whose year is between 1 and 2"}),
        (Compared(Place("crew", "hometown"), "=", ("Oslo",)), {"from Oslo"}),
        (Compared(Place("flight", "price"), "<=", (9,)), {"with price at most 9", "whose price is no more than 9"}),
    ],
)
def test_conditions(phrases, condition, said):
    assert said <= every(phrases, lambda: phrases.condition(condition))


def test_the_quotes_are_the_same_within_a_question(phrases):
    condition = airport("city", "=", "new york", "oslo")
    assert "whose city is 'new york' or \"oslo\"" not in every(phrases, lambda: phrases.condition(condition))


def test_a_value_with_quotes_is_in_the_other_ones(phrases):
    assert every(phrases, lambda: phrases.value("O'x y")) == {'"O\'x y"'}


def test_a_key_that_says_what_the_parent_is_gives_its_role(phrases):
    assert (phrases.role(FROM_SOURCE), phrases.role(FROM_CREW)) == ("source airport", "")
    flights = Rows("flight", (FROM_SOURCE,), (airport("city", "=", "Rome"),))
    assert "flights whose source airport is in Rome" in every(phrases, lambda: phrases.rows(flights, "flight"))
    assert phrases.linked(Linked(FROM_SOURCE, True)) == "that are not the source airport of any flights"


def test_one_parent_is_the_parent_and_several_are_some(phrases):
    of_one = Rows("crew", (FROM_CREW,), (airport("name", "=", "Ann"),))
    of_several = Rows("crew", (FROM_CREW,), (airport("city", "=", "Rome"),))
    assert "crews of the airport named Ann" in every(phrases, lambda: phrases.rows(of_one, "crew"))
    assert "crews of airports in Rome" in every(phrases, lambda: phrases.rows(of_several, "crew"))


def test_it_is_clear_whose_condition_it_is(phrases):
    """ "crews of airports in Rome from Oslo" would not be."""
    both = Rows(
        "crew", (FROM_CREW,), (Compared(Place("crew", "hometown"), "=", ("Oslo",)), airport("city", "=", "Rome"))
    )
    assert all("whose airport " in text for text in every(phrases, lambda: phrases.rows(both, "crew")))


def test_children_are_had(phrases):
    link = Link(Place("crew", "airport"), Place("airport", "code"))
    rows = Rows("crew", (link,), (Compared(Place("crew", "hometown"), "=", ("Oslo",)),))
    assert "airports that have crews from Oslo" in every(phrases, lambda: phrases.rows(rows, "airport"))
