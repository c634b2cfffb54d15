"""Answers that are kept as they are written: found again after any end, and by nobody else."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import generate
from sqlora.evaluation import judge
from sqlora.generation import answer_journal, answer_writer
from sqlora.generation.answer_journal import Journal
from sqlora.generation.candidate import Candidate
from sqlora.model import base_models
from sqlora.system.errors import Interrupted, UserError

ROOT = Path(__file__).parents[2]
ROWS = [
    {"question": f"Is it {i}" + " or so" * (i % 5) + "?", "context": f"CREATE TABLE t{i} (a INTEGER)"}
    for i in range(60)
]


def test_what_was_written_is_found(tmp_path):
    with Journal(tmp_path, "key") as first:
        first.add("base", 3, [Candidate("SELECT 'ä\n'", 0.5), Candidate("SELECT 2")])
        first.add("adapter", 3, [Candidate("x")])
    file = tmp_path / "key.0.jsonl"
    with file.open("a") as stream:
        stream.write('["base", 4, [["SELECT')  # a killed process's last line
    with Journal(tmp_path, "key", resume=True) as second:
        assert second.written == first.written
        second.add("base", 5, [Candidate("SELECT 5")])
    assert second.pace().startswith("1 in ")  # of its own
    with Journal(tmp_path, "key", resume=True) as third:
        assert third.written == first.written | {("base", 5): [Candidate("SELECT 5")]}
    with pytest.raises(UserError, match="--resume.*no answers"):
        Journal(tmp_path, "other", resume=True)


def test_a_device_that_fails_is_named_with_the_way_on(tmp_path):
    with pytest.raises(UserError, match=r"failed after 0 answers: level_zero.* \(.*LOST\); .*--resume"):
        fail(tmp_path, "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)\nmore")
    with pytest.raises(RuntimeError, match="a bug"):
        fail(tmp_path, "a bug")


def fail(folder, message):
    with Journal(folder, "key"):
        raise RuntimeError(message)


def test_a_fresh_start_sets_aside_what_was_kept(tmp_path, capsys):
    for number in range(2):
        with Journal(tmp_path, "key") as first:
            first.add("base", number, [Candidate("SELECT 1")])
    assert "moved the answers of an earlier run" in capsys.readouterr().out
    with Journal(tmp_path, "key") as third:
        assert third.written == {}
    aside = sorted((tmp_path / "earlier").rglob("key.0.jsonl"))
    assert [json.loads(file.read_text().strip())[1] for file in aside] == [0, 1]
    aside[0].rename(tmp_path / "key.0.jsonl")
    with Journal(tmp_path, "key", resume=True) as back:
        assert list(back.written) == [("base", 0)]
    back.remove()
    assert len(list((tmp_path / "earlier").rglob("*.jsonl"))) == 1


def test_lines_end_where_they_end(tmp_path):
    odd = "SELECT '\u2028\u0085\x0c\ud800\r'"
    with Journal(tmp_path, "key") as kept:
        kept.add("base", 0, [Candidate(odd)])
    with (tmp_path / "key.0.jsonl").open("ab") as stream:
        stream.write(b'["base", 1, [["caf\xe9", 1.0]]]\n')  # damaged
    with Journal(tmp_path, "key", resume=True) as again:
        assert again.written == {("base", 0): [Candidate(odd)]}


def test_what_other_runs_keep_stays(tmp_path):
    with Journal(tmp_path, "mine") as mine, Journal(tmp_path, "theirs") as theirs:
        for one in (mine, theirs):
            one.add("base", 0, [Candidate("SELECT 1")])
    mine.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.0.jsonl"]


def test_an_interrupt_shows_how_to_resume(tmp_path):
    def cut_off():
        with Journal(tmp_path, "key") as kept:
            kept.add("base", 0, [Candidate("x")])
            raise Interrupted(15)

    with pytest.raises(Interrupted, match="interrupted after 1 answers.*--resume") as raised:
        cut_off()
    assert raised.value.number == 15


@pytest.fixture
def flags(llama_folder, tmp_path):
    """Of generate.py with the base alone, over 60 rows."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {
        "base-model": llama_folder,
        "test-data": rows,
        "model": "base",
        "device": "cpu",
        "dtype": "float32",
        "low-bit": "none",
        "max-new-tokens": 30,
        "generation-batch-size": 2,
        "checkpoint-dir": tmp_path / "run",
        "model-path": tmp_path / "none",
        "output": tmp_path / "out.jsonl",
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def test_other_questions_models_and_ways_have_other_keys(flags, make_settings, llama_folder, mistral_folder):
    def key(rows=ROWS, folder=llama_folder, *more):
        asked = [(row["question"], row["context"]) for row in rows]
        with answer_journal.open_journal(
            asked, base_models.find_base_model(str(folder)), None, make_settings(*flags, *more)
        ) as kept:
            return Path(kept.file.name).name

    assert key() == key()
    others = [
        key(ROWS[1:]),
        key(ROWS, mistral_folder),
        key(ROWS, llama_folder, "--num-beams", "2"),
        key(ROWS, llama_folder, "--seed", "1"),
    ]
    assert len({key(), *others}) == 5
    assert key(ROWS, llama_folder, "--generation-batch-size", "7") == key()


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_lines(folder: Path, least: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while sum(len(file.read_text().splitlines()) for file in folder.glob("*.jsonl")) < least:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_generation_that_was_cut_off_resumes(flags, tmp_path, monkeypatch, number):
    kept, output = tmp_path / "run" / answer_journal.FOLDER, tmp_path / "out.jsonl"
    process = start("generate.py", *flags)
    wait_for_lines(kept, 8, process)
    process.send_signal(number)
    message, _ = process.communicate(timeout=60)
    assert not output.exists(), "it was done before the signal came"
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "answers. Resume with: python generate.py" in message
    before = sum(line.startswith("[") for line in (kept / next(kept.iterdir()).name).read_text().splitlines())
    asked = []
    write = answer_writer.SqlWriter.candidates
    monkeypatch.setattr(
        answer_writer.SqlWriter, "candidates", lambda self, rows, *more: asked.extend(rows) or write(self, rows, *more)
    )
    generate.main(generate.load_settings([*flags, "--resume"], "", trains=False))
    assert len(ROWS) - before <= len(asked) <= len(ROWS) - before + 1
    assert [*kept.iterdir()] == []
    goes_on = output.read_text()
    generate.main(generate.load_settings(flags, "", trains=False))
    assert output.read_text() == goes_on
    assert len(goes_on.splitlines()) == len(ROWS)


def test_a_run_that_had_only_its_output_to_write_resumes(flags, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda self: None)
        generate.main(generate.load_settings(flags, "", trains=False))
    written = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").unlink()
    generate.main(generate.load_settings([*flags, "--resume"], "", trains=False))
    assert (tmp_path / "out.jsonl").read_text() == written


def test_answers_are_written_before_they_are_judged(flags, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(judge, "judge_answers", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate.main(generate.load_settings(flags, "", trains=False))
    written = (tmp_path / "out.jsonl").read_text()
    assert len(written.splitlines()) == len(ROWS)
    monkeypatch.setattr(
        answer_writer.SqlWriter, "candidates", lambda self, rows, *more: [] if not rows else pytest.fail("asked")
    )
    generate.main(generate.load_settings([*flags, "--resume"], "", trains=False))
    assert (tmp_path / "out.jsonl").read_text() == written


@pytest.mark.slow
@pytest.mark.parametrize("stdout", ["| true", ">&-"])
def test_where_nobody_reads_the_answers_are_there(flags, tmp_path, stdout):
    command = f"{shlex.join([sys.executable, 'generate.py', *flags])} {stdout}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(ROWS)
    assert done.stderr == ""
    assert (tmp_path / "run" / "before_after.html").is_file()


@pytest.mark.slow
def test_two_processes_write_one_output_and_lose_no_row(flags, tmp_path):
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
        "generate.py",
        *flags,
    ]
    generate.main(generate.load_settings(flags, "", trains=False))
    alone = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").unlink()
    process = start(*launch)
    wait_for_lines(tmp_path / "run" / answer_journal.FOLDER, 8, process)
    import psutil

    ranks = {child.environ().get("RANK"): child for child in psutil.Process(process.pid).children(recursive=True)}
    ranks["1"].kill()
    began = time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - began < 60
    assert not (tmp_path / "out.jsonl").exists()
    kept = [
        line
        for file in (tmp_path / "run" / answer_journal.FOLDER).iterdir()
        for line in file.read_text().splitlines()
        if line
    ]
    assert len(kept) >= 6
    process = start(*launch, "--resume")
    message, _ = process.communicate(timeout=200)
    assert process.returncode == 0, message
    assert (tmp_path / "out.jsonl").read_text() == alone
    assert message.count("SQLoRA generation") == 1
