"""Values that a question names."""

import pytest

from sqlora.prompt.value_matching import ValueIndex, lines_of
from sqlora.sql.parsing import parse_schema

TEXTS = {
    ("singer", "country"): ("France", "United States", "the"),
    ("singer", "song name"): ("Hey Oh", "It's", "United"),
    ("airport", "code"): (" AKO", "ABQ", "2014"),
    ("airline", "name"): ("JetBlue Airways",),
}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Who of France is the oldest?", {("singer", "country"): ["France"]}),
        ("singers from the united states", {("singer", "country"): ["United States"]}),
        ("flights that leave from ako", {("airport", "code"): [" AKO"]}),
        ("flights of Jetblue airways in 2014", {("airline", "name"): ["JetBlue Airways"]}),
        ("the song 'Hey Oh'", {("singer", "song name"): ["Hey Oh"]}),
        ("How many are there?", {}),
        ("", {}),
    ],
)
def test_values_are_found_by_their_words(question, found):
    assert ValueIndex(TEXTS).matches(question) == found


def test_few_columns_are_shown_for_a_value_that_many_have():
    index = ValueIndex({("t", f"c{number}"): ("Paris",) for number in range(9)})
    assert index.lines("In Paris?") == "t.c0: 'Paris'\nt.c1: 'Paris'\nt.c2: 'Paris'"


def test_lines_are_kept_for_the_columns_of_a_schema():
    lines = ValueIndex(TEXTS).lines("France, Hey Oh, ABQ")
    assert lines == "singer.\"song name\": 'Hey Oh'\nsinger.country: 'France'\nairport.code: 'ABQ'"
    schema = parse_schema('CREATE TABLE singer ("song name" TEXT); CREATE TABLE airport (code TEXT, name TEXT)')
    assert lines_of(lines, schema) == "singer.\"song name\": 'Hey Oh'\nairport.code: 'ABQ'"
