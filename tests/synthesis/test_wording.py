"""Lists, numbers and order in words."""

import random

import cinema
import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.names import Names
from sqlora.synthesis.phrases import Phrases
from sqlora.synthesis.query_tree import Order, Output, Place, Query, Rows
from sqlora.synthesis.wording import Wording, listed

SCHEMA = parse_schema(cinema.TABLES)


@pytest.fixture
def wording():
    phrases = Phrases(Names(SCHEMA), KeyGraph(SCHEMA), facts_of(SCHEMA, cinema.rows()), random.Random(0))
    return Wording(
        phrases, Query("Film", Rows("Film"), (Output(Place("Film", "Title")), Output(Place("Film", "Year"))))
    )


@pytest.mark.parametrize(("words", "said"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_lists(words, said):
    assert listed(words) == said


def test_numbers(wording):
    assert {wording.number(2) for _ in range(50)} == {"2", "two"}
    assert wording.number(11) == "11"


def test_columns(wording):
    assert (wording.columns(True), wording.columns(False)) == ("titles and years", "title and year")


@pytest.mark.parametrize(
    ("column", "descending", "said"),
    [
        ("Title", False, "in alphabetical order of title"),
        ("Title", True, "sorted by title in reverse alphabetical order"),
        ("Year", True, "ordered by year in descending order"),
    ],
)
def test_order(wording, column, descending, said):
    assert said in {wording.sorted_by(Order(Output(Place("Film", column)), descending)) for _ in range(100)}
