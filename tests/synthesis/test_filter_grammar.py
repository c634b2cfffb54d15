"""Conditions are on what there is."""

import random

import cinema
import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of
from sqlora.synthesis.filter_grammar import FilterGrammar, rounded
from sqlora.synthesis.key_graph import KeyGraph
from sqlora.synthesis.query_tree import Output, Place

SCHEMA = parse_schema(cinema.TABLES)
FACTS = facts_of(SCHEMA, cinema.rows())


@pytest.fixture
def grammar():
    return FilterGrammar(SCHEMA, KeyGraph(SCHEMA), FACTS, random.Random(0))


def drawn(grammar, count=300, **options):
    return [condition for _ in range(count) for condition in grammar._filters("Film", 2, **options)]


def test_equality_is_with_values_of_the_column(grammar):
    equal = [condition for condition in drawn(grammar, picks_one=True) if condition.operator in ("=", "<>")]
    assert len({condition.place for condition in equal}) > 3
    assert all(set(condition.values) <= set(FACTS[condition.place].values) for condition in equal)


def test_limits_lie_within_the_values(grammar):
    for condition in drawn(grammar):
        if condition.operator in (">", "<", "between"):
            values = FACTS[condition.place].values
            assert min(values) <= condition.values[0] <= max(values), condition


def test_only_conditions_that_may_pick_a_row_name_keys_and_names(grammar):
    picking = {Place("Film", "FilmID"), Place("Film", "Title")}
    assert not picking & {condition.place for condition in drawn(grammar)}
    assert picking < {condition.place for condition in drawn(grammar, picks_one=True)}


def test_no_condition_is_on_what_is_shown(grammar):
    genre = Place("Film", "Genre")
    assert genre in {condition.place for condition in drawn(grammar)}
    assert genre not in {condition.place for condition in drawn(grammar, besides=[Output(genre)])}


def test_like_looks_for_what_a_value_has(grammar):
    found = [one for one in drawn(grammar, 1000, picks_one=True) if one.operator in ("contains", "starts with")]
    for condition in found:
        fits = str.startswith if condition.operator == "starts with" else str.__contains__
        assert any(fits(value, condition.values[0]) for value in FACTS[condition.place].values)
    assert len({condition.operator for condition in found}) == 2


def test_two_conditions_of_which_no_row_meets_both(grammar):
    pairs = [pair for _ in range(50) if (pair := grammar._two_filters("Film", []))]
    for one, other in pairs:
        assert one.place == other.place
        if one.operator == "=":
            assert one.values != other.values
        else:
            assert (one.operator, other.operator) == (">", "<")
            assert other.values[0] < one.values[0]
    assert {one.operator for one, _ in pairs} == {"=", ">"}


@pytest.mark.parametrize(
    ("value", "digits", "expected"), [(764902, 2, 760000), (7, 2, 7), (43.71, 1, 40.0), (-1234, 1, -1000)]
)
def test_rounded(value, digits, expected):
    assert rounded(value, digits) == expected
    assert type(rounded(value, digits)) is type(value)


def test_values_that_are_all_rounded_to_one_stay_as_they_are():
    schema = parse_schema("CREATE TABLE t (a INT)")
    found = facts_of(schema, {"t": [(value,) for value in (101, 102, 103, 104)]})
    grammar = FilterGrammar(schema, KeyGraph(schema), found, random.Random(0))
    limits = {value for _ in range(200) for one in grammar._filters("t") for value in one.values}
    assert limits == {101, 102, 103, 104}
