"""python -m sqlora.evaluation, with anybody's predictions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


CONTEXT = (
    "CREATE TABLE singer (singer_id INTEGER, name VARCHAR, country VARCHAR, age INTEGER); "
    "CREATE TABLE song (song_id INTEGER, singer_id INTEGER, title VARCHAR, sales INTEGER)"
)


def test_neither_torch_nor_transformers_is_loaded():
    code = "import sys, sqlora.evaluation.__main__; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def run(*arguments):
    command = [sys.executable, "-m", "sqlora.evaluation", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_scores_anybodys_predictions(tmp_path):
    rows = [
        {"context": CONTEXT, "answer": "SELECT name FROM singer", "prediction": sql}
        for sql in ("SELECT name FROM singer", "SELECT age FROM singer", "SELECT", None)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path / "p.jsonl", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert "execution match" in done.stdout
    out = json.loads((tmp_path / "out.json").read_text())
    assert [row["verdict"] for row in out["rows"]] == ["match", "mismatch", "invalid", "invalid"]
    assert all(row["why"] for row in out["rows"][1:])
    assert out["metrics"]


def test_the_verdict_is_by_the_rule_that_is_named(tmp_path):
    golds = ("SELECT name, age FROM singer", "SELECT DISTINCT country FROM singer")
    predictions = ("SELECT age, name FROM singer", "SELECT country FROM singer")
    rows = [
        {"context": CONTEXT, "answer": gold, "prediction": sql} for gold, sql in zip(golds, predictions, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for flags, expected in (
        (["--rule", "strict"], ["mismatch", "mismatch"]),
        (["--rule", "test-suite"], ["match", "match"]),
        (["--rule", "test-suite", "--keep-distinct"], ["match", "mismatch"]),
        (["--rule", "bird"], ["mismatch", "match"]),
    ):
        done = run(tmp_path / "p.jsonl", "--json", tmp_path / "out.json", *flags)
        assert done.returncode == 0, done.stderr
        assert "test-suite's rule" in done.stdout
        assert [row["verdict"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == expected


def test_the_command_scores_the_rest_and_exits_with_1_where_scoring_fails(tmp_path):
    golds = ("SELECT name FROM singer", "SELECT age FROM singer")
    rows = [{"context": CONTEXT, "answer": sql, "prediction": sql} for sql in golds]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = (
        "import sys; from sqlora.evaluation import __main__, judge; gold = judge.Gold\n"
        "judge.Gold = lambda query, schema: gold(query, schema) if 'name' in query.sql() else 1 / 0\n"
        "sys.argv[1:] = ['p.jsonl', '--json', 'out.json']; __main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "1 answers are not scored" in done.stderr
    assert "errors in scoring" in done.stdout
    assert [row["verdict"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == ["match", "error"]


@pytest.mark.parametrize("content", [None, "", "{", '{"context": "x"}\n', "[]"])
def test_a_wrong_file_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "p.jsonl").write_text(content)
    done = run(tmp_path / "p.jsonl")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
