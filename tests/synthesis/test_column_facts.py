"""What columns hold."""

import pytest

from sqlora.sql.parsing import parse_schema
from sqlora.synthesis.column_facts import facts_of, is_usable
from sqlora.synthesis.query_tree import Place


def facts(definition, values):
    name = definition.split()[0]
    schema = parse_schema(f"CREATE TABLE t ({definition})")
    return facts_of(schema, {"t": [(value,) for value in values]}).get(Place("t", name))


@pytest.mark.parametrize(
    ("definition", "values", "kind"),
    [
        ("age INT", [20, 30, 40, 50], "is_measure"),
        ("mpg TEXT", ["9", "18", "25"], "is_measure"),
        ("Year TEXT", ["1999", "2001", "2001"], "is_year"),
        ("born DATE", ["1999-01-02", "2001-01-02", "2003-05-05"], "is_date"),
        ("country TEXT", ["a", "a", "b", "b"], "is_category"),
        ("title TEXT", ["a", "b", "c", "d"], "is_name"),
        ("song_id INT", [1, 2, 3], "is_key"),
        ("is_open TEXT", ["Y", "N", "Y", "N"], "is_flag"),
    ],
)
def test_kinds(definition, values, kind):
    found = facts(definition, values)
    others = {"is_measure", "is_year", "is_category", "is_name", "is_key", "is_flag"} - {kind}
    assert getattr(found, kind)
    allowed = {"is_year": {"is_category"}, "is_date": {"is_name"}}.get(kind, set())
    assert not {other for other in others - allowed if getattr(found, other)}


def test_numbers_in_texts_are_sorted_only_where_the_texts_are():
    assert not facts("mpg TEXT", ["9", "18", "25"]).is_ordered
    assert facts("mpg TEXT", ["09", "18", "25"]).is_ordered
    assert not facts("mpg", [18, "25", 30]).is_ordered  # SQLite has numbers before texts


def test_the_numbers_of_codes_are_not_added_up():
    assert not facts("zip_code INT", [10, 20, 30]).is_measure


def test_empty_columns_have_no_facts():
    assert facts("a TEXT", [None, "", None]) is None


def test_frequent_values_come_first_and_null_counts_as_a_row():
    found = facts("a TEXT", ["x", "y", "y", None])
    assert (found.values, found.rows, found.filled, found.distinct) == (("y", "x"), 4, 3, 2)


@pytest.mark.parametrize("value", ["a\nb", "```", "x ### y", " a", "a  b", "x" * 50, "\u202ea", "\x1b[31m"])
def test_values_that_would_break_a_prompt_are_not_used(value):
    assert not is_usable(value)
    assert facts("a TEXT", [value, "plain"]).values == ("plain",)


def test_values_that_look_like_code_are_as_good_as_others():
    assert is_usable("<b>; DROP TABLE film -- [red]")
