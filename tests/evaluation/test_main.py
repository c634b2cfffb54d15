"""python -m sqlora.evaluation, with anybody's predictions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import concert
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


def test_two_files_are_compared(tmp_path):
    gold = "SELECT name FROM singer"
    for name, queries in (("base", ("SELECT", gold, "SELECT age FROM singer")), ("tuned", (gold, gold, "SELECT 1"))):
        rows = [{"context": CONTEXT, "answer": gold, "prediction": sql} for sql in queries]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path / "base.jsonl", tmp_path / "tuned.jsonl", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert "tuned against base" in done.stdout
    assert "1 gained, 0 lost of 3 (McNemar, exact: p = 1.0000)" in done.stdout
    out = json.loads((tmp_path / "out.json").read_text())
    assert [out["metrics"][name]["execution_match"]["count"] for name in ("base", "tuned")] == [1, 2]
    assert [one["verdict"] for one in out["rows"][0]] == ["invalid", "match"]
    (tmp_path / "other.jsonl").write_text(json.dumps(rows[0]) + "\n")
    for wrong in (("other.jsonl",), ("tuned.jsonl", "tuned.jsonl")):
        done = run(tmp_path / "base.jsonl", *(tmp_path / name for name in wrong))
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1


def test_files_of_others_are_scored_on_their_databases(tmp_path):
    folder = concert.make_folder(tmp_path / "databases")
    (tmp_path / "gold.sql").write_text("SELECT DISTINCT age FROM singer\tconcert\nSELECT title FROM song\tconcert\n")
    (tmp_path / "pred.sql").write_text("SELECT age FROM singer\nSELECT id FROM song\n")
    flags = ("--gold", tmp_path / "gold.sql", "--database-folder", folder, "--rule", "test-suite")
    done = run(tmp_path / "pred.sql", *flags, "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["verdict"], row["database"]) for row in rows] == [("match", ""), ("mismatch", "concert.sqlite")]
    assert run(tmp_path / "pred.sql", *flags, "--write-predictions", "bird", tmp_path / "p.json").returncode == 0
    done = run(tmp_path / "p.json", *flags, "--json", tmp_path / "again.json")
    assert [row["verdict"] for row in json.loads((tmp_path / "again.json").read_text())["rows"]] == [
        "match",
        "mismatch",
    ]
    done = run(tmp_path / "pred.sql", *flags, "--write-databases", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "made" / "concert").glob("*.sqlite"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--resume",),
        ("--write-predictions", "other", "out.sql"),
        ("--database-folder", "nowhere"),
        ("--json", "rows.jsonl"),
        ("--write-databases", "."),
        ("--rule", "other"),
        ("a.jsonl", "b.jsonl"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path, flags):
    row = {"context": CONTEXT, "answer": "SELECT 1", "prediction": "SELECT 1"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "sqlora.evaluation", "rows.jsonl", *flags]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_interrupted_scoring_is_resumed(tmp_path):
    """Ctrl-C in the middle: the verdicts so far stay, and with --resume the rest is scored."""
    golds = [f"SELECT name FROM singer WHERE age > {i} AND country = 'c{i}' ORDER BY name" for i in range(400)]
    rows = [{"context": CONTEXT, "answer": sql, "prediction": sql.replace("name", "singer.name")} for sql in golds]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = tmp_path / "out.json.partial.jsonl"
    command = [sys.executable, "-m", "sqlora.evaluation", "p.jsonl", "--json", "out.json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        while not kept.is_file() or kept.read_bytes().count(b"\n") < 20:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()
    before = kept.read_bytes().count(b"\n") - 1
    assert 0 < before < len(rows)
    done = subprocess.run(
        [*command, "--resume"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    verdicts = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["verdict"] for row in verdicts] == ["match"] * len(golds)
    assert not kept.exists()
