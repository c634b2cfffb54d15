"""python -m sqlora.data from-database."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cinema
import pytest
import sqlglot

from sqlora.synthesis.shapes import shape_of

ROOT = Path(__file__).parents[2]


def start(*arguments, **options):
    command = [sys.executable, "-m", "sqlora.data", "from-database", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "140"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def read(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def shapes(file):
    return {shape_of(sqlglot.parse_one(row["answer"], read="sqlite")) for row in read(file)}


@pytest.fixture
def file(tmp_path):
    return cinema.make_file(tmp_path)


@pytest.fixture
def shaped(tmp_path):
    """Rows of a few shapes, so that none is looked for in vain."""
    texts = ["SELECT a FROM t WHERE b = 1"] * 18 + ["SELECT a FROM t ORDER BY b"] * 2
    rows = [{"question": "?", "context": "CREATE TABLE t (a INT, b INT)", "answer": text} for text in texts]
    path = tmp_path / "shaped.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_are_written_and_what_they_cover_is_said(tmp_path, file):
    out, held = tmp_path / "mine.jsonl", tmp_path / "held.jsonl"
    before = file.read_bytes()
    status, said, error = run(file, "--rows", 150, "--output", out, "--held-out", held, "--preview", 3)
    assert (status, error) == (0, "")
    assert len(read(out)) == 150
    assert {row["db_id"] for row in read(out)} == {"cinema"}
    assert 8 <= len(read(held)) <= 17
    assert not shapes(out) & shapes(held)
    for text in ("4 of 4", "19 of 19", "written", "held out", "empty result", "--schema-style described"):
        assert text in said, said
    assert read(out)[0]["question"] in said
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cinema.sqlite", "held.jsonl", "mine.jsonl"]


def test_a_preview_writes_nothing(tmp_path, file, shaped):
    status, said, _ = run(file, "--preview", 4, "--shapes-of", shaped)
    assert status == 0
    assert said.count("SELECT") == 4
    assert "written" not in said
    assert {path.name for path in tmp_path.iterdir()} == {file.name, shaped.name}


def test_shapes_are_learned_from_rows(tmp_path, file, shaped):
    out = tmp_path / "mine.jsonl"
    assert run(file, "--rows", 60, "--output", out, "--shapes-of", shaped, "--name", "films", "--seed", 3)[0] == 0
    assert shapes(out) == {"1 where", "1 order"}
    assert {row["db_id"] for row in read(out)} == {"films"}
    again = tmp_path / "again.jsonl"
    run(file, "--rows", 60, "--output", again, "--shapes-of", shaped, "--name", "films", "--seed", 3)
    assert again.read_bytes() == out.read_bytes()


def test_few_queries_are_asked_about_in_other_words(tmp_path):
    file, out = tmp_path / "t.sqlite", tmp_path / "mine.jsonl"
    connection = sqlite3.connect(file)
    connection.executescript("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x'), ('y'), ('y')")
    connection.close()
    status, said, _ = run(file, "--rows", 1000, "--output", out)
    assert status == 0
    rows = read(out)
    assert len({row["question"] for row in rows}) == len(rows) > len({row["answer"] for row in rows})
    assert f"no more than {len(rows)} different rows" in said


def test_a_model_that_answers_nothing_right_is_told(tmp_path, file, shaped, demo_run):
    adapter = demo_run[demo_run.index("--model-path") + 1]
    out = tmp_path / "mine.jsonl"
    status, _, error = run(file, "--rows", 3, "--output", out, "--shapes-of", shaped, "--check-with-model", adapter)
    assert (status, "answered none of 3 questions" in error) == (2, True), error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("FILE",), "--output is missing"),
        (("FILE", "--output", "rows.csv"), "must be a .jsonl file"),
        (("FILE", "--output", "FILE"), "must be a .jsonl file"),
        (("FILE", "--output", "SHAPED", "--shapes-of", "SHAPED"), "would write over --shapes-of"),
        (("FILE", "--output", "a.jsonl", "--held-out", "a.jsonl"), "would be written over the other"),
        (("FILE", "--preview", "2", "--held-out", "a.jsonl"), "--output is missing"),
        (("FILE", "--preview", "2", "--shapes-of", "FILE"), "--shapes-of"),
        (("nowhere.sqlite", "--preview", "2"), "there is no SQLite file"),
        (("FILE", "--preview", "2", "--schema-hide", "film.titel"), "did you mean"),
        (("EMPTY", "--preview", "2"), "name a database that is filled"),
        (("mssql://sa@localhost/x", "--preview", "2"), "DATABASE"),
        (("FILE", "--rows", "0", "--preview", "2"), "--rows"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, file, shaped, arguments, message):
    (tmp_path / "empty").mkdir()
    known = {"FILE": file, "SHAPED": shaped, "EMPTY": cinema.make_file(tmp_path / "empty", filled=False)}
    status, _, error = run(*(known.get(word, word) for word in arguments))
    assert status == 2
    assert message in error
    assert "Traceback" not in error


def test_an_interrupt_leaves_no_file(tmp_path, file):
    out = tmp_path / "mine.jsonl"
    process = start(file, "--rows", 100000, "--output", out)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
