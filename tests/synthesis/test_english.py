"""Questions say all that a query does, and nothing else."""

import random
import re

import cinema
import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.english import questions
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import AGENTS, Names, plural
from sqlora.synthesis.query_grammar import Grammar
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

SCHEMA = parse_schema(cinema.TABLES)
GRAPH, NAMES = KeyGraph(SCHEMA), Names(SCHEMA)
FACTS = facts_of(SCHEMA, cinema.rows())


def asked(query, most=200):
    """Every wording that comes up."""
    return questions(query, NAMES, GRAPH, FACTS, random.Random(0), most)


def film(column):
    return Place("Film", column)


TITLE, GROSS, GENRE, AGE = film("Title"), film("Gross"), film("Genre"), Place("director", "Age")
TO_DIRECTOR = Link(film("Director_ID"), Place("director", "Director_ID"))
OF_CAST, ACTOR_OF_CAST = (
    Link(Place("film_cast", "FilmID"), film("FilmID")),
    Link(Place("film_cast", "ActorID"), Place("actor", "ActorID")),
)
BEST = Link(Place("actor", "BestFilm"), film("FilmID"))
NAME = Output(Place("director", "Name"))


@pytest.mark.parametrize(
    ("query", "question"),
    [
        (Query("Film", Rows("Film"), (Output(TITLE), Output(GROSS))), "What are the titles and grosses of all films?"),
        (
            Query("director", Rows("director", filters=(Compared(AGE, ">", (50,)),)), (NAME,)),
            "Show the names of directors older than 50.",
        ),
        (
            Query("director", Rows("director", filters=(Compared(NAME.place, "=", ("Ada",)),)), (Output(AGE),)),
            "What is the age of the director named Ada?",
        ),
        (
            Query("Film", Rows("Film", filters=(Compared(film("Year"), "=", (2001,)),)), (COUNT,)),
            "How many films are in 2001?",
        ),
        (
            Query("Film", Rows("Film", filters=(Compared(film("is_open"), "=", ("Y",)),)), (COUNT,)),
            "How many films are open?",
        ),
        (
            Query("director", Rows("director"), (NAME,), order=Order(Output(AGE), True, 1)),
            "What is the name of the oldest director?",
        ),
        (
            Query("Film", Rows("Film"), (Output(TITLE),), order=Order(Output(film("Release_Date")), True, 1)),
            "Which film has the most recent release date? Show its title.",
        ),
        (Query("Film", Rows("Film"), (Output(GENRE), COUNT), group=GENRE), "How many films are there for each genre?"),
        (
            Query("Film", Rows("Film"), (Output(GENRE),), group=GENRE, having=Having(COUNT, ">", 1)),
            "Which genres have more than one film?",
        ),
        (
            Query("Film", Rows("Film"), (Output(GENRE),), group=GENRE, order=Order(COUNT, True, 1)),
            "Which genre has the most films?",
        ),
        (
            Query(
                "director", Rows("Film", (TO_DIRECTOR,)), (NAME,), group=TO_DIRECTOR.parent, order=Order(COUNT, True, 1)
            ),
            "What is the name of the director with the most films?",
        ),
        (
            Query("Film", Rows("film_cast", (OF_CAST,)), (Output(TITLE), COUNT), group=OF_CAST.parent),
            "For each film, show the title and the number of actors.",
        ),
        (
            Query("Film", Rows("actor", (BEST,)), (Output(TITLE), COUNT), group=BEST.parent),
            "Show the title of each film and the number of actors with it as best film.",
        ),
        (
            Query("director", Rows("director", filters=(Linked(TO_DIRECTOR, True),)), (NAME,)),
            "List the names of directors that have no films.",
        ),
        (
            Query("Film", Rows("Film", filters=(ComparedWithRows(GROSS, ">", "AVG"),)), (Output(TITLE),)),
            "Find the titles of films whose gross is above the average.",
        ),
        (
            Query(
                "Film",
                Rows("Film", (TO_DIRECTOR,), (Compared(NAME.place, "=", ("Ada",)),)),
                (Output(GROSS, "AVG"),),
            ),
            "What is the average gross of films of the director named Ada?",
        ),
        (
            Query(
                "actor",
                Rows("film_cast", (ACTOR_OF_CAST, OF_CAST), (Compared(GENRE, "=", ("Drama",)),)),
                (Output(Place("actor", "Name")),),
                distinct=True,
            ),
            "What are the different names of actors that have films with genre Drama?",
        ),
        (
            Query(
                "Film",
                Rows("Film", filters=(Compared(GROSS, ">", (50,)),)),
                (Output(GENRE),),
                second=("INTERSECT", Rows("Film", filters=(Compared(GROSS, "<", (9,)),))),
            ),
            "Which genres have both films with gross above 50 and films with gross below 9?",
        ),
        (
            Query(
                "Film",
                Rows("Film"),
                (Output(GENRE),),
                second=("EXCEPT", Rows("Film", filters=(Compared(film("Year"), "=", (2001,)),))),
            ),
            "Which genres have no films in 2001?",
        ),
        (
            Query(
                "film_cast",
                Rows("film_cast", (ACTOR_OF_CAST,), (Compared(Place("actor", "Name"), "=", ("Ada",)),)),
                (COUNT,),
            ),
            "How many films does the actor named Ada have?",
        ),
        (
            Query(
                "Film",
                Rows("film_cast", (OF_CAST, ACTOR_OF_CAST), (Compared(Place("actor", "Age"), ">", (40,)),)),
                (Output(TITLE),),
                second=(
                    "EXCEPT",
                    Rows("film_cast", (OF_CAST, ACTOR_OF_CAST), (Compared(Place("actor", "Age"), "<", (20,)),)),
                ),
            ),
            "Show the titles of films that have actors older than 40 but no actors younger than 20.",
        ),
        (
            Query("Film", Rows("Film", (TO_DIRECTOR,)), (Output(TITLE), NAME)),
            "Show the title of each film and the name of its director.",
        ),
    ],
)
def test_wordings(query, question):
    assert question in asked(query)


