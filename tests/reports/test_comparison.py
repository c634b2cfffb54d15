"""The loss curve, the before/after page and the terminal's comparison, from real files."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sqlora.evaluation import judge
from sqlora.reports import comparison, loss_curve

ANSWERS = [
    {
        "question": "How many?",
        "context": "CREATE TABLE t (a INT)",
        "answer": "SELECT COUNT(*) FROM t",
        "base": "How many? is",
        "adapter": "select count(*) from t",
    },
    {
        "question": "Which a?",
        "context": "CREATE TABLE t (a INT)",
        "answer": "SELECT a FROM t",
        "base": "SELECT a FROM t",
        "adapter": "SELECT b FROM t",
    },
]
METRICS = [
    {"step": 5, "loss": 2.0, "learning_rate": 1e-4},
    {"step": 10, "loss": 1.0, "eval_loss": 1.2, "learning_rate": 2e-4},
    {"step": 15},
    {"step": 15, "loss": None, "eval_loss": float("nan")},
    {"step": 20, "eval_loss": 0.9},
]


@pytest.fixture
def curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS) + '{"step": 30, "lo')
    loss_curve.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny, $5 and $6")
    return tmp_path / "loss.png"


def test_importing_the_report_is_quick_and_leaves_matplotlib_and_torch_alone():
    code = (
        "import sys, sqlora.reports.comparison; sys.exit(bool({'torch', 'matplotlib', 'transformers'} & "
        "sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_curve_is_a_picture(curve):
    with Image.open(curve) as picture:
        assert picture.size == (1600, 1000)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    for hexadecimal in (loss_curve.BLUE, loss_curve.ORANGE, loss_curve.GREY):
        assert tuple(bytes.fromhex(hexadecimal[1:])) in colours
    assert {path.name for path in curve.parent.iterdir()} == {"loss.png", "metrics.jsonl"}


def test_only_whole_lines_and_finite_figures_count(curve):
    entries = loss_curve._read_metrics(curve.with_name("metrics.jsonl"))
    assert len(entries) == len(METRICS)
    assert loss_curve._series(entries, "loss") == ([5, 10], [2.0, 1.0])
    assert loss_curve._series(entries, "eval_loss") == ([10, 20], [1.2, 0.9])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]\nnull\n",
        '{"step": 1, "loss": 3.0, "learning_rate": 0.1}\n',
        '{"step": 0, "eval_loss": 0.0}\n',
        '{"step": 5, "é',
    ],
)
def test_a_curve_of_next_to_nothing(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_bytes(text.encode()[:-1])
    loss_curve.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
    with Image.open(tmp_path / "loss.png") as picture:
        picture.verify()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(curve, monkeypatch):
    old = curve.read_bytes()
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda *_, **__: (curve.parent / "missing" / "x").read_bytes()
    )
    with pytest.raises(FileNotFoundError):
        loss_curve.plot_loss_curve(curve.with_name("metrics.jsonl"), curve, "Tiny")
    assert curve.read_bytes() == old
    assert len(list(curve.parent.iterdir())) == 2


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", ["✓", "✗"]), ("ascii", ["ok", "no"])])
def test_the_terminal_shows_the_answers_beside_each_other(tmp_path, encoding, signs):
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
def test_facts_tell_who_answered_and_how_well(execute, name, base):
    facts = comparison.answer_facts(ANSWERS, judge.judge_answers(ANSWERS, execute), "owner/base", Path("saved_model"))
    assert facts["base model"] == "owner/base"
    assert facts[f"{name}, base"] == base
    assert facts["adapter against base"] == "1 gained, 1 lost of 2 (McNemar, exact: p = 1.0000)"
    assert comparison.answer_facts(ANSWERS, [{}, {}], "owner/base", None).keys() == {
        "base model",
        "adapter",
        "questions",
    }


def test_the_evaluation_as_json(tmp_path):
    judged = judge.judge_answers(ANSWERS, execute=True)
    comparison.write_evaluation(tmp_path / "evaluation.json", ANSWERS, judged)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert told["metrics"]["adapter"]["execution_match"]["count"] == 1
    assert told["adapter_against_base"]["n"] == 2
    assert [row["verdicts"]["adapter"]["verdict"] for row in told["rows"]] == ["match", "invalid"]
    assert told["rows"][1]["question"] == "Which a?"


def test_the_card_fits_a_terminal_of_eighty_columns():
    console = Console(record=True, width=80, quiet=False, file=io.StringIO())
    comparison.print_card(judge.judge_answers(ANSWERS, execute=True), console)
    text = console.export_text()
    assert "50.0 (9.5-90.5) 1/2" in text
    assert max(map(len, text.splitlines())) <= 80
