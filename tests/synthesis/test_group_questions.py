"""Questions about groups."""

import random

import cinema
import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.group_questions import GroupQuestion
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import Names
from sqlora.synthesis.phrases import Phrases
from sqlora.synthesis.query_tree import COUNT, Compared, Having, Order, Output, Place, Query, Rows

SCHEMA = parse_schema(cinema.TABLES)
GENRE, GROSS, NAME = Place("Film", "Genre"), Place("Film", "Gross"), Place("director", "Name")
GRAPH = KeyGraph(SCHEMA)
(LINK,) = GRAPH.parents("Film")
OLD = Rows("Film", filters=(Compared(Place("Film", "Year"), "<", (2000,)),))
AVERAGE = Output(GROSS, "AVG")


def every(query):
    phrases = Phrases(Names(SCHEMA), GRAPH, facts_of(SCHEMA, cinema.rows()), random.Random(0))
    return {GroupQuestion(phrases, query).text() for _ in range(400)}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            Query("Film", OLD, (Output(GENRE), COUNT), group=GENRE),
            "How many films with year before 2000 are there for each genre",
        ),
        (
            Query("Film", Rows("Film"), (Output(GENRE),), group=GENRE, having=Having(AVERAGE, ">", 30.0)),
            "For which genres is the average gross of films above 30",
        ),
        (
            Query("Film", Rows("Film"), (Output(GENRE), COUNT), group=GENRE, order=Order(COUNT, False, 2)),
            "Which two genres have the fewest films? Show the genres and the number of films",
        ),
        (
            Query("Film", Rows("Film"), (Output(GENRE), AVERAGE), group=GENRE, order=Order(AVERAGE, True)),
            "For each genre, show the average gross of films, in descending order of average gross",
        ),
        (
            Query("director", Rows("Film", (LINK,)), (Output(NAME),), group=LINK.parent, having=Having(COUNT, "=", 1)),
            "List the names of the directors with exactly one film",
        ),
        (
            Query(
                "director", Rows("Film", (LINK,)), (Output(NAME),), group=LINK.parent, having=Having(AVERAGE, "<", 5)
            ),
            "Show the names of the directors for which the average gross of films is below 5",
        ),
        (
            Query(
                "director",
                Rows("Film", (LINK,)),
                (Output(NAME), AVERAGE),
                group=LINK.parent,
                order=Order(AVERAGE, True, 3),
            ),
            "Give the names of the 3 directors with the highest average gross of films, and the average gross of films",
        ),
    ],
)
def test_wordings(query, text):
    assert text in every(query)


def test_the_rows_are_called_the_same_throughout():
    query = Query("Film", OLD, (Output(GENRE), COUNT), group=GENRE, order=Order(COUNT, True))
    for text in every(query):
        assert len({text.count(word) > 0 for word in ("with year", "whose year") if word in text}) == 1
