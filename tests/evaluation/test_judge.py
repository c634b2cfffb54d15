"""Execution match: what a predicted query must share with the gold, and what it need not."""

import pytest

from sqlora.evaluation import judge, metrics

CONTEXT = (
    "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, country VARCHAR, age INTEGER); "
    "CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title VARCHAR, sales INTEGER)"
)


def verdict(answer, prediction, context=CONTEXT):
    return judge.judge_prediction(context, answer, prediction).verdict


@pytest.mark.parametrize(
    ("answer", "prediction"),
    [
        (
            "SELECT name FROM singer WHERE age > 30 AND country = 'Peru'",
            "SELECT name FROM singer WHERE country = 'Peru' AND 30 < age",
        ),
        ("SELECT name FROM singer WHERE age > 30", "SELECT T1.name AS x FROM singer AS T1 WHERE (T1.age > 30)"),
        ("SELECT name FROM singer WHERE age IN (3, 4)", "SELECT name FROM singer WHERE age = 3 OR age = 4"),
        (
            "SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id WHERE T2.sales > 9",
            "SELECT b.name FROM song a JOIN singer b ON b.singer_id = a.singer_id WHERE a.sales > 9",
        ),
        (
            "SELECT name FROM singer WHERE singer_id IN (SELECT singer_id FROM song)",
            "SELECT name FROM singer WHERE EXISTS (SELECT 1 FROM song WHERE song.singer_id = singer.singer_id)",
        ),
        ("SELECT COUNT(*) FROM singer", "SELECT COUNT(1) FROM singer"),
        ('SELECT name FROM singer WHERE country = "Peru"', "SELECT name FROM singer WHERE country = 'Peru'"),
        ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age ASC"),
    ],
)
def test_what_means_the_same_matches(answer, prediction):
    assert verdict(answer, prediction) == "match"


@pytest.mark.parametrize(
    ("answer", "prediction"),
    [
        ("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age >= 30"),
        ("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age > 31"),
        ("SELECT name FROM singer WHERE age > 30 AND age < 60", "SELECT name FROM singer WHERE age > 30 OR age < 60"),
        ("SELECT name FROM singer WHERE country = 'Peru'", "SELECT name FROM singer WHERE country = 'peru'"),
        ("SELECT name FROM singer WHERE name LIKE '%an%'", "SELECT name FROM singer WHERE name LIKE 'an%'"),
        ("SELECT MAX(age) FROM singer", "SELECT MIN(age) FROM singer"),
        ("SELECT COUNT(DISTINCT country) FROM singer", "SELECT COUNT(country) FROM singer"),
        ("SELECT DISTINCT country FROM singer", "SELECT country FROM singer"),
        ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age DESC"),
        ("SELECT name FROM singer ORDER BY age DESC LIMIT 1", "SELECT name FROM singer ORDER BY age LIMIT 1"),
        ("SELECT name, age FROM singer", "SELECT age, name FROM singer"),
        ("SELECT country, COUNT(*) FROM singer GROUP BY country", "SELECT country, COUNT(*) FROM singer GROUP BY name"),
        (
            "SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id",
            "SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.song_id",
        ),
    ],
)
def test_one_wrong_edit_is_exposed(answer, prediction):
    found = judge.judge_prediction(CONTEXT, answer, prediction)
    assert found.verdict == "mismatch"
    assert found.why


@pytest.mark.parametrize(
    "prediction",
    [
        None,
        "",
        "no query",
        "SELECT nonesuch FROM singer",
        'SELECT "nonesuch" FROM singer',
        "SELECT name FROM nonesuch",
        "DELETE FROM singer",
        "SELECT 1; SELECT 2",
    ],
)
def test_what_does_not_run_is_invalid(prediction):
    assert verdict("SELECT name FROM singer", prediction) == "invalid"


@pytest.mark.parametrize("answer", ["SELECT FROM", "SELECT nonesuch FROM nowhere"])
def test_a_gold_that_does_not_run_is_unscorable(answer):
    assert verdict(answer, "SELECT name FROM singer") == "unscorable"


def test_a_limit_without_an_order_allows_any_rows_but_so_many():
    assert verdict("SELECT name FROM singer LIMIT 1", "SELECT name FROM singer LIMIT 1") == "match"
    assert verdict("SELECT name FROM singer LIMIT 1", "SELECT name FROM singer") == "mismatch"


def test_a_score_is_repeatable_and_in_order():
    rows = [
        {
            "context": CONTEXT,
            "answer": f"SELECT name FROM singer WHERE age > {i}",
            "prediction": f"SELECT name FROM singer WHERE age > {i + i % 2}",
        }
        for i in range(8)
    ]
    first = judge.score(rows)
    assert [found.verdict for found in first] == ["match", "mismatch"] * 4
    assert judge.score(rows) == first


