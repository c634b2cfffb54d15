"""What a model answers otherwise does not stay."""

import itertools
from dataclasses import replace
from pathlib import Path

import cinema
import pytest
import scholar
from transformers import AutoModelForCausalLM

from sqlora.ask.questions import Asker
from sqlora.databases.live import open_database
from sqlora.synthesis.from_database import SECONDS, Synthesis
from sqlora.synthesis.round_trip import answered, open_asker
from sqlora.synthesis.rows import RowMaker
from sqlora.system.errors import UserError

SHARES = {"1": 1.0, "1 order": 1.0, "1 aggregate": 1.0}


@pytest.fixture
def synthesis(tmp_path):
    with open_database(str(cinema.make_file(tmp_path)), SECONDS) as live:
        yield Synthesis(live, SHARES, 0), live


def test_a_question_stays_if_the_models_sql_gives_the_same_rows(
    synthesis, llama_folder, llama_tokenizer, make_settings, tmp_path
):
    """Of the first pair both questions are answered, of the second one, of the third none."""
    made, live = synthesis
    pairs = [replace(pair, questions=pair.questions[:2]) for pair in itertools.islice(made, 3)]
    first, second, third = pairs
    maker = RowMaker(made.sampled, "plain", "cinema")
    learned = [
        *(maker.row(first, question) for question in first.questions),
        maker.row(second, second.questions[0]),
        maker.row(third, second.questions[1]) | {"question": second.questions[1]},
        *(maker.row(first, question) | {"question": question} for question in third.questions),
    ]
    folder = scholar.teach(llama_folder, learned, tmp_path / "scholar")
    settings = make_settings("--low-bit", "none", "--max-new-tokens", "60", trains=False)
    asker = Asker(live, AutoModelForCausalLM.from_pretrained(folder), llama_tokenizer, settings)
    kept = answered(pairs, made, asker)
    assert kept == [first, replace(second, questions=second.questions[:1])]


def test_the_adapter_of_a_run_is_loaded_as_it_was_trained(synthesis, demo_run):
    made, live = synthesis
    asker = open_asker(live, Path(demo_run[demo_run.index("--model-path") + 1]))
    assert asker.style == "plain"
    assert asker.settings.PROMPT_ORDER == "question_first"
    assert len(asker.ask(["How many films are there?"])) == 1
    assert answered([next(iter(made))], made, asker) == []


def test_a_folder_without_an_adapter_is_named(synthesis, tmp_path):
    with pytest.raises(UserError, match="--from-run"):
        open_asker(synthesis[1], tmp_path)
