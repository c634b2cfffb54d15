"""No command writes over what it reads, over what it did not write, or into somebody else's folder."""

import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest
from fuzzing import fingerprints

import finetune
import generate
from sqlora.data import __main__ as lint_command
from sqlora.evaluation import __main__ as main_module
from sqlora.merge import __main__ as merge
from sqlora.settings.command_line import load_settings
from sqlora.storage import outputs
from sqlora.system.errors import UserError
from sqlora.training import run_folder

ROW = {"question": "How many?", "context": "CREATE TABLE t (a INTEGER)", "answer": "SELECT COUNT(*) FROM t"}
ANSWER = ROW | {"base": "SELECT 1", "adapter": None}
LIVE = {"question": "How many?", "context": "", "sql": "SELECT 1"}
STEP = {"step": 1, "loss": 2.5}
MINE = "what somebody else wrote"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder: rows, a database, questions, a schema, predictions, a base, and what is somebody else's."""
    monkeypatch.chdir(tmp_path)
    for folder in ("base", "data", "theirs"):
        (tmp_path / folder).mkdir()
    write("base/config.json", "{}")
    for name in ("rows.jsonl", "test.jsonl", "data/train.jsonl"):
        write(name, json.dumps(ROW))
    write("predictions.jsonl", json.dumps(ROW | {"prediction": "SELECT 1"}))
    write("q.txt", "How many?")
    write("schema.sql", ROW["context"])
    for name in ("mine.jsonl", "mine.json", "README.md", "theirs/thesis.txt"):
        write(name, MINE)
    sqlite3.connect("shop.sqlite").execute("CREATE TABLE t (a INTEGER)").connection.close()
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def settings(*flags):
    read = ("--base-model", "base", "--data-path", "rows.jsonl", "--test-data", "test.jsonl")
    return load_settings([*read, *flags], "", trains=False)


def trains(*flags):
    run_folder.check_outputs(settings(*flags))


def answers(*flags):
    run_folder.check_answers(settings(*flags))


def judges(*arguments):
    sys.argv = ["evaluation", *arguments]
    main_module.main()


def mends(*arguments):
    lint_command.main(list(arguments))


def merges(*flags):
    merge.main(["--base-model", "base", "--data-path", "rows.jsonl", *flags])


def refusal(command, flags, capsys) -> str:
    """The one line with which a command refuses, once it is certain that nothing was changed and nothing is new."""
    before = fingerprints(Path.cwd())
    with pytest.raises((UserError, SystemExit)) as caught:
        command(*flags)
    assert fingerprints(Path.cwd()) == before
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line
    return str(caught.value)


