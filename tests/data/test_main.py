"""python -m sqlora.data reports and repairs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from concert import make_folder
from faulty_rows import FAULTS, row

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "sqlora.data", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"COLUMNS": "140"}, capture_output=True, text=True)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(given) + "\n" for given, _ in FAULTS))
    return path


def test_the_command_counts_and_repairs(tmp_path, file):
    done = run(file, "--fix", tmp_path / "fixed.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    for message in ("column not in the context", "17.6%", "no such column: age", "repaired", "17, of which 2"):
        assert message in done.stdout
    fixed = [json.loads(line) for line in (tmp_path / "fixed.jsonl").read_text().splitlines()]
    dropped = [json.loads(line) for line in (tmp_path / "fixed.dropped.jsonl").read_text().splitlines()]
    assert len(fixed) + len(dropped) == len(FAULTS)
    assert all(one["reason"] and one["why"] for one in dropped)
    again = run(tmp_path / "fixed.jsonl")
    assert "dropped" not in again.stdout
    assert "repaired" not in again.stdout


def test_the_command_counts_rows_that_are_too_long(tmp_path, llama_folder):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row("SELECT 1", question="word " * n)) + "\n" for n in (1, 900)))
    done = run(path, "--tokenizer", llama_folder)
    assert done.returncode == 0, done.stderr
    assert "longer than MAX_LENGTH" in done.stdout
    assert "50.0%" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("nonesuch.jsonl",), "no such file"),
        (("FILE", "--fix", "FILE"), "write over the input rows"),
        (("FILE", "--tokenizer", "nonesuch"), "no such folder"),
        (("FILE", "--fixed", "x"), "--fix"),
        (("FILE", "--fix", "."), "must be a .jsonl file"),
        (("FILE", "--fix", "fixed.csv"), "must be a .jsonl file"),
    ],
)
def test_a_careless_command_is_one_line(tmp_path, file, arguments, message):
    done = run(*[file if argument == "FILE" else argument for argument in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_golds_that_are_not_fit_to_score_answers_are_named(tmp_path):
    context = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)"
    golds = {
        "Who is over 30?": "SELECT name FROM singer WHERE age > 30",
        "Who is over 40?": "SELECT name FROM singer",
        "Who is nobody?": "SELECT name FROM singer WHERE age > 5 AND age < 5",
        "How many of which age?": "SELECT age, COUNT(*) FROM singer",
    }
    rows = [{"question": question, "context": context, "answer": sql} for question, sql in golds.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = " ".join(run(tmp_path / "rows.jsonl", "--fix", tmp_path / "fixed.jsonl").stdout.split())
    for finding in ("depends on", "always empty", "blind to a"):
        assert finding in shown
    assert "4, of which 1 (25.0%) have no finding" in shown
    assert len((tmp_path / "fixed.jsonl").read_text().splitlines()) == 4  # they are kept


def test_a_data_set_is_converted(tmp_path):
    folder, out = make_folder(tmp_path / "databases"), tmp_path / "rows.jsonl"
    record = {"question": "How many?", "SQL": "SELECT COUNT(*) FROM singer", "db_id": "concert", "evidence": "hint"}
    (tmp_path / "dev.json").write_text(json.dumps([record]))
    done = run("convert", tmp_path / "dev.json", out, "--database-folder", folder)
    assert done.returncode == 0, done.stderr
    assert "read as BIRD" in done.stdout
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["question"], row["answer"], row["evidence"]) == ("How many?", record["SQL"], "hint")
    assert "CREATE TABLE singer (id INTEGER PRIMARY KEY" in row["context"]
    done = run("convert", out, out)
    assert (done.returncode, "would write over" in done.stderr) == (2, True)
    done = run("convert", out, tmp_path)
    assert (done.returncode, "must be a .jsonl file" in done.stderr) == (2, True)
    done = run(tmp_path / "dev.json", "--database-folder", folder)
    assert "have no finding" in done.stdout, done.stderr
