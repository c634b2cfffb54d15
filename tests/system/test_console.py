"""What is printed: whatever the text has in it, it controls no terminal and breaks no line."""

import csv
import io
import json
import sys

import pytest

from sqlora.system import console

HOSTILE = "a\x1b[31m\u202eb\u2028c\ud800d\U000e0041\x00"


def test_control_characters_are_escaped_and_line_ends_stay():
    assert console.printable(HOSTILE) == "a\\x1b[31m\\u202eb\\u2028c\\ud800d\\U000e0041\\x00"
    assert console.printable("one\ntwo\tthree\r\n") == "one\ntwo\tthree\r\n"
    assert console.printable("over\rwritten") == "over\\rwritten"


def test_json_is_one_line_that_reads_back(capsys):
    console.print_json({"text": HOSTILE, "path": sys})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["text"] == HOSTILE
    assert "\x1b" not in line


def test_csv_reads_back(capsys):
    console.print_csv(("a", "b"), [('x,"y"\nz', None), ("\x1b", 2)])
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["a", "b"],
        ['x,"y"\nz', ""],
        ["\\x1b", "2"],
    ]


def test_a_note_is_one_line_without_markup(capsys):
    console.note("[bold]not bold[/bold]\nand on")
    assert capsys.readouterr().out == "note: [bold]not bold[/bold] and on\n"


@pytest.mark.parametrize("arguments", [["--max-steps", "4"], ["--max-steps", "4", "--resume"]])
def test_the_command_that_resumes(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["/somewhere/finetune.py", *arguments])
    said = console.resume_hint("after step 2")
    assert said == "interrupted after step 2. Resume with: python finetune.py --max-steps 4 --resume"


def test_the_command_that_resumes_has_no_password(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["generate.py", "--database", "postgresql://me:secret@host/db"])
    assert "secret" not in console.resume_hint("")