ASKED = ("--database", "shop.sqlite", "--question", "x")
TALKED = ("--database", "shop.sqlite", "--interactive")


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (answers, (*ASKED, "--output", "shop.sqlite"), "write over DATABASE"),
        (
            answers,
            ("--database", "sqlite:///shop.sqlite", "--question", "x", "--output", "shop.sqlite"),
            "write over DATABASE",
        ),
        (answers, (*ASKED, "--output", "shop.sqlite-wal"), "the -wal file of DATABASE"),
        (answers, ("--output", "test.jsonl"), "write over TEST_DATA"),
        (answers, ("--output", "data/../test.jsonl"), "write over TEST_DATA"),
        (answers, ("--database", "shop.sqlite", "--questions", "q.txt", "--output", "q.txt"), "write over QUESTIONS"),
        (answers, ("--question", "x", "--context", "schema.sql", "--output", "schema.sql"), "write over CONTEXT"),
        (answers, ("--data-path", "data", "--output", "data/answers.jsonl"), "DATA_PATH"),
        (answers, (*TALKED, "--save-feedback", "shop.sqlite"), "write over DATABASE"),
        (answers, ("--output", "base/answers.jsonl"), "BASE_MODEL"),
        (answers, ("--test-data", "data", "--output", "data/answers.jsonl"), "TEST_DATA"),
        (answers, ("--checkpoint-dir", "base/run"), "BASE_MODEL"),
        (trains, ("--model-path", "base"), "BASE_MODEL"),
        (trains, ("--model-path", "base/adapter"), "BASE_MODEL"),
        (trains, ("--model-path", "."), "BASE_MODEL"),
        (trains, ("--data-path", "data", "--checkpoint-dir", "data"), "DATA_PATH"),
        (trains, ("--data-path", "data", "--model-path", "data/adapter"), "DATA_PATH"),
        (trains, ("--holdout", "data", "--model-path", "data/adapter"), "HOLDOUT"),
        (judges, ("predictions.jsonl", "--json", "predictions.jsonl"), "write over PREDICTIONS"),
        (mends, ("rows.jsonl", "--fix", "rows.jsonl"), "write over the input rows"),
        (mends, ("data", "--fix", "data/fixed.jsonl"), "the input rows or inside it"),
        (merges, ("--output", "base"), "BASE_MODEL"),
        (merges, ("--output", "base/merged"), "BASE_MODEL"),
    ],
)
def test_what_is_read_is_not_written_to(here, capsys, command, flags, words):
    assert words in refusal(command, flags, capsys)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nor_by_a_link(here, capsys, link):
    for source, command, flags in (
        ("shop.sqlite", answers, (*ASKED, "--output", "link")),
        ("test.jsonl", answers, ("--output", "link")),
        ("predictions.jsonl", judges, ("predictions.jsonl", "--json", "link")),
        ("rows.jsonl", mends, ("rows.jsonl", "--fix", "link.jsonl")),
    ):
        link(here / source, here / flags[-1])
        assert "would write over" in refusal(command, flags, capsys)
        (here / flags[-1]).unlink()
    (here / "to_base").symlink_to("base")
    (here / "up").symlink_to(".")
    assert "BASE_MODEL" in refusal(trains, ("--model-path", "to_base"), capsys)
    assert "BASE_MODEL" in refusal(trains, ("--base-model", "to_base", "--checkpoint-dir", "up/base/run"), capsys)
    assert "TEST_DATA" in refusal(answers, ("--output", "up/test.jsonl"), capsys)


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (answers, ("--output", "mine.jsonl"), "holds something other than answers of generate.py"),
        (answers, ("--output", "q.txt"), "holds something other"),
        (answers, (*ASKED, "--output", "README.md"), "holds something other"),
        (answers, (*TALKED, "--save-feedback", "mine.jsonl"), "holds something other"),
        (answers, ("--output", "/dev/null"), "not a file"),
        (answers, ("--output", "theirs"), "is a folder; name a file"),
        (answers, ("--checkpoint-dir", "theirs"), "such as 'thesis.txt'"),
        (trains, ("--checkpoint-dir", "theirs"), "such as 'thesis.txt'"),
        (trains, ("--model-path", "theirs/../theirs"), "such as 'thesis.txt'"),
        (trains, ("--model-path", ".", "--base-model", "x/y", "--data-path", "x/y"), "SQLoRA did not write"),
        (judges, ("predictions.jsonl", "--json", "mine.json"), "holds something other than an evaluation"),
        (judges, ("predictions.jsonl", "--json", "rows.jsonl"), "holds something other"),
        (mends, ("rows.jsonl", "--fix", "mine.jsonl"), "holds something other than rows"),
        (merges, ("--output", "theirs"), "something is there"),
        (merges, ("--output", "new", "--checkpoint-dir", "theirs"), "such as 'thesis.txt'"),
    ],
)
def test_what_somebody_else_wrote_stays(here, capsys, command, flags, words):
    assert words in refusal(command, flags, capsys)


def test_the_file_beside_the_repaired_rows_is_one_that_is_written(here, capsys):
    write("fixed.dropped.jsonl", MINE)
    assert "fixed.dropped.jsonl" in refusal(mends, ("rows.jsonl", "--fix", "fixed.jsonl"), capsys)


