"""The loss curve, the before/after page and the terminal's comparison, from real files."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from small_data import ANSWERS

from sqlora.evaluation import judge
from sqlora.generation.candidate import Candidate, PassedOver
from sqlora.reports import comparison


def test_importing_the_report_is_quick_and_leaves_matplotlib_and_torch_alone():
    code = (
        "import sys, sqlora.reports.comparison; sys.exit(bool({'torch', 'matplotlib', 'transformers'} & "
        "sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", ["✓", "✗"]), ("ascii", ["ok", "no"])])
def test_the_terminal_shows_the_answers_side_by_side(tmp_path, encoding, signs):
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        answers = [
            {"question": "Où ?", "context": "", "answer": "", "base": "x \x1b[2J [red]y"},
            *ANSWERS,
            {"question": "alert"},
        ]
        judged = judge.judge_answers(answers, execute=True)
        comparison.print_comparison(answers, judged, Console(file=stream, width=100), limit=3)
    text = (tmp_path / "out").read_text(encoding=encoding)
    for sign in (*signs, "SELECT COUNT(*) FROM t", "[red]y", "(nothing)", "and 1 more", "no such column: b"):
        assert sign in text
    assert "\x1b" not in text
    assert "alert" not in text


def test_the_terminal_has_colours_too_and_a_console_of_its_own(capsys):
    console = Console(record=True, width=100, force_terminal=True, color_system="truecolor", quiet=False)
    comparison.print_comparison(ANSWERS, judge.judge_answers(ANSWERS, execute=False), console)
    assert "more" not in console.export_text(clear=False).splitlines()[-1]
    assert "adapter ✓" in console.export_text()
    capsys.readouterr()
    comparison.print_comparison(ANSWERS, [{}, {}])
    assert "Which a?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("execute", "name", "base"),
    [(False, "exact match", "50.0 % (9.5-90.5) 1/2"), (True, "execution match", "50.0 % (9.5-90.5) 1/2")],
)
def test_facts_say_who_answered_and_how_well(execute, name, base):
    facts = comparison.answer_facts(ANSWERS, judge.judge_answers(ANSWERS, execute), "owner/base", Path("saved_model"))
    assert facts["base model"] == "owner/base"
    assert facts[f"{name}, base"] == base
    assert "changed by CONSTRAIN, adapter" not in facts
    assert facts["adapter against base"] == "1 gained, 1 lost of 2 (McNemar, exact: p = 1.0000)"
    assert comparison.answer_facts(ANSWERS, [{}, {}], "owner/base", None).keys() == {
        "base model",
        "adapter",
        "questions",
    }


def test_the_evaluation_as_json(tmp_path):
    judged = judge.judge_answers(ANSWERS, execute=True)
    comparison.write_evaluation(tmp_path / "evaluation.json", ANSWERS, judged)
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["metrics"]["adapter"]["execution_match"]["count"] == 1
    assert report["adapter_against_base"]["n"] == 2
    assert [row["verdicts"]["adapter"]["verdict"] for row in report["rows"]] == ["match", "invalid"]
    assert report["rows"][1]["question"] == "Which a?"


def test_the_card_fits_a_terminal_of_eighty_columns():
    console = Console(record=True, width=80, quiet=False, file=io.StringIO())
    comparison.print_card(judge.judge_answers(ANSWERS, execute=True), console)
    text = console.export_text()
    assert "50.0 (9.5-90.5) 1/2" in text
    assert max(map(len, text.splitlines())) <= 80


def test_answers_that_were_changed_are_counted():
    held = Candidate("SELECT a FROM t", 1.0, -0.5, (PassedOver(7, "b", 0.6),)).decoding
    free = Candidate("SELECT a FROM t").decoding
    answers = [ANSWERS[0] | {"decoding": {"base": free, "adapter": held}}, ANSWERS[1] | {"decoding": {"adapter": held}}]
    facts = comparison.answer_facts(answers, [{}, {}], "owner/base", None)
    assert facts["changed by CONSTRAIN, adapter"] == "2"
    assert "changed by CONSTRAIN, base" not in facts
