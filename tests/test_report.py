"""The loss curve, the before/after page and the terminal's comparison, from real files."""

import base64
import json
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sqlora import report

HOSTILE = "{{ROWS}} </script><script>alert(1)</script>\"'<img src=x onerror=alert(2)> \ud800"
ANSWERS = [
    {"question": "How many?", "context": "CREATE TABLE t (a INT)", "answer": "SELECT COUNT(*) FROM t",
     "base": "How many? is", "adapter": "select count(*) from t"},
    {"question": "Which a?", "context": "CREATE TABLE t (a INT)", "answer": "SELECT a FROM t",
     "base": "SELECT a FROM t", "adapter": "SELECT b FROM t"},
    {"question": HOSTILE, "context": HOSTILE, "answer": HOSTILE, "base": "", "adapter": HOSTILE + "!"},
]
METRICS = [
    {"step": 5, "loss": 2.0, "learning_rate": 1e-4},
    {"step": 10, "loss": 1.0, "eval_loss": 1.2, "learning_rate": 2e-4},
    {"step": 15},
    {"step": 15, "loss": None, "eval_loss": float("nan")},
    {"step": 20, "eval_loss": 0.9},
]


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def write_page(tmp_path, rows, curve=None, facts=None) -> Page:
    report.write_page(tmp_path / "page.html", rows, curve, facts or {})
    return Page((tmp_path / "page.html").read_text(encoding="utf-8"))


@pytest.fixture
def curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS) + '{"step": 30, "lo')
    report.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny, $5 and $6")
    return tmp_path / "loss.png"


def test_importing_the_report_is_quick_and_leaves_matplotlib_and_torch_alone():
    code = "import sys, sqlora.report; sys.exit(bool({'torch', 'matplotlib', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


def test_the_curve_is_a_picture(curve):
    with Image.open(curve) as picture:
        assert picture.size == (1600, 1000)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    for hexadecimal in (report.BLUE, report.ORANGE, report.GREY):
        assert tuple(bytes.fromhex(hexadecimal[1:])) in colours
    assert {path.name for path in curve.parent.iterdir()} == {"loss.png", "metrics.jsonl"}


def test_only_whole_lines_and_finite_figures_count(curve):
    entries = report._read_metrics(curve.with_name("metrics.jsonl"))
    assert len(entries) == len(METRICS)
    assert report._series(entries, "loss") == ([5, 10], [2.0, 1.0])
    assert report._series(entries, "eval_loss") == ([10, 20], [1.2, 0.9])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [
    "", "[1]\nnull\n", '{"step": 1, "loss": 3.0, "learning_rate": 0.1}\n', '{"step": 0, "eval_loss": 0.0}\n',
    '{"step": 5, "é',
])
def test_a_curve_of_next_to_nothing(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_bytes(text.encode()[:-1])
    report.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
    with Image.open(tmp_path / "loss.png") as picture:
        picture.verify()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(curve, monkeypatch):
    old = curve.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: (curve.parent / "missing" / "x").read_bytes())
    with pytest.raises(FileNotFoundError):
        report.plot_loss_curve(curve.with_name("metrics.jsonl"), curve, "Tiny")
    assert curve.read_bytes() == old
    assert len(list(curve.parent.iterdir())) == 2


def test_the_page_is_whole_in_one_file_and_escapes_what_it_shows(tmp_path, curve):
    facts = report.answer_facts(ANSWERS, "owner/base", Path("saved_model")) | {HOSTILE: HOSTILE}
    page = write_page(tmp_path, ANSWERS, curve, facts)
    assert [row["data-kinds"] for row in page.of("article")] == ["all gained", "all lost wrong", "all wrong"]
    assert len(page.of("script")) == 1
    (picture,) = page.of("img")
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == curve.read_bytes()
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "base")
        assert "href" not in attributes
        assert tag == "img" or "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert page.text.count(HOSTILE.replace("\ud800", "?")) == 6
    assert "33.3% (1 of 3)" in page.text
    assert page.text.count("✓ as expected") == 2
    assert page.text.count("✗ differs") == 4
    assert "(nothing)" in page.text


def test_a_page_without_known_answers_or_adapter(tmp_path):
    rows = [row | {"answer": None, "adapter": None} for row in ANSWERS] + [{"question": "Only a question"}]
    page = write_page(tmp_path, rows, None, report.answer_facts(rows, "owner/base", None))
    assert len(page.of("input")) == 1
    assert not page.of("button")
    for word in ("exact match", "Right means", "With the adapter", "✓"):
        assert word not in page.text


def test_a_thousand_rows_take_seconds(tmp_path):
    start = time.perf_counter()
    assert len(write_page(tmp_path, ANSWERS * 334).of("article")) == 1002
    assert time.perf_counter() - start < 5


@pytest.fixture
def browse(tmp_path):
    """Opens page.html at a fragment, after `script` has run in it; returns which rows are visible, and the page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on PATH")

    def open_page(fragment="", script="") -> tuple[list[bool], Page]:
        path = tmp_path / "opened.html"
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        path.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        dump = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{path.as_uri()}#{fragment}"],
            capture_output=True, text=True, timeout=120)
        page = Page(dump.stdout)
        return ["hidden" not in attributes for attributes in page.of("article")], page

    return open_page


def test_the_filter_works_in_a_browser(tmp_path, browse):
    write_page(tmp_path, ANSWERS)
    shown, page = browse()
    assert shown == [True, True, True]
    assert "3 of 3 shown" in page.text
    assert browse("gained")[0] == [True, False, False]
    shown, page = browse("gained", "document.querySelector('[data-kind=wrong]').click()")
    assert shown == [False, True, True]
    assert [button["data-kind"] for button in page.of("button") if button["aria-pressed"] == "true"] == ["wrong"]
    typing = "input.value = ' WHICH  from'; input.dispatchEvent(new Event('input'))"
    shown, page = browse("", typing)
    assert shown == [False, True, False]
    assert "1 of 3 shown" in page.text


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", ["✓", "✗"]), ("ascii", ["ok", "no"])])
def test_the_terminal_shows_the_answers_beside_each_other(tmp_path, encoding, signs):
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        report.print_comparison([{"question": "Où ?", "base": "x \x1b[2J [red]y", "answer": ""}, *ANSWERS],
                                Console(file=stream, width=100), limit=3)
    text = (tmp_path / "out").read_text(encoding=encoding)
    for sign in (*signs, "SELECT COUNT(*) FROM t", "[red]y", "(nothing)", "and 1 more"):
        assert sign in text
    assert "\x1b" not in text
    assert "alert" not in text


def test_the_terminal_has_colours_too_and_a_console_of_its_own(capsys):
    console = Console(record=True, width=100, force_terminal=True, color_system="truecolor", quiet=False)
    report.print_comparison(ANSWERS, console)
    assert "more" not in console.export_text(clear=False).splitlines()[-1]
    assert "adapter ✓" in console.export_text()
    capsys.readouterr()
    report.print_comparison(ANSWERS)
    assert "Which a?" in capsys.readouterr().out