@pytest.mark.parametrize(
    ("kind", "row", "others"),
    [
        (outputs.ANSWERS, ANSWER, [LIVE, ROW, STEP]),
        (outputs.DATABASE_ANSWERS, LIVE, [ANSWER, ROW]),
        (
            outputs.TRAINING_ROWS,
            ROW,
            [ANSWER, LIVE, ROW | {"note": "mine"}, {"question": "a", "query": "b"}, ["question"], "x"],
        ),
        (outputs.DROPPED_ROWS, ROW | {"reason": "a", "why": "b"}, [ROW]),
        (outputs.LOGGED_STEPS, STEP, [ROW, STEP | {"user": 1}]),
    ],
)
def test_a_file_is_known_by_its_first_row(tmp_path, kind, row, others):
    file = tmp_path / "file"
    check = outputs.File("X (--x)", file, kind).check
    for text in ("", json.dumps(row), "\n" + json.dumps(row) + "\n" + MINE):
        file.write_text(text)
        check()
    for text in (*map(json.dumps, others), MINE, "[" * 100_000, "\n\n", "\x00"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"X \(--x\) is .*something other than"):
            check()
    file.write_bytes(b'{"question": "caf\xe9"}')
    with pytest.raises(UserError):
        check()


def test_folders_that_are_ours(here):
    """New, empty, with a fingerprint, with logged steps, as a killed run leaves them, or with such folders below
    them.
    """
    write("a/sqlora.json", "{}")
    write("b/metrics.jsonl", json.dumps(STEP))
    write("b/notes.txt", MINE)
    write("killed/.lock", "")
    write("killed/.lint/x.json", "[]")
    write("killed/metrics.jsonl", "")
    write("half/.partial-x/sqlora.json", "{}")
    write("half/README.md", "---\nmade with SQLoRA")
    write("moved/earlier/2026-01-01_00-00-00/metrics.jsonl", json.dumps(STEP))
    write("above/tiny/sqlora.json", "{}")
    write("above/other/metrics.jsonl", json.dumps(STEP))
    write("above/merged/README.md", "---\ntags: []\n---\n# x, merged with an SQL adapter\nmade with SQLoRA")
    write("above/merged/model.safetensors", "x")
    write("answered/answers.jsonl", json.dumps(ANSWER))
    write("answered/before_after.html", "<!doctype html>\n<title>SQLoRA: before and after")
    write("answered/evaluation.json", '{"metrics": {"base": {"exact_match": {}}}}')
    for name in ("new", "new/below", "a", "b", "killed", "half", "moved", "above", "answered"):
        answers("--checkpoint-dir", name)
        trains("--checkpoint-dir", name)
        if name != "b":
            trains("--model-path", name)