def test_answers_are_judged_where_they_and_the_gold_are_known():
    answers = [
        {
            "context": CONTEXT,
            "answer": "SELECT COUNT(*) FROM song",
            "base": None,
            "adapter": "SELECT COUNT(1) FROM song",
        },
        {"context": CONTEXT, "answer": None, "base": "SELECT 1", "adapter": "SELECT 1"},
    ]
    (first, second), (by_text, _) = (judge.judge_answers(answers, execute) for execute in (True, False))
    assert second == {}
    assert (list(first), first["adapter"].verdict, first["adapter"].executed) == (["adapter"], "match", True)
    assert (by_text["adapter"].verdict, by_text["adapter"].executed) == ("mismatch", False)
    report = judge.evaluation_report(answers, [first, second])
    assert "adapter_against_base" not in report
    assert report["metrics"]["adapter"]["n"] == 1


def test_many_rows_are_judged_by_several_processes_as_by_one():
    rows = [
        {"context": CONTEXT, "answer": "SELECT name FROM singer", "prediction": f"SELECT name FROM singer LIMIT {i}"}
        for i in range(120)
    ]
    assert judge.score(rows, workers=2) == judge.score(rows, workers=1)


@pytest.mark.parametrize(
    ("answer", "prediction", "found"),
    [
        ("SELECT name FROM singer WHERE age = 01", "SELECT name FROM singer WHERE age = 1", "match"),
        ("SELECT name FROM singer WHERE age = 1", "SELECT name FROM singer WHERE age = 01", "match"),
        (
            "SELECT name FROM singer ORDER BY singer_id, age, name LIMIT 05",
            "SELECT name FROM singer ORDER BY singer_id, age, name LIMIT 5",
            "match",
        ),
        ("SELECT name FROM singer WHERE age > 1997-01-01", "SELECT name FROM singer WHERE age > 1995", "match"),
        ("SELECT name FROM singer", "SELECT name FROM singer WHERE age > 99999999999999999999", "mismatch"),
        ("SELECT name FROM singer WHERE age = 9223372036854775807", "SELECT name FROM singer", "mismatch"),
        ("SELECT name FROM singer WHERE age = 0x10", "SELECT name FROM singer WHERE age = 16", "match"),
        ("SELECT name FROM singer ORDER BY 9", "SELECT name FROM singer", "unscorable"),
        ("SELECT name FROM singer ORDER BY 0", "SELECT name FROM singer", "unscorable"),
        ("SELECT name FROM singer UNION SELECT title FROM song ORDER BY 2", "SELECT name FROM singer", "unscorable"),
        ("SELECT name FROM singer", "SELECT '\ud800' FROM singer", "invalid"),
        ("SELECT name FROM singer", "SELECT " + "(" * 4000 + "1" + ")" * 4000, "invalid"),
        (None, "SELECT name FROM singer", "unscorable"),
        (7, "SELECT name FROM singer", "unscorable"),
        ("SELECT name FROM singer", 7, "invalid"),
    ],
)
def test_whatever_is_in_a_row_has_a_verdict(answer, prediction, found):
    given = judge.judge_prediction(CONTEXT, answer, prediction)
    assert given.verdict == found
    assert bool(given.why) == (found != "match")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT CAST(age AS DATE) FROM singer",
        "SELECT CAST(name AS TIMESTAMP) FROM singer",
        "SELECT name FROM singer LIMIT 1",
        "SELECT datetime('now'), name FROM singer",
    ],
)
def test_identical_sql_is_no_mismatch(query):
    assert verdict(query, query) == verdict(query, f"{query.lower()} ;") == "match"


def test_a_context_of_a_megabyte_is_unscorable_at_once():
    context = "; ".join(f"CREATE TABLE t{i} (a INTEGER, b TEXT)" for i in range(25_000))
    found = judge.judge_prediction(context, "SELECT a FROM t1", "SELECT a FROM t1")
    assert (found.verdict, found.fault) == ("unscorable", "too large")


@pytest.mark.parametrize(
    "prediction",
    [
        "```sql\nSELECT name\nFROM singer\n```",
        "```\nSELECT name FROM singer```\n",
        " ```SQL\nselect name from singer;\n``` ",
    ],
)
def test_a_prediction_in_a_markdown_fence_is_read(prediction):
    assert verdict("SELECT name FROM singer", prediction) == "match"


def test_a_fault_in_scoring_costs_one_verdict(monkeypatch):
    def fails(query, schema):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(judge, "Gold", fails)
    found = judge.judge_prediction(CONTEXT, "SELECT 1", "SELECT 1")
    assert (found.verdict, found.is_right) == ("error", None)
    assert "ZeroDivisionError: boom (test_judge.py:" in found.why
    counted = metrics.compute_metrics([found, metrics.Verdict("match")])
    assert (counted["error"]["count"], counted["error"]["of"], counted["execution_match"]["of"]) == (1, 2, 1)
    assert metrics.compare_scores([found], [metrics.Verdict("match")])["n"] == 0
    assert judge.failures([found, metrics.Verdict("match")]).startswith(
        "1 answers are not scored; the first: scoring fai"
    )
    assert judge.failures([metrics.Verdict("match")]) == ""