def drawn(count):
    grammar = Grammar(SCHEMA, GRAPH, FACTS, random.Random(3))
    return [query for _ in range(count) if (query := grammar.draw())]


def test_every_question_names_each_column_table_and_value():
    """All that tells a query from others like it."""
    generator = random.Random(1)
    for query in drawn(1000):
        for question in questions(query, NAMES, GRAPH, FACTS, generator):
            for constant in re.findall(r"'((?:[^']|'')*)'|(?<![\w.])(\d+(?:\.\d+)?)", query.sql()):
                text, number = constant
                value = (text or number).replace("''", "'").strip("%").removesuffix(" 00:00:00")
                is_limit = query.order and str(query.order.limit) == value
                is_flag = text in ("Y", "N")
                counted = query.having and str(query.having.value) == value
                assert value in question or is_limit or is_flag or counted, (question, query.sql())
            for output in query.outputs:
                if output.place and not (output.aggregate and output == COUNT):
                    name = NAMES.column(output.place.table, output.place.column)
                    name = AGENTS.get(name, name)
                    assert name in question or plural(name) in question, (question, query.sql())
            if not GRAPH.is_linking(query.subject):
                assert NAMES.table(query.subject) in question or plural(NAMES.table(query.subject)) in question
            assert question[0].isupper()
            assert question[-1] in ".?"
            assert "  " not in question


def test_directions_differ():
    """Ascending or descending, most or least, some or none are never said in the same words."""
    for query in drawn(600):
        if query.order:
            other = Order(query.order.by, not query.order.descending, query.order.limit)
            opposite = Query(**{**vars(query), "order": other})
            assert not set(asked(query, 20)) & set(asked(opposite, 20)), query.sql()


def test_the_seed_decides():
    query = drawn(5)[0]
    assert asked(query, 3) == asked(query, 3)
