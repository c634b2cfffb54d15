"""A column's values: their kind, constants and what is near them, and values of which none comes twice."""

import random

import pytest

from sqlora.evaluation.column_values import Domain, Pool
from sqlora.sql.parsing import Literal


def domain(*values, types=("text",), pattern=False, **facts):
    return Domain([Literal(value, "c", pattern=pattern) for value in values], set(types), **facts)


def drawn(of, count=4, number=400):
    pool = Pool(of, count, random.Random(0))
    return {pool.any() for _ in range(number)}, {pool.near() for _ in range(number)}


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        (domain(types=["date"]), "date"),
        (domain("soon", types=["date"]), "text"),
        (domain(3, types=["date"], is_numeric=True), "integer"),
        (domain(3), "integer"),
        (domain("3", "x"), "text"),
        (domain("3%", pattern=True), "text"),
        (domain(types=["integer", "real"]), "real"),
        (domain(types=["boolean"]), "boolean"),
        (domain("16:25:00", types=["time"]), "time"),
        (domain("1:27.45", types=["time"]), "text"),  # of a lap
    ],
)
def test_the_kind_follows_the_type_and_the_constants(of, kind):
    assert of.kind() == kind


@pytest.mark.parametrize(
    ("of", "near"),
    [
        (domain(30, types=["integer"]), {29, 30, 31}),
        (domain(2**63 - 1, types=["integer"]), {2**63 - 2, 2**63 - 1}),
        (domain(1.5, types=["real"]), {0.5, 1.0, 1.5, 2.0, 2.5}),
        (domain("Peru"), {"Peru", "pERU", "Per", "Perus", "aPeru"}),
        (
            domain("2000-02-29", types=["date"]),
            {"2000-02-29", "2000-02-28", "2000-03-01", "1999-02-28", "2001-03-01"},
        ),
        (domain("16:25:00", types=["time"]), {"16:25:00", "16:24:00", "16:26:00", "15:25:00", "17:25:00"}),
        (domain("9999-12-31", types=["date"]), {"9999-12-31", "9999-12-31s"}),  # no day comes after it
        (domain(), set()),
    ],
)
def test_near_values_are_the_constant_and_its_neighbours(of, near):
    values, close = drawn(of)
    assert close == (near or values)
    assert near <= values


def test_none_of_the_distinct_values_comes_twice():
    for of in (domain(30, types=["integer"]), domain("Peru"), domain(types=["date"]), domain(types=["real"])):
        values = Pool(of, 3, random.Random(0)).distinct(60)
        assert len(set(values)) == len(values) == 60
    clocks = Pool(domain(types=["time"]), 3, random.Random(0)).distinct(60)
    assert all(len(clock) == 8 and clock < "24" for clock in clocks)


def test_among_numbers_there_is_no_other_text():
    assert domain(3, types=["integer"]).fitting(["7", "x", None, 2]) == [7, None, 2]
    assert domain("a").fitting(["7", "x", None]) == ["7", "x", None]
