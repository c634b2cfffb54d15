"""The published evaluators' verdicts on real databases."""

import concert
import pytest

from sqlora.evaluation.judge import Scoring, judge_prediction
from sqlora.evaluation.published import judge_as_published
from sqlora.evaluation.real_databases import databases_of
from sqlora.evaluation.rules import rule_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return concert.make_folder(tmp_path_factory.mktemp("published"))


def verdict(folder, rule, gold, prediction, **options):
    return judge_as_published(gold, prediction, rule_of(rule), databases_of(folder, "concert"), **options).verdict


@pytest.mark.parametrize(
    ("gold", "prediction", "test_suite", "bird"),
    [
        ("SELECT name, age FROM singer", "SELECT age, name FROM singer", "match", "mismatch"),
        ("SELECT DISTINCT age FROM singer", "SELECT age FROM singer", "match", "match"),
        ("SELECT age FROM singer GROUP BY age", "SELECT age FROM singer", "mismatch", "match"),
        ("SELECT name FROM singer ORDER BY age, name", "SELECT name FROM singer ORDER BY name", "mismatch", "match"),
        # Its rows tie, and the evaluators know one order only.
        (
            "SELECT name FROM singer ORDER BY age",
            "SELECT name FROM singer ORDER BY age, name DESC",
            "mismatch",
            "match",
        ),
        ("SELECT name FROM singer WHERE age > 90", "SELECT id, title FROM song WHERE id > 9", "match", "match"),
        ('SELECT name FROM singer WHERE name = "Ann"', "SELECT name FROM singer WHERE name = 'Ann'", "match", "match"),
        ("SELECT name FROM singer", "SELECT nme FROM singer", "invalid", "invalid"),
        ("SELECT name FROM singer", "DELETE FROM singer", "invalid", "invalid"),
        ("SELECT name FROM singer", None, "invalid", "invalid"),
        ("SELECT nme FROM singer", "SELECT name FROM singer", "unscorable", "unscorable"),
        ("SELECT 0.1 + 0.2", "SELECT 0.3", "match", "match"),
    ],
)
def test_each_by_its_own_rule(folder, gold, prediction, test_suite, bird):
    assert verdict(folder, "test-suite", gold, prediction) == test_suite
    assert verdict(folder, "bird", gold, prediction) == bird


def test_the_word_distinct_is_dropped_unless_it_is_kept(folder):
    gold, prediction = "SELECT COUNT(DISTINCT age), 'distinct' FROM singer", "SELECT COUNT(age), 'distinct' FROM singer"
    assert verdict(folder, "test-suite", gold, prediction) == "match"
    assert verdict(folder, "test-suite", gold, prediction, keep_distinct=True) == "mismatch"


def test_a_verdict_has_the_database_on_which_it_fell(folder):
    scoring = Scoring("test-suite", folder=folder)
    gold = "SELECT name FROM singer WHERE age = 30"
    found = judge_prediction(
        concert.CONTEXT, gold, "SELECT name FROM singer WHERE country = 'Peru'", scoring, "concert"
    )
    # The same rows in this database; by our own rule others could be there.
    assert (found.verdict, found.under("strict")) == ("match", "mismatch")
    assert found.by_rule("strict").difference.script
    wrong = judge_prediction(concert.CONTEXT, gold, "SELECT name FROM singer", scoring, "concert")
    assert (wrong.verdict, wrong.database) == ("mismatch", "concert.sqlite")
    assert wrong.difference.expected == [("Ann",), ("Cy",)]
    nothing = judge_prediction(concert.CONTEXT, gold, "SELECT title FROM song", scoring, "empty")
    assert (nothing.verdict, bool(nothing.unproven)) == ("match", True)


def test_synthetic_databases_draw_from_real_rows(folder):
    found = judge_prediction(
        concert.CONTEXT,
        "SELECT name FROM singer",
        "SELECT country FROM singer WHERE 1 = 0",
        Scoring(folder=folder),
        "empty",
    )
    assert found.verdict == "mismatch"
    real = judge_prediction(
        concert.CONTEXT,
        "SELECT name FROM singer WHERE age = 30",
        "SELECT name FROM singer WHERE country = 'Peru'",
        Scoring(folder=folder),
        "concert",
    )
    names = {row[1] for row in real.difference.database["singer"]["rows"]}
    assert names <= {"Ann", "Bo", "Cy", None}
