"""The loss curve, the before/after page and the model card, from real files."""

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rich.console import Console

from sqlora import report

ANSWERS = [
    {"question": "How many?", "context": "CREATE TABLE t (a INT)", "answer": "SELECT COUNT(*) FROM t",
     "base": "How many? is", "adapter": "select count(*) from t"},
    {"question": "Which a?", "context": "CREATE TABLE t (a INT)", "answer": "SELECT a FROM t",
     "base": "SELECT a FROM t", "adapter": "SELECT b FROM t"},
    {"question": "{{ROWS}} </script><script>alert(1)</script>", "context": "<b>&", "answer": "SELECT '<i>'", "base": "",
     "adapter": "</pre>"},
]
METRICS = [
    {"step": 5, "loss": 2.0, "learning_rate": 1e-4},
    {"step": 10, "loss": 1.0, "eval_loss": 1.2, "learning_rate": 2e-4},
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


@pytest.fixture
def curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS) + '{"step": 30, "lo')
    report.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
    return tmp_path / "loss.png"


def test_the_curve_is_a_picture(curve):
    with Image.open(curve) as picture:
        assert picture.width >= 800
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert {path.name for path in curve.parent.iterdir()} == {"loss.png", "metrics.jsonl"}


def test_a_curve_without_evaluations_or_lines(tmp_path):
    for text in ("", '{"step": 1, "loss": 3.0, "learning_rate": 0.1}\n'):
        (tmp_path / "metrics.jsonl").write_text(text)
        report.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
        assert (tmp_path / "loss.png").stat().st_size > 1000


def test_the_page_is_whole_in_one_file_and_escapes_what_it_shows(tmp_path, curve):
    facts = report.answer_facts(ANSWERS, "owner/base", Path("saved_model"))
    report.write_page(tmp_path / "page.html", ANSWERS, curve, facts)
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert len(page.of("article")) == 3
    assert [attributes["data-kinds"] for attributes in page.of("article")] == ["all gained", "all wrong lost", "all wrong"]
    assert len(page.of("script")) == 1
    assert base64.b64decode(page.of("img")[0]["src"].split(",")[1]) == curve.read_bytes()
    assert not page.of("link")
    assert "http" not in text
    assert ANSWERS[2]["question"] in page.text
    assert "33.3% (1 of 3)" in page.text
    assert "(nothing)" in page.text


def test_a_page_without_known_answers_or_adapter(tmp_path):
    rows = [row | {"answer": None, "adapter": None} for row in ANSWERS]
    report.write_page(tmp_path / "page.html", rows, None, report.answer_facts(rows, "owner/base", None))
    page = Page((tmp_path / "page.html").read_text())
    assert len(page.of("input")) == 2  # the words, and "all"
    assert "exact match" not in page.text
    assert "adapter right" not in page.text


def test_the_filter_works_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    report.write_page(tmp_path / "page.html", ANSWERS, None, {})

    def shown(fragment):
        dump = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
             f"{(tmp_path / 'page.html').as_uri()}#{fragment}"], capture_output=True, text=True, timeout=120)
        return [("hidden" not in attributes) for attributes in Page(dump.stdout).of("article")]

    assert shown("") == [True, True, True]
    assert shown("gained") == [True, False, False]
    assert shown("wrong") == [False, True, True]


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", "✓✗"), ("ascii", ("(right)", "(wrong)"))])
def test_the_terminal_shows_the_answers_beside_each_other(tmp_path, encoding, signs):
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        report.print_comparison(ANSWERS, Console(file=stream, width=100), limit=2)
    text = (tmp_path / "out").read_text(encoding=encoding)
    assert all(sign in text for sign in signs)
    assert "SELECT COUNT(*) FROM t" in text
    assert "1 more" in text


def card(tmp_path, base_model, **settings):
    report.write_model_card(tmp_path, {
        "base_model": base_model, "data": {"id": "/home/somebody/rows.jsonl", "rows": 7, "hash": "0"},
        "settings": {"MAX_STEPS": 3, "MODEL_PATH": "/home/somebody/model", **settings}, "metrics": {"loss": 0.5},
        "versions": {"torch": "2.13.0"},
    })
    text = (tmp_path / "README.md").read_text()
    return yaml.safe_load(text.split("---\n")[1]), text


def test_the_model_card_of_a_hub_base(tmp_path):
    head, text = card(tmp_path, {"id": "owner/base", "revision": "abc", "content": "0"})
    assert (head["base_model"], head["library_name"]) == ("owner/base", "peft")
    assert "| MAX_STEPS | 3 |" in text
    assert "### Response:" in text


def test_the_model_card_of_a_local_base_has_no_local_paths(tmp_path):
    head, text = card(tmp_path, {"id": "/home/somebody/llama", "revision": None, "content": "0"})
    assert "base_model" not in head
    assert "somebody" not in text
    assert "`llama`" in text
