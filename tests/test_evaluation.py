"""Execution match: what a predicted query must share with the gold, and what it need not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sqlora import evaluation, scorecard

ROOT = Path(__file__).parent.parent
CONTEXT = ("CREATE TABLE singer (singer_id INTEGER, name VARCHAR, country VARCHAR, age INTEGER); "
           "CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title VARCHAR, sales INTEGER)")


def verdict(answer, prediction, context=CONTEXT):
    return evaluation.judge(context, answer, prediction).verdict


@pytest.mark.parametrize(("answer", "prediction"), [
    ("SELECT name FROM singer WHERE age > 30 AND country = 'Peru'",
     "SELECT name FROM singer WHERE country = 'Peru' AND 30 < age"),
    ("SELECT name FROM singer WHERE age > 30", "SELECT T1.name AS x FROM singer AS T1 WHERE (T1.age > 30)"),
    ("SELECT name FROM singer WHERE age IN (3, 4)", "SELECT name FROM singer WHERE age = 3 OR age = 4"),
    ("SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id WHERE T2.sales > 9",
     "SELECT b.name FROM song a JOIN singer b ON b.singer_id = a.singer_id WHERE a.sales > 9"),
    ("SELECT name FROM singer WHERE singer_id IN (SELECT singer_id FROM song)",
     "SELECT name FROM singer WHERE EXISTS (SELECT 1 FROM song WHERE song.singer_id = singer.singer_id)"),
    ("SELECT COUNT(*) FROM singer", "SELECT COUNT(1) FROM singer"),
    ('SELECT name FROM singer WHERE country = "Peru"', "SELECT name FROM singer WHERE country = 'Peru'"),
    ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age ASC"),
])
def test_what_means_the_same_matches(answer, prediction):
    assert verdict(answer, prediction) == "match"


@pytest.mark.parametrize(("answer", "prediction"), [
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
    ("SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.singer_id",
     "SELECT T1.name FROM singer AS T1 JOIN song AS T2 ON T1.singer_id = T2.song_id"),
])
def test_one_wrong_edit_is_exposed(answer, prediction):
    found = evaluation.judge(CONTEXT, answer, prediction)
    assert found.verdict == "mismatch"
    assert found.why


@pytest.mark.parametrize("prediction", [
    None, "", "no query", "SELECT nonesuch FROM singer", 'SELECT "nonesuch" FROM singer', "SELECT name FROM nonesuch",
    "DELETE FROM singer", "SELECT 1; SELECT 2",
])
def test_what_does_not_run_is_invalid(prediction):
    assert verdict("SELECT name FROM singer", prediction) == "invalid"


@pytest.mark.parametrize("answer", ["SELECT FROM", "SELECT nonesuch FROM nowhere"])
def test_a_gold_that_does_not_run_is_unscorable(answer):
    assert verdict(answer, "SELECT name FROM singer") == "unscorable"


def test_a_limit_without_an_order_allows_any_rows_but_so_many():
    assert verdict("SELECT name FROM singer LIMIT 1", "SELECT name FROM singer LIMIT 1") == "match"
    assert verdict("SELECT name FROM singer LIMIT 1", "SELECT name FROM singer") == "mismatch"


def test_a_score_is_repeatable_and_in_order():
    rows = [{"context": CONTEXT, "answer": f"SELECT name FROM singer WHERE age > {i}", "prediction":
             f"SELECT name FROM singer WHERE age > {i + i % 2}"} for i in range(8)]
    first = evaluation.score(rows)
    assert [found.verdict for found in first] == ["match", "mismatch"] * 4
    assert evaluation.score(rows) == first


def test_candidates_vote_by_their_results():
    candidates = ["SELECT nonesuch FROM singer", "SELECT name FROM singer WHERE age >= 30",
                  "SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE 30 < age"]
    assert evaluation.vote(CONTEXT, candidates) == 2
    assert evaluation.vote(CONTEXT, candidates[:2]) == 1
    assert evaluation.vote(CONTEXT, candidates[:1]) is None


def test_intervals_and_the_paired_test_have_their_textbook_values():
    low, high = scorecard.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert scorecard.mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert scorecard.mcnemar(0, 0) == 1


def run(*arguments):
    command = [sys.executable, "-m", "sqlora.evaluation", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_scores_anybodys_predictions(tmp_path):
    rows = [{"context": CONTEXT, "answer": "SELECT name FROM singer", "prediction": sql}
            for sql in ("SELECT name FROM singer", "SELECT age FROM singer", "SELECT", None)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path / "p.jsonl", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert "execution match" in done.stdout
    out = json.loads((tmp_path / "out.json").read_text())
    assert [row["verdict"] for row in out["rows"]] == ["match", "mismatch", "invalid", "invalid"]
    assert all(row["why"] for row in out["rows"][1:])
    assert out["metrics"]


@pytest.mark.parametrize("content", [None, "", "{", '{"context": "x"}\n', "[]"])
def test_a_wrong_file_is_told_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "p.jsonl").write_text(content)
    done = run(tmp_path / "p.jsonl")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