@pytest.mark.parametrize(
    "entry",
    [
        "sqlora.json/x",
        "metrics.jsonl/x",
        "checkpoint-500/model.bin",
        "earlier/photo",
        "README.md",
        "x/sqlora.jsonl",
        "deep/deeper/deepest/x/sqlora.json",
    ],
)
def test_folders_that_look_like_ours(here, capsys, entry):
    write(f"run/{entry}", MINE)
    write("run/tiny/sqlora.json", "{}")
    for command, flag in ((trains, "--checkpoint-dir"), (trains, "--model-path"), (answers, "--checkpoint-dir")):
        assert "run" in refusal(command, (flag, "run"), capsys)


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--model-path", "sqlora.json"),
        ("--model-path", "README.md"),
        ("--model-path", ".lock"),
        ("--checkpoint-dir", "loss.png"),
        ("--checkpoint-dir", "before_after.html"),
        ("--checkpoint-dir", ".lock"),
        ("--checkpoint-dir", ".lint"),
        ("--checkpoint-dir", "earlier"),
    ],
)
def test_a_run_of_ours_with_something_in_the_way(here, capsys, flag, name):
    """A link leads out of the folder, whoever put it there; a folder or somebody's page is not what is written
    there.
    """
    write("run/metrics.jsonl", json.dumps(STEP))
    way = Path("run", name)
    way.symlink_to("../theirs" if name in (".lint", "earlier") else "../README.md")
    assert f"{name} in it" in refusal(trains, (flag, "run"), capsys)
    way.unlink()
    if name not in (".lint", "earlier"):
        way.mkdir()
        assert f"{name} in it is a folder" in refusal(trains, (flag, "run"), capsys)
        way.rmdir()
    if name in ("README.md", "before_after.html"):
        write(f"run/{name}", MINE)
        assert f"{name} in it exists and holds" in refusal(trains, (flag, "run"), capsys)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (trains, ("--model-path", "run/checkpoint-5", "--checkpoint-dir", "run")),
        (trains, ("--model-path", "run/earlier", "--checkpoint-dir", "run")),
        (trains, ("--checkpoint-dir", "saved/sqlora.json", "--model-path", "saved")),
        (answers, ("--checkpoint-dir", "run", "--output", "run/Before_After.html")),
        (answers, ("--checkpoint-dir", "run", "--output", "run/.answers/mine.jsonl")),
        (answers, ("--checkpoint-dir", "run", "--output", "run/checkpoint-5/mine.jsonl")),
        (answers, (*TALKED, "--save-feedback", "a.jsonl", "--output", "./a.jsonl")),
        (merges, ("--checkpoint-dir", "run", "--output", "run")),
    ],
)
def test_two_outputs_that_are_one(here, capsys, command, flags):
    assert "one would be written over the other" in refusal(command, flags, capsys)


def test_outputs_beside_and_within_each_other(here):
    trains("--checkpoint-dir", "run", "--model-path", "run/adapter")
    trains("--checkpoint-dir", "adapter/run", "--model-path", "adapter")
    write("run/metrics.jsonl", json.dumps(STEP))
    write("run/more.jsonl", json.dumps(ROW))
    trains("--checkpoint-dir", "run", "--extra-data", "run/more.jsonl")  # nothing is written there
    answers("--checkpoint-dir", "run", "--lora-checkpoint", "run/checkpoint-2", "--output", "run/answers.jsonl")
    answers(*TALKED, "--save-feedback", "rows.jsonl", "--extra-data", "rows.jsonl")  # which training will read
    (here / "link.jsonl").symlink_to("new.jsonl")
    answers("--output", "link.jsonl")
    assert not Path("new.jsonl").exists()


def test_a_folder_that_may_not_be_looked_at(here, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(UserError, match=r"CHECKPOINT_DIR.*'theirs'.*Permission denied"):
        trains("--checkpoint-dir", "theirs")


def test_the_scripts_look_before_they_work(here, monkeypatch):
    """With a base that could not be loaded, so that nothing else ends them."""
    for main, flags, words in (
        (generate.main, ("--output", "test.jsonl"), "write over TEST_DATA"),
        (generate.main, (*ASKED, "--output", "shop.sqlite"), "write over DATABASE"),
        (finetune.main, ("--model-path", "theirs"), "SQLoRA did not write"),
        (finetune.main, ("--model-path", "base"), "BASE_MODEL"),
    ):
        before = fingerprints(here)
        with pytest.raises(UserError, match=words):
            main(settings(*flags, "--device", "cpu"))
        assert fingerprints(here) == before
        assert not Path("lora_models").exists()


def test_an_evaluation_and_repaired_rows_are_written_over_their_own(here, capsys):
    for _ in range(2):
        judges("predictions.jsonl", "--json", "verdicts.json")
        mends("rows.jsonl", "--fix", "fixed.jsonl")
    assert json.loads(Path("verdicts.json").read_text())["metrics"]["n"] == 1
    assert json.loads(Path("fixed.jsonl").read_text()) == ROW
    write("fixed.dropped.jsonl", json.dumps(ROW | {"reason": "a", "why": "b"}))
    mends("rows.jsonl", "--fix", "fixed.jsonl")
    assert not Path("fixed.dropped.jsonl").read_text()
