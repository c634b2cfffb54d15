"""The before/after page: whole, harmless, and its filter at work in a real browser."""

import base64
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import patience
import pytest
import small_data
from PIL import Image

from sqlora.evaluation import judge
from sqlora.generation.candidate import Candidate, PassedOver
from sqlora.reports import comparison, html_page

HOSTILE = "{{ROWS}} </script><script>alert(1)</script>\"'<img src=x onerror=alert(2)> \ud800"
ANSWERS = [
    *small_data.ANSWERS,
    {
        "question": HOSTILE,
        "context": HOSTILE,
        "answer": HOSTILE,
        "base": "",
        "adapter": HOSTILE + "!",
        "evidence": HOSTILE,
    },
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


def write_page(tmp_path, rows, execute=False, curve=None, facts=None) -> Page:
    judged = judge.judge_answers(rows, execute)
    prompts = [f"### Input:\n{row.get('question')} <b>" for row in rows]
    html_page.write_page(tmp_path / "page.html", rows, prompts, judged, curve, facts or {})
    return Page((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_in_one_file_and_escapes_what_it_shows(tmp_path):
    curve = tmp_path / "loss.png"
    Image.new("RGB", (16, 10), "white").save(curve)
    facts = comparison.answer_facts(
        ANSWERS, judge.judge_answers(ANSWERS, execute=False), "owner/base", Path("saved_model")
    )
    html_page = write_page(tmp_path, ANSWERS, False, curve, facts | {HOSTILE: HOSTILE})
    assert [row["data-kinds"] for row in html_page.of("article")] == ["all gained", "all lost wrong", "all wrong"]
    assert len(html_page.of("script")) == 1
    (picture,) = html_page.of("img")
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == curve.read_bytes()
    for tag, attributes in html_page.tags:
        assert tag not in ("link", "iframe", "base")
        assert "href" not in attributes
        assert tag == "img" or "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert html_page.text.count(HOSTILE.replace("\ud800", "?")) == 8
    assert "33.3 % (6.1-79.2) 1/3" in html_page.text
    assert html_page.text.count("✓ as expected") == 2
    assert html_page.text.count("✗ differs") == 4
    assert "(nothing)" in html_page.text


def test_a_page_without_known_answers_or_adapter(tmp_path):
    rows = [row | {"answer": None, "adapter": None} for row in ANSWERS] + [{"question": "Only a question"}]
    html_page = write_page(
        tmp_path, rows, True, None, comparison.answer_facts(rows, [{}] * len(rows), "owner/base", None)
    )
    assert len(html_page.of("input")) == 1
    assert not html_page.of("button")
    for word in ("exact match", "Right means", "With the adapter", "✓"):
        assert word not in html_page.text


def test_what_running_the_queries_showed(tmp_path):
    rows = [
        ANSWERS[0] | {"base": "SELECT COUNT(1) FROM t", "adapter": "SELECT COUNT(DISTINCT a) FROM t"},
        ANSWERS[1] | {"base": "SELECT b FROM t"},
        ANSWERS[1] | {"base": "SELECT a FROM t WHERE NOT a IS NULL", "adapter": None},
        ANSWERS[1] | {"answer": "SELECT nonesuch FROM t"},
    ]
    shown = write_page(tmp_path, rows, execute=True)
    assert [row["data-kinds"] for row in shown.of("article")] == [
        "all lost wrong differs",
        "all wrong",
        "all differs",
        "all unscorable",
    ]
    for message in (
        "✓ the same rows",
        "✗ other rows",
        "✗ does not run",
        "no such column: b",
        "not scorable",
        "The fewest rows on which they differ",
        "INSERT INTO",
        "expected rows",
        "match, aggregate",
        "NULL",
    ):
        assert message in shown.text, message
    assert "--evaluate" not in shown.text


def test_what_was_forbidden_is_struck_out_at_its_place(tmp_path):
    sql = "SELECT a FROM t WHERE b = 'x y'"
    passed_over = tuple(
        PassedOver(at, text, 0.25) for at, text in ((0, "UPDATE"), (7, "<b>"), (26, "'z'"), (28, "?"), (len(sql), ""))
    )
    held = Candidate(sql, 1.0, -0.125, passed_over).decoding
    shown = write_page(tmp_path, [ANSWERS[0] | {"adapter": sql, "base": "SELECT a", "decoding": {"adapter": held}}])
    assert "UPDATESELECT <b>a FROM t WHERE b = 'z''x?" in shown.text
    assert "y'(end)" in shown.text
    assert "log p -0.125" in shown.text
    assert "76 % was forbidden" in shown.text
    assert [struck["title"] for struck in shown.of("del")] == ["forbidden here: 25 % of the probability"] * 5
    assert not shown.of("b")[0].keys() - {"class"}


def test_a_fault_in_scoring_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "Gold", lambda query, schema: 1 / 0)
    shown = write_page(tmp_path, ANSWERS, execute=True)
    assert all("unscorable" in row["data-kinds"].split() for row in shown.of("article"))
    for message in ("not scored", "scoring failed: ZeroDivisionError", "errors in scoring"):
        assert message in shown.text, message


def test_a_thousand_rows_take_seconds(tmp_path):
    start = time.process_time()
    assert len(write_page(tmp_path, ANSWERS * 334).of("article")) == 1002
    assert time.process_time() - start < 5


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
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--dump-dom",
                f"{path.as_uri()}#{fragment}",
            ],
            capture_output=True,
            text=True,
            timeout=patience.SECONDS,
        )
        html_page = Page(dump.stdout)
        return ["hidden" not in attributes for attributes in html_page.of("article")], html_page

    return open_page


def test_the_filter_works_in_a_browser(tmp_path, browse):
    write_page(tmp_path, ANSWERS)
    shown, html_page = browse()
    assert shown == [True, True, True]
    assert "3 of 3 shown" in html_page.text
    assert browse("gained")[0] == [True, False, False]
    shown, html_page = browse("gained", "document.querySelector('[data-kind=wrong]').click()")
    assert shown == [False, True, True]
    assert [button["data-kind"] for button in html_page.of("button") if button["aria-pressed"] == "true"] == ["wrong"]
    typing = "input.value = ' WHICH  from'; input.dispatchEvent(new Event('input'))"
    shown, html_page = browse("", typing)
    assert shown == [False, True, False]
    assert "1 of 3 shown" in html_page.text
