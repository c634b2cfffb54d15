"""Metrics: intervals, shares, kinds of queries, an adapter against its base."""

import pytest

from sqlora.evaluation import judge, metrics

CONTEXT = (
    "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, country VARCHAR, age INTEGER); "
    "CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title VARCHAR, sales INTEGER)"
)


def verdict(answer, prediction, context=CONTEXT):
    return judge.judge_prediction(context, answer, prediction).verdict


def test_intervals_and_the_paired_test_have_their_textbook_values():
    low, high = metrics.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert metrics.mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert metrics.mcnemar(0, 0) == 1


def test_metrics_count_what_they_say():
    verdict = metrics.Verdict
    found = metrics.compute_metrics(
        [
            verdict("match", exact=True, non_empty=True, kinds=("filter",)),
            verdict("match", kinds=("filter", "join"), unproven="nothing"),
            verdict("mismatch", "w", non_empty=True, rules={"test-suite": metrics.Verdict("match")}),
            verdict("invalid", "w", "syntax", non_empty=True),
            verdict("timeout", "w", "timeout"),
            verdict("unscorable", "w", "no such column", exact=True),
        ]
    )
    counts = {key: (found[key]["count"], found[key]["of"]) for key in metrics.SHARES}
    assert counts == {
        "valid": (3, 5),
        "execution_match": (2, 5),
        "execution_match_non_empty": (1, 3),
        "unproven": (1, 2),
        "match_test_suite": (3, 5),
        "match_bird": (2, 5),
        "exact_match": (2, 6),
        "timeout": (1, 5),
        "unscorable": (1, 6),
        "error": (0, 6),
    }
    assert found["n"] == 6
    assert found["unscorable_why"] == {"no such column": 1}
    assert found["by_kind"]["filter"]["share"] == 1
    assert found["by_kind"]["group"]["share"] is None
    assert metrics.compute_metrics([])["execution_match"]["share"] is None


def test_an_adapter_is_compared_with_its_base_on_the_rows_that_are_scorable():
    match, mismatch, unscorable = map(metrics.Verdict, ("match", "mismatch", "unscorable"))
    found = metrics.compare_scores([mismatch] * 9 + [match, match, unscorable], [match] * 9 + [mismatch, match, match])
    assert found == {
        "n": 11,
        "both": 1,
        "only_base": 1,
        "only_adapter": 9,
        "neither": 0,
        "difference": pytest.approx(8 / 11),
        "p_value": pytest.approx(22 / 1024),
    }


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("SELECT name FROM singer", ()),
        ("SELECT COUNT(*) FROM singer WHERE age > 3", ("filter", "aggregate")),
        ("SELECT country, MAX(age) FROM singer GROUP BY country", ("aggregate", "group")),
        ("SELECT 1 FROM singer JOIN song ON singer.singer_id = song.singer_id", ("join",)),
        ("SELECT name FROM singer WHERE age = (SELECT MAX(age) FROM singer)", ("filter", "aggregate", "nested")),
        ("SELECT name FROM singer UNION SELECT title FROM song", ("set operation",)),
    ],
)
def test_kinds_of_query(query, kinds):
    assert judge.judge_prediction(CONTEXT, query, query).kinds == kinds