def test_a_mismatch_shows_the_database_and_both_results():
    found = judge.judge_prediction(
        CONTEXT, "SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age >= 30"
    )
    table = found.difference.database["singer"]
    assert table["columns"] == ["singer_id", "name", "country", "age"]
    ages = {row[3] for row in table["rows"]}
    assert 30 in ages
    assert len(found.difference.predicted) > len(found.difference.expected)
    assert len(found.difference.expected) == sum(row[3] is not None and row[3] > 30 for row in table["rows"])


@pytest.mark.parametrize("prediction", ["SELECT name FROM singer", "SELECT 1", None])
def test_a_gold_whose_answer_hangs_on_storage_is_unscorable_whatever_is_predicted(prediction):
    found = judge.judge_prediction(CONTEXT, "SELECT GROUP_CONCAT(singer_id) FROM singer", prediction)
    assert found.verdict == "unscorable"
    assert "order in which rows are stored" in found.why


def test_a_group_s_other_column_matches_whichever_table_comes_first():
    answer = (
        "SELECT T1.name, COUNT(*) FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id "
        "GROUP BY T2.singer_id ORDER BY COUNT(*) DESC LIMIT 1"
    )
    other = (
        "SELECT T1.name, COUNT(*) FROM song AS T2 JOIN singer AS T1 ON T1.singer_id = T2.singer_id "
        "GROUP BY T1.singer_id ORDER BY COUNT(*) DESC LIMIT 1"
    )
    assert verdict(answer, other) == "match"


def test_a_column_that_the_gold_names_by_its_table_is_added_and_reported():
    answer = "SELECT T2.title FROM singer AS T1 JOIN song AS t2 ON T1.singer_id = t2.singer_id WHERE T2.label = 'Onyx'"
    found = judge.judge_prediction(CONTEXT, answer, answer)
    assert (found.verdict, found.completed) == ("match", ("song.label",))
    # In a join a bare name may be of either table.
    found = judge.judge_prediction(CONTEXT, answer.replace("T2.label", "label"), answer)
    assert (found.verdict, found.fault) == ("unscorable", "no such column")


def test_text_and_numbers_are_compared_as_the_gold_s_author_meant():
    context = "CREATE TABLE film (title VARCHAR, year VARCHAR)"
    assert (
        verdict("SELECT title FROM film WHERE year > 2000", "SELECT title FROM film WHERE year > '2000'", context)
        == "match"
    )
    assert (
        verdict(
            "SELECT MAX(year) FROM film WHERE year <> 9",
            "SELECT MAX(CAST(year AS INTEGER)) FROM film WHERE year <> 9",
            context,
        )
        == "match"
    )


def test_a_runaway_prediction_is_a_timeout():
    endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t"
    assert verdict("SELECT name FROM singer", endless) == "timeout"


@pytest.mark.parametrize(
    "prediction",
    [
        "SELECT name, FROM singer",
        "SELECT age::int FROM singer",
        "SELECT name FROM singer LIMIT ALL",
    ],
)
def test_what_sqlite_itself_would_not_take_is_invalid(prediction):
    assert verdict("SELECT name FROM singer", prediction) == "invalid"


def test_workers_give_what_one_process_gives():
    query = "SELECT name FROM singer WHERE age > {}"
    rows = [{"context": CONTEXT, "answer": query.format(age), "base": query.format(age % 9)} for age in range(110)]
    assert judge.score(rows, "base", workers=2) == judge.score(rows, "base", workers=1)


@pytest.mark.parametrize(
    ("gold", "prediction", "verdict"),
    [
        ("SELECT a FROM t WHERE b ILIKE 'x%'", "SELECT a FROM t WHERE LOWER(b) LIKE 'x%'", "match"),
        ("SELECT a FROM t WHERE b ILIKE 'x%'", "SELECT a FROM t WHERE b ILIKE 'y%'", "mismatch"),
        ("SELECT a::int FROM t", "SELECT nope::int FROM t", "invalid"),
        ("SELECT a FROM t", "SELECT FROM", "invalid"),
        ("SELECT a FROM t", "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t", "unscorable"),
        ("SELECT a FROM t WHERE b @> '{}'", "SELECT a FROM t", "unscorable"),
    ],
)
def test_sql_of_another_dialect_is_scored_as_what_it_says(gold, prediction, verdict):
    scoring = judge.Scoring(dialect="postgres")
    found = judge.judge_prediction("CREATE TABLE t (a INTEGER, b TEXT)", gold, prediction, scoring)
    assert found.verdict == verdict, found.why
    assert verdict != "unscorable" or found.why
