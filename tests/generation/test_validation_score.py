"""The share of validation rows that a model answers rightly."""

import pytest
import torch
from scholar import CONTEXT, LEARNED
from transformers import AutoModelForCausalLM, AutoTokenizer

from sqlora.generation.validation_score import make_scorer

ROWS = [
    {"question": question, "context": CONTEXT, "answer": answer}
    for question, answer in LEARNED.items()
    if "height" not in answer
]


@pytest.fixture(scope="module")
def scholar(scholar_folder):
    return AutoModelForCausalLM.from_pretrained(scholar_folder), AutoTokenizer.from_pretrained(scholar_folder)


def scorer(scholar, rows, make_settings, *flags):
    settings = make_settings("--best-by", "execution", "--max-new-tokens", "60", "--context", "", *flags)
    return make_scorer(*scholar, rows, settings)


def test_right_answers_are_counted(scholar, make_settings):
    wrong = {"question": "How many singers are there?", "context": CONTEXT, "answer": "SELECT MAX(age) FROM singer"}
    before = torch.get_rng_state()
    score = scorer(scholar, [*ROWS, wrong], make_settings)
    assert score() == pytest.approx(len(ROWS) / (len(ROWS) + 1))
    assert score() == pytest.approx(len(ROWS) / (len(ROWS) + 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_that_cannot_be_scored_do_not_count(scholar, make_settings, capsys):
    broken = {"question": "How tall is Ann?", "context": CONTEXT, "answer": "SELECT height FROM singer"}
    assert scorer(scholar, [*ROWS, broken], make_settings)() == 1.0
    assert scorer(scholar, [broken], make_settings) is None
    assert "BEST_BY is loss" in capsys.readouterr().out
    assert scorer(scholar, ROWS, make_settings, "--best-by", "loss") is None
