"""--interactive, in a real terminal: asked, agreed to, corrected, kept, refined."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import servers
import terminal

from sqlora.ask import questions, shell
from sqlora.data import dataset
from sqlora.sql.parsing import parse_schema
from sqlora.sql.schema import Schema
from sqlora.system.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(scholar_folder, tmp_path):
    def command(url, *flags):
        return [
            sys.executable,
            str(ROOT / "generate.py"),
            "--base-model",
            str(scholar_folder),
            "--low-bit",
            "none",
            "--dtype",
            "float32",
            "--device",
            "cpu",
            "--max-new-tokens",
            "60",
            "--constrain",
            "off",  # the model names a column that is not there
            "--checkpoint-dir",
            str(tmp_path / "run"),
            "--model-path",
            str(tmp_path / "saved"),
            "--database",
            url,
            "--interactive",
            *flags,
        ]

    return command


def test_a_session(command, postgresql_server, tmp_path):
    if reason := terminal.missing():
        pytest.skip(reason)
    feedback = tmp_path / "feedback.jsonl"
    before = postgresql_server.dump()
    started = command(postgresql_server.reader, "--tables", "Song,singer", "--save-feedback", str(feedback))
    with terminal.terminal(started, tmp_path, HOME=str(tmp_path)) as screen:
        screen.wait("\\help", last="question>")
        screen.type("How many singers are there?", "Enter")
        screen.wait("SELECT COUNT(*) FROM singer", last="run it?")
        screen.type("y", "Enter")
        screen.wait("1 row", last="question>")

        screen.type("Who is older than 20?", "Enter")
        screen.wait("WHERE age > 20", last="run it?")
        screen.type("n", "Enter")
        assert "Ann" not in screen.wait("run it? [Y/n/e(dit)] n", last="question>")

        screen.type("\\edit", "Enter")
        screen.wait(last="sql> SELECT name FROM singer WHERE age > 20")
        screen.type("", "BSpace", "BSpace")
        screen.type("16 ORDER BY n")
        screen.type("", "Tab")  # name, of a column
        screen.wait(last="sql> SELECT name FROM singer WHERE age > 16 ORDER BY name")
        screen.type("", "Enter")
        screen.wait("Bo", "2 rows", "saved in", last="question>")

        screen.type("\\edit", "Enter")
        screen.wait(last="sql> SELECT name FROM singer WHERE age > 16 ORDER BY name")
        screen.type(" DESC", "Enter")
        screen.wait("ORDER BY name DESC", last="question>")

        screen.type("\\refine", "Enter")
        screen.wait(last="question> Who is older than 20?")
        screen.type("", "C-c")
        screen.wait_for_line("question>")
        screen.type("\\refine who sings", "Enter")
        screen.wait('AND singer_id IN (SELECT singer_id FROM "Song")', last="run it?")
        screen.type("", "Enter")
        screen.wait(last="question>")

        screen.type("How tall is Ann?", "Enter")
        screen.wait("no such column: height", last="edit it?")
        screen.type("n", "Enter")
        screen.wait_for_line("question>")

        screen.type("\\tables singer", "Enter")
        screen.wait("- Song (SongId", "are hidden from the model", last="question>")
        screen.type("\\schema", "Enter")
        screen.wait("CREATE TABLE singer (singer_id INTEGER", last="question>")
        screen.type("\\schema nix", "Enter")
        screen.wait("there is no table 'nix'", last="question>")
        screen.type("\\nonsense", "Enter")
        screen.wait("\\nonsense is not a command", last="question>")
        screen.type("", "Up", "Up")
        screen.wait(last="question> \\schema nix")  # the history
        screen.type("", "C-c")
        screen.wait_for_line("question>")
        screen.type("\\q", "Enter")
        assert screen.status() == 0
        assert servers.PASSWORD not in screen.screen()
    rows = dataset.load_rows(str(feedback), "feedback")
    assert [row["answer"] for row in rows] == ["SELECT name FROM singer WHERE age > 16 ORDER BY name DESC"]
    assert rows[0]["question"] == "Who is older than 20?"
    assert "CREATE TABLE singer (" in rows[0]["context"]
    history = tmp_path / ".sqlora_history"
    assert "How many singers are there?" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    assert postgresql_server.dump() == before


def test_without_a_terminal(command, sqlite_server):
    done = subprocess.run(
        command(sqlite_server.url),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: INTERACTIVE (--interactive) needs a terminal")
    assert done.stderr.count("\n") == 1


def test_what_is_pasted_or_is_no_utf8_is_one_question(command, sqlite_server, tmp_path):
    if reason := terminal.missing():
        pytest.skip(reason)
    (tmp_path / ".sqlora_history").mkdir()  # a folder keeps no history, and does no harm
    started = command(sqlite_server.reader, "--tables", "song,singer")
    with terminal.terminal(started, tmp_path, HOME=str(tmp_path)) as screen:
        screen.wait("\\help", last="question>")
        screen.type("Caf")
        screen.tmux("send-keys", "-H", "e9")  # Latin-1
        screen.type("?", "Enter")
        screen.wait(" it? [")
        screen.type("n", "Enter")
        screen.wait_for_line("question>")
        screen.paste("How many singers\nare there?\n")
        screen.wait("question> How many singers\nare there?")
        screen.type("", "Enter")
        screen.wait("SELECT COUNT(*) FROM singer", last="run it?")
        screen.type("n", "Enter")
        screen.wait_for_line("question>")
        screen.type("\\q", "Enter")
        assert screen.status() == 0


CONTEXT = "CREATE TABLE t (a INTEGER)"


def keep(question, file):
    live = SimpleNamespace(reflected=SimpleNamespace(dialect="sqlite"), schema=parse_schema(CONTEXT))
    answer = questions.LiveAnswer(question, CONTEXT, "", None, (), ())
    asker = SimpleNamespace(live=live, described=live.schema, shown=Schema.ddl)
    shell.Shell._keep(SimpleNamespace(asker=asker), answer, "SELECT a FROM t", file)


def test_feedback_keeps_every_line_that_it_does_not_replace(tmp_path):
    file = tmp_path / "feedback.jsonl"
    rows = [{"question": f"Which\u2028{number}?", "context": CONTEXT, "answer": "SELECT 1"} for number in range(3)]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    file.write_bytes(b"\n".join([lines[0], b'{"caf\xe9', lines[1], lines[2]]))  # damaged, and without a last line end
    file.chmod(0o600)
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    keep(rows[1]["question"], link)
    changed = json.dumps(rows[1] | {"answer": "SELECT a FROM t"}, ensure_ascii=False).encode()
    assert file.read_bytes() == b"\n".join([lines[0], b'{"caf\xe9', lines[2], changed, b""])
    assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o600)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_is_not_ctrl_c_ends_the_session(command, sqlite_server, tmp_path, number, status):
    if reason := terminal.missing():
        pytest.skip(reason)
    with terminal.terminal(command(sqlite_server.reader), tmp_path, HOME=str(tmp_path)) as screen:
        screen.wait("\\help", last="question>")
        started = [sys.executable, str(ROOT / "generate.py")]
        pids = [p.pid for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[:2] == started]
        (main,) = [pid for pid in pids if str(tmp_path / "run") in psutil.Process(pid).cmdline()]
        os.kill(main, number)
        assert screen.status() == status


def test_a_correction_is_saved_though_its_folder_has_gone(tmp_path):
    file = tmp_path / "gone" / "mine.jsonl"
    keep("Which?", file)
    assert json.loads(file.read_text())["answer"] == "SELECT a FROM t"
    with pytest.raises(UserError, match="not saved.*SELECT a FROM t"):
        keep("Which?", tmp_path / ("long" * 100) / "mine.jsonl")
